"""Local folders of the stores: create and check them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow_ae5_server.common.errors import Configuration, SnapshotDamaged, hint_for


def local_folder(location: str) -> Path | None:
    """The folder an artifact location means on this machine; None for a URL."""
    if location.lower().startswith("file:"):
        parts = urlsplit(location)
        if parts.netloc not in {"", "localhost"}:
            raise Configuration(f"{location} names another machine", "use file:///path or a plain path")
        return Path(unquote(parts.path))
    if re.match(r"[A-Za-z][A-Za-z0-9+.\-]*:", location):
        return None
    return Path(location)


def real(folder: Path) -> Path:
    """`folder` without links. Raises SnapshotDamaged if they change all the time."""
    for _attempt in range(1000):
        with contextlib.suppress(OSError):  # it was a link, and is none when it is read
            return Path(os.path.realpath(folder))
    raise SnapshotDamaged(f"{folder} keeps changing", "check who else can write in the folder above it")


def nearest_existing(path: Path) -> Path:
    """`path`, or the nearest one above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def sqlite_file(uri: str) -> Path | None:
    """The file behind a sqlite URI; None for other databases and for one in memory."""
    match = re.match(r"sqlite(?:\+\w+)?:///(?P<path>[^?]*)", uri, re.I)
    if not match or match["path"] in {"", ":memory:"}:
        return None
    return Path(match["path"])


def make_writable(folder: Path, setting: str) -> None:
    """Create `folder` (0700), and check that files can be created in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except FileExistsError:
        raise Configuration(f"{folder} is a file, not a folder", f"set {setting} to another path") from None
    except OSError as error:
        raise Configuration(
            f"the folder {folder} cannot be created: {error.strerror}",
            f"{hint_for(error)}, or set {setting} to another path",
        ) from None
    if not writable:
        raise Configuration(
            f"the folder {folder} is not writable",
            f"give this account write permission there, or set {setting} to another path",
        )


def persistence_warning(folder: Path, environ: Mapping[str, str]) -> str | None:
    """A warning where AE5 deletes `folder` at every restart."""
    on_ae5 = environ.get("PROJECT_DIR", "").startswith("/opt/continuum") or "APP_SOURCE" in environ
    if not on_ae5 or environ.get("MLFLOW_AE5_SANDBOX"):
        return None
    resolved = real(folder)
    if any(os.path.ismount(parent) for parent in (resolved, *resolved.parents) if parent != Path("/")):
        return None
    return (
        f"{folder} ({resolved}) is not on a mounted volume: everything in it is lost when this deployment restarts. "
        "Ask for persistent storage under /data, or use an external database and object store."
    )
