"""The state file: one JSON file, replaced whole, private to its owner."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mlflow_ae5_deploy.sandbox.info import SandboxError
from mlflow_ae5_deploy.sandbox.models import SandboxState, state_from_json, state_to_json


def write_private(path: Path, text: str, *, scratch: Path | None = None) -> None:
    """Replace `path` in one step (0600); readers see the old or the new content.

    scratch: the folder for the temporary file, on the same file system; by default that of `path`.
    """
    temporary = (scratch or path.parent) / f".{path.name}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def make_private_folder(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


class SandboxStore:
    """The state and its file; `save()` comes before every answer on a change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.state = self._load()

    def _load(self) -> SandboxState:
        if not self._path.exists():
            return SandboxState()
        try:
            data: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
            return state_from_json(data)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SandboxError(
                f"The sandbox's state file {self._path} cannot be read ({type(error).__name__}). "
                "Delete the sandbox and its data with `mlflow-ae5-deploy sandbox reset`."
            ) from error

    def save(self) -> None:
        write_private(self._path, state_to_json(self.state))
