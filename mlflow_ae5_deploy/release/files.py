"""Small helpers around files, with the errors of a full disk and missing permission in a user's words."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from tempfile import NamedTemporaryFile

from mlflow_ae5_deploy.common.errors import FULL, Configuration, ReleaseRefused
from mlflow_ae5_deploy.common.members import Limits
from mlflow_ae5_deploy.common.text import size

_REMEDIES = {
    **dict.fromkeys(FULL, "Free some space there (of the disk, or of your quota), or choose another folder."),
    errno.EACCES: "Give yourself write permission there, or choose another folder.",
    errno.EPERM: "Give yourself write permission there, or choose another folder.",
    errno.EROFS: "The file system is read-only; choose another folder.",
}


@contextmanager
def storage_errors(doing: str, where: Path) -> Iterator[None]:
    """Turns OSError into Configuration: "Cannot <doing>: No space left on device."."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        remedy = _REMEDIES.get(error.errno or 0, "")
        raise Configuration(f"Cannot {doing}: {reason}.", where=str(where), remedy=remedy) from None


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


def private_folder(folder: Path, *, tighten: bool = False) -> Path:
    """The folder, made for its owner only if it is new. `tighten`: take others' rights to an existing one as well."""
    with storage_errors("make the folder", folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if tighten and folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
    return folder


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or the next run, sees all of it or none. Mode 0600."""
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(data)
            file.close()
            os.replace(temporary, path)  # noqa: PTH105 - the atomic one, by its usual name
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
