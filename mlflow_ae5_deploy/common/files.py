"""Private files: written whole or not at all, readable by the owner only."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from mlflow_ae5_deploy.common.errors import Configuration


def private_folder(path: Path) -> Path:
    """Create `path` (0700) with its parents. Raises Configuration when that is not possible."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = os.access(path, os.W_OK | os.X_OK)
    except OSError as error:
        raise _not_writable(path, error.strerror or str(error)) from None
    if not probe:
        raise _not_writable(path, "no write permission")
    return path


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step (0600). A full disk leaves the previous file unchanged."""
    _replace(path, io.BytesIO(content))


def copy_private(source: Path, path: Path) -> None:
    """Replace `path` by a copy of `source`, as `write_private` does."""
    with source.open("rb") as content:
        _replace(path, content)


def _replace(path: Path, content: BinaryIO) -> None:
    private_folder(path.parent)
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as handle:
            shutil.copyfileobj(content, handle)
            handle.flush()
            os.fsync(handle.fileno())
        Path(temporary).replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # else the name can be lost with the power
        finally:
            os.close(folder)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise _not_writable(path, error.strerror or str(error)) from None


def write_private_json(path: Path, value: Any) -> None:
    write_private(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def _not_writable(path: Path, why: str) -> Configuration:
    return Configuration(
        f"Cannot write {path.name or path}: {why}.",
        where=str(path),
        remedy="Make room or give yourself write permission there, or name another folder with `state_dir` "
        "(MLFLOW_AE5_DEPLOY_STATE).",
    )
