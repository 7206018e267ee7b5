"""A private folder for one run, gone with it; what runs that were killed have left goes when the next one begins."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "mlflow-ae5-deploy-"
_LOCK = ".lock"
_YOUNG = 60.0  # seconds: a folder whose owner may be about to lock it


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """In `parent`, else among the temporary files. Locked as long as this process lives, however that ends."""
    parent = parent or Path(tempfile.gettempdir())
    _clear(parent)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent) as name:
        lock = os.open(Path(name, _LOCK), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with contextlib.suppress(OSError):  # a file system without locks: then nobody can take it for left
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Path(name)
        finally:
            os.close(lock)


def _clear(parent: Path) -> None:
    """Folders of this user whose lock nobody holds. One without a lock is somebody else's, whatever its name."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            state = folder.lstat()
            if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if time.time() - os.fstat(lock).st_mtime > _YOUNG:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
