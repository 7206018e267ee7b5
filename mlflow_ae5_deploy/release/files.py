"""Checks of archive files."""

from __future__ import annotations

import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path

from mlflow_ae5_deploy.common.errors import Configuration, ReleaseRefused
from mlflow_ae5_deploy.common.members import Limits
from mlflow_ae5_deploy.common.text import size


def open_regular(path: Path, called: str) -> BufferedReader:
    """Open for reading what must be a regular file, and never wait for a pipe or read a device.

    Raises Configuration for anything else, OSError as `open` does.
    """
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(number).st_mode):
        return os.fdopen(number, "rb")
    os.close(number)
    raise Configuration(f"{called} is not a regular file.", where=str(path))


def refuse_large(archive_size: int, where: str) -> None:
    """Raise ReleaseRefused for an archive of more bytes than AE5 takes."""
    if archive_size > Limits().total:
        raise ReleaseRefused(f"The release is larger than {size(Limits().total)}.", where=where)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
