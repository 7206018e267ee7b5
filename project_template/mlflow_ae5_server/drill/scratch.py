"""A scratch folder that leaves nothing behind: not after a failure, and not for long after its process was killed.

Every folder has a lock file beside it, `<folder>.lock`, held by its process. The lock goes with the process, however
that ends; so a folder whose lock can be had is a leftover, and whoever makes the next folder removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from mlflow_ae5_server.common.errors import StorageError, hint_for

_PREFIX = "mlflow-ae5-drill-"
_LOCK = ".lock"


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """An empty folder (0700) in `parent`, removed with all its contents at the end. Raises StorageError."""
    remove_leftovers(parent)
    folder = parent / f"{_PREFIX}{secrets.token_hex(6)}"
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _locked(_lock_of(folder), create=True)
        if lock is None:
            raise StorageError(f"{folder} is not ours", "try again")
    except OSError as error:
        raise StorageError(f"no scratch folder can be made in {parent}: {error.strerror}", hint_for(error)) from None
    try:
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise StorageError(f"{folder} cannot be made: {error.strerror}", hint_for(error)) from None
        yield folder
    finally:
        _remove(folder, lock)


def remove_leftovers(parent: Path) -> list[str]:
    """Remove the folders of processes that are gone; returns their names."""
    removed = []
    for path in sorted(parent.glob(f"{_PREFIX}*{_LOCK}")):
        lock = _locked(path, create=False)
        if lock is None:
            continue  # its process is at work
        folder = path.with_name(path.name.removesuffix(_LOCK))
        _remove(folder, lock)
        removed.append(folder.name)
    return removed


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


def _locked(path: Path, *, create: bool) -> int | None:
    """A descriptor that holds the lock of the file that is `path` now; None where another process has it."""
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
    """The folder first: while the lock file is there, somebody will come and finish this."""
    try:
        for _ in range(3):  # a server that is just ending may still write
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                _lock_of(folder).unlink(missing_ok=True)
                break
    finally:
        os.close(lock)
