"""The files of a restore next to an artifact destination: its journal, and saved copies of the artifacts.

Next to `.../artifacts` they are `.../artifacts.restore.json` and `.../artifacts.<name>/`, both for a folder and for a
prefix in an object store. Where nothing can be created next to it (a mounted volume, the root of a bucket), both are
inside and their names begin with `.mlflow-ae5-`.

Moving artifacts can be repeated after an interruption. In a folder it is one rename per entry of the top, in an object
store a copy within the store and a deletion per object.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mlflow_ae5_server.common import durable
from mlflow_ae5_server.common.errors import RepositoryFailed, SnapshotDamaged, hint_for
from mlflow_ae5_server.common.text import counted_files

RESERVED = ".mlflow-ae5-"  # names at the top of the destination that begin so are no artifacts
JOURNAL = "restore.json"
COPY_NAME = r"(saved|undone|failed)_[0-9]{8}_[0-9]{6}_[0-9a-f]{6}"
COUNTED = 10_000  # files; more of them are not counted
MAX_JOURNAL = 1024 * 1024  # bytes; one saved copy takes about 300
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


@dataclass(frozen=True)
class SavedSize:
    """The artifacts at a destination or in a saved copy."""

    files: int
    bytes: int
    example: str
    more: bool = False  # counting stopped at a limit, and there are more

    def __str__(self) -> str:
        more = "more than " if self.more else ""
        return f"{more}{counted_files(self.files, self.bytes)}, such as {self.example!r}"


class SavedCopies(Protocol):
    """Raises RepositoryFailed for everything that goes wrong."""

    shown: str

    def read_journal(self) -> bytes | None:
        """Also raises SnapshotDamaged, for what no restore has written: a link, a device, a file over MAX_JOURNAL."""

    def write_journal(self, data: bytes | None) -> None:
        """Replace the journal as a whole, durably; None deletes it."""

    def contents(self, name: str | None = None) -> SavedSize | None:
        """What is at the destination, or in the saved copy `name`; None where nothing is."""

    def save(self, name: str) -> None:
        """Move everything at the destination to the saved copy `name`."""

    def bring_back(self, name: str) -> None:
        """Move everything in the saved copy `name` to the destination, which holds nothing else."""

    def exists(self, name: str) -> bool:
        """Whether anything is in the saved copy `name`."""

    def drop(self, name: str) -> None:
        """Delete the saved copy `name`."""


class FolderSavedCopies:
    """`inside`: whether the files are within the folder; None finds out whether any can be next to it."""

    def __init__(self, folder: Path, *, inside: bool | None = None) -> None:
        self.shown = str(folder)
        self._folder = Path(os.path.realpath(folder))
        if inside is None:
            closed = _is_mounted(self._folder) or not os.access(self._folder.parent, os.W_OK)
            inside = self._folder.is_dir() and closed
        self._inside = inside

    def read_journal(self) -> bytes | None:
        with self._translated("read"):
            try:
                descriptor = os.open(self._path(JOURNAL), _READ)
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno in {errno.ELOOP, errno.ENXIO, errno.ENODEV}:
                    raise damaged_journal(self.shown, "is no regular file") from None
                raise
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise damaged_journal(self.shown, "is no regular file")
                if status.st_size > MAX_JOURNAL:
                    raise damaged_journal(self.shown, f"has {status.st_size} bytes")
                return os.read(descriptor, MAX_JOURNAL)
            finally:
                os.close(descriptor)

    def write_journal(self, data: bytes | None) -> None:
        path = self._path(JOURNAL)
        with self._translated("write"):
            if data is None:
                path.unlink(missing_ok=True)
                return
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.write(path, data, f"{path.name}.tmp")

    def contents(self, name: str | None = None) -> SavedSize | None:
        files, size, example = 0, 0, ""
        with self._translated("read"):
            if name is not None and not _is_folder(self._path(name)):
                return None
            for file in self._files(self._folder if name is None else self._path(name)):
                if files == COUNTED:
                    return SavedSize(files, size, example, more=True)
                files, size, example = files + 1, size + file.stat(follow_symlinks=False).st_size, example or file.name
        return SavedSize(files, size, example) if files else None

    def save(self, name: str) -> None:
        copy = self._path(name)
        with self._translated("move"):
            if not self._folder.is_dir():
                return
            copy.mkdir(mode=0o700, exist_ok=True)
            if not _is_folder(copy):
                raise NotADirectoryError(errno.ENOTDIR, f"{copy} is a link")
            self._move(self._folder, copy)
            durable.flush(copy)

    def bring_back(self, name: str) -> None:
        copy = self._path(name)
        with self._translated("move"):
            if not _is_folder(copy):
                return
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._move(copy, self._folder)
            copy.rmdir()
            durable.flush(self._folder)

    def exists(self, name: str) -> bool:
        return _is_folder(self._path(name))

    def drop(self, name: str) -> None:
        with self._translated("delete"):
            if _is_folder(self._path(name)):
                shutil.rmtree(self._path(name))

    def _move(self, source: Path, target: Path) -> None:
        for entry in sorted(os.listdir(source)):  # noqa: PTH208 - names are enough
            if entry.startswith(RESERVED):
                continue
            if os.path.lexists(target / entry):
                _drop_empty(source / entry, target / entry)
            (source / entry).rename(target / entry)

    def _path(self, suffix: str) -> Path:
        if self._inside:
            return self._folder / f"{RESERVED}{suffix}"
        return self._folder.with_name(f"{self._folder.name}.{suffix}")

    def _files(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        stack = [str(folder)]
        while stack:
            try:
                with os.scandir(stack.pop()) as entries:
                    for entry in entries:
                        if entry.name.startswith(RESERVED) and entry.path == str(self._folder / entry.name):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            stack.append(entry.path)
                        else:
                            yield entry
            except FileNotFoundError:
                continue

    @contextlib.contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RepositoryFailed(
                f"cannot {verb} next to {self.shown}: {error.strerror or error}", hint_for(error)
            ) from None


def _is_mounted(folder: Path) -> bool:
    """Whether `folder` is a mount point, also of the file system of the folder above: a part of a volume may be."""
    if os.path.ismount(folder):
        return True
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    mount_points = (line.split()[4] for line in lines)  # with \040 and the like for invisible characters
    return any(
        re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mount_point) == str(folder)
        for mount_point in mount_points
    )


def _is_folder(path: Path) -> bool:
    """False for a link, which may lead anywhere."""
    return path.is_dir() and not path.is_symlink()


def damaged_journal(shown: str, what: str) -> SnapshotDamaged:
    return SnapshotDamaged(
        f"the restore journal of {shown} ({JOURNAL}) {what}",
        "check which other programs write there; if no restore was interrupted and no saved copy is needed, move it",
    )


def _drop_empty(source: Path, target: Path) -> None:
    """Delete `target` where it has only empty folders. Raises FileExistsError where it has files."""
    for folder, folders, files in os.walk(target, topdown=False):
        if files:
            raise FileExistsError(errno.EEXIST, f"{source} and {target} both hold files")
        for name in folders:
            Path(folder, name).rmdir()
    target.rmdir()
