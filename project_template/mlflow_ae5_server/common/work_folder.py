"""Private folders for temporary files, removed even if their process is killed.

Every folder has a lock file next to it, `<folder>.lock`, locked by its process. The kernel releases the lock when the
process ends; so a folder with a free lock is a leftover, and is removed before the next folder is created.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlflow_ae5_server.common.errors import FULL, RepositoryFailed, hint_for

_PREFIX = ".mlflow-ae5-work-"
_LOCK = ".lock"


@contextlib.contextmanager
def work_folder(parent: Path | None = None) -> Iterator[Path]:
    """An empty folder (0700) in `parent`, removed at the end. Raises RepositoryFailed."""
    parent = parent or Path(tempfile.gettempdir())
    folder = parent / f"{_PREFIX}{secrets.token_hex(6)}"
    with storage_errors(parent):
        _remove_leftovers(parent)
        lock = None
        while lock is None:  # another process may have taken the new file for a leftover
            lock = _locked(_lock_of(folder), os.O_CREAT)
    try:
        with storage_errors(parent):
            folder.mkdir(mode=0o700)
        yield folder
    finally:
        _remove(folder, lock)


def _remove_leftovers(parent: Path) -> None:
    for path in parent.glob(f"{_PREFIX}*{_LOCK}"):
        with contextlib.suppress(OSError):
            if (lock := _locked(path)) is not None:  # else its process runs
                _remove(path.with_name(path.name.removesuffix(_LOCK)), lock)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


def _locked(path: Path, create: int = 0) -> int | None:
    """A descriptor that locks the file `path`; None if another process does, or has removed it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | create, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _remove(folder: Path, lock: int) -> None:
    """Remove the folder, then its lock, so that the next process can finish this."""
    try:
        for _ in range(3):  # a server that is just ending may still write
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                _lock_of(folder).unlink(missing_ok=True)
                break
    finally:
        os.close(lock)


@contextlib.contextmanager
def storage_errors(at: Path) -> Iterator[None]:
    """Raise RepositoryFailed for a full or read-only disk."""
    try:
        yield
    except OSError as error:
        full = error.errno in FULL
        raise RepositoryFailed(
            f"{at} is full" if full else f"{at} cannot be written: {error.strerror or error}",
            hint_for(error),
        ) from None
