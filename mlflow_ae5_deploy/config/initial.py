"""Write a first configuration, the annotated reference with given values, and the JSON Schema for editors."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.config import checks

SCHEMA = "mlflow-ae5-deploy.schema.json"  # named in the first line of reference.yaml, relative to the configuration


def write_initial(path: Path, *, hostname: str | None = None, username: str | None = None, force: bool = False) -> Path:
    """Write the configuration to `path` (mode 0600, all or nothing), the schema beside it, and return `path`.

    Raises Configuration where a file is there already (unless `force`), where a value is not valid, or where
    nothing can be written.
    """
    text, schema = _shipped("reference.yaml"), _shipped("schema.json")
    if hostname:
        text = _filled(text, "platform", "hostname", _checked(checks.hostname, hostname, "platform.hostname"))
    if username:
        text = _filled(text, "account", "username", _checked(checks.account, username, "account.username"))
    for target, content, overwrite in ((path, text, force), (path.parent / SCHEMA, schema, True)):
        try:
            _write(target, content, force=overwrite)
        except FileExistsError:
            raise Configuration(
                "The file exists already; it was not overwritten.",
                where=str(target),
                remedy="Edit it, choose another path, or add --force to overwrite it.",
            ) from None
        except OSError as error:
            raise Configuration(f"The file cannot be written: {error.strerror or error}.", where=str(target)) from None
    return path


def _shipped(name: str) -> str:
    return files("mlflow_ae5_deploy.config").joinpath(name).read_text(encoding="utf-8")


def _checked(check: Callable[[str], str], value: str, setting: str) -> str:
    try:
        return check(value)
    except ValueError as error:
        raise Configuration(f"{setting}: {error}") from None


def _filled(text: str, section: str, key: str, value: str) -> str:
    """`text` with the first `key: null` of a section replaced."""
    start = re.search(rf"^{section}:$", text, re.MULTILINE)
    spot = re.compile(rf"^  {key}: null$", re.MULTILINE).search(text, start.end()) if start else None
    if spot is None:
        raise AssertionError(f"reference.yaml has no {section}.{key}")
    return f"{text[: spot.start()]}  {key}: {json.dumps(value)}{text[spot.end() :]}"


def _write(path: Path, text: str, *, force: bool) -> None:
    # mkstemp makes the file with mode 0600.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if force:
            Path(temporary).replace(path)
        else:
            path.hardlink_to(temporary)  # unlike a rename, this fails where something is there already
    finally:
        Path(temporary).unlink(missing_ok=True)
