"""Private folders for temporary files.

Those that a killed process left are removed by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlflow_ae5_server.common.errors import FULL, RepositoryFailed, hint_for

_PREFIX = ".mlflow-ae5-work-"
_LOCK = "lock"


@contextlib.contextmanager
def work_folder(parent: Path | None = None) -> Iterator[Path]:
    """A private folder in `parent`, removed at the end. Raises RepositoryFailed."""
    parent = parent or Path(tempfile.gettempdir())
    with storage_errors(parent):
        _remove_abandoned(parent)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
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
