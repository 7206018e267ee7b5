"""Private files and folders: written whole or not at all, owner only."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from mlflow_ae5_deploy.common.errors import FULL, Configuration
from mlflow_ae5_deploy.common.text import size

STATE_ELSEWHERE = "name another folder with state_dir or MLFLOW_AE5_DEPLOY_STATE"
_REMEDIES: Mapping[int, str] = {
    **dict.fromkeys(FULL, "The disk or your quota is full: free some space there"),
    errno.EROFS: "The file system is read-only: have it mounted writable",
    errno.EACCES: "Get write permission there",
    errno.EPERM: "Get write permission there",
    errno.ENOTDIR: "There is a file in the way: move it away",
    errno.EEXIST: "There is a file in the way: move it away",
    errno.ENAMETOOLONG: "The path is too long: shorten it",
}
_SCRATCH_PREFIX = "mlflow-ae5-deploy-"
_SCRATCH_LOCK = ".lock"
_LARGEST = 64 * 1024  # bytes; a longer file is not a password but a mistake
_YOUNG = 60.0  # seconds: a folder whose owner may be about to lock it


def storage_error(
    error: OSError, where: Path, what: str = "The state cannot be stored", elsewhere: str = STATE_ELSEWHERE
) -> Configuration:
    """The error behind a failed access to a file or folder, with a remedy."""
    remedy = _REMEDIES.get(error.errno or 0, "Check that the folder is writable")
    reason = error.strerror or type(error).__name__
    return Configuration(f"{what}: {reason}.", where=str(where), remedy=f"{remedy}, or {elsewhere}.")


@contextlib.contextmanager
def storage_errors(action: str, where: Path) -> Iterator[None]:
    """Turn OSError into Configuration: "Cannot <action>: No space left on device."."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, where, f"Cannot {action}", "choose another folder") from None


def cannot_write(error: OSError, path: Path) -> Configuration:
    return storage_error(error, path, f"Cannot write {path.name or path}")


def private_folder(path: Path) -> Path:
    """Create `path` (0700) with its parents; Configuration if that is not possible."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise cannot_write(error, path) from None
    return path


def read_private(path: Path, label: str) -> bytes:
    """Read a file that only its owner may read. Raises Configuration or OSError."""
    # Not blocking: opening a named pipe would wait for a writer for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Configuration(f"The file that holds the {label} is not a regular file.", where=str(path))
        if status.st_mode & 0o077:
            raise Configuration(
                f"The file that holds the {label} is open to other accounts (mode {stat.S_IMODE(status.st_mode):04o}).",
                where=str(path),
                remedy=f"chmod 600 '{path}'",
            )
        if status.st_size > _LARGEST:
            raise Configuration(f"The file that holds the {label} is larger than {size(_LARGEST)}.", where=str(path))
        return stream.read(_LARGEST + 1)


def write_private(path: Path, content: bytes, *, owner: tuple[int, int] | None = None) -> None:
    """Replace `path` in one step (0600); a full disk leaves the previous file. owner: its user and group."""
    _replace(path, io.BytesIO(content), owner)


def copy_private(source: Path, path: Path) -> None:
    """Replace `path` by a copy of `source`, as `write_private` does."""
    with source.open("rb") as content:
        _replace(path, content)


def write_private_json(path: Path, value: Any) -> None:
    write_private(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def _replace(path: Path, content: BinaryIO, owner: tuple[int, int] | None = None) -> None:
    private_folder(path.parent)
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as handle:
            shutil.copyfileobj(content, handle)
            if owner is not None:
                os.fchown(handle.fileno(), *owner)
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
        raise cannot_write(error, path) from None


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A private temporary folder, locked and deleted with this run.

    Also deletes those of earlier runs that were killed. parent: by default the folder of temporary files.
    """
    parent = parent or Path(tempfile.gettempdir())
    _delete_abandoned(parent)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH_PREFIX, dir=parent) as name:
        lock = os.open(Path(name, _SCRATCH_LOCK), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with contextlib.suppress(OSError):  # a file system without locks, where no run deletes it
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Path(name)
        finally:
            os.close(lock)


def _delete_abandoned(parent: Path) -> None:
    """Delete this user's scratch folders whose lock is free."""
    for folder in parent.glob(f"{_SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError):
            state = folder.lstat()
            if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid():
                continue
            lock = os.open(folder / _SCRATCH_LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if time.time() - os.fstat(lock).st_mtime > _YOUNG:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
