"""A temporary folder that is removed even if its process is killed.

Every folder has a lock file next to it, `<folder>.lock`, locked by its process. The kernel releases the lock when the
process ends; so a folder with a free lock is a leftover, and is removed before the next folder is created.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from mlflow_ae5_server.common.errors import RepositoryFailed, hint_for

_PREFIX = "mlflow-ae5-drill-"
_LOCK = ".lock"


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """An empty folder (0700) in `parent`, removed at the end. Raises RepositoryFailed."""
    remove_leftovers(parent)
    folder = parent / f"{_PREFIX}{secrets.token_hex(6)}"
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _locked(_lock_of(folder), create=True)
        if lock is None:
            raise RepositoryFailed(f"{folder} was not created by this job", "try again")
    except OSError as error:
        raise RepositoryFailed(
            f"no temporary folder can be created in {parent}: {error.strerror}", hint_for(error)
        ) from None
    try:
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise RepositoryFailed(f"{folder} cannot be created: {error.strerror}", hint_for(error)) from None
        yield folder
    finally:
        _remove(folder, lock)


def remove_leftovers(parent: Path) -> list[str]:
    """Remove the folders of processes that have ended; return their names."""
    removed = []
    for path in sorted(parent.glob(f"{_PREFIX}*{_LOCK}")):
        lock = _locked(path, create=False)
        if lock is None:
            continue  # its process runs
        folder = path.with_name(path.name.removesuffix(_LOCK))
        _remove(folder, lock)
        removed.append(folder.name)
    return removed


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


def _locked(path: Path, *, create: bool) -> int | None:
    """A descriptor that locks the file `path`; None if another process does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _remove(folder: Path, lock: int) -> None:
    """Remove the folder, then its lock, so that the next drill can finish this."""
    try:
        for _ in range(3):  # a server that is just ending may still write
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                _lock_of(folder).unlink(missing_ok=True)
                break
    finally:
        os.close(lock)
