"""What a restore keeps beside the artifact destination: its ledger, and the artifacts that were there before.

Beside `.../artifacts` that is `.../artifacts.restore.json` and `.../artifacts.<name>/`, both for a folder and for a
prefix in an object store. Where nothing can be put beside it (a mounted volume, the root of a bucket), both lie inside
and their names begin with `.mlflow-ae5-`.

Moving artifacts is repeatable: whoever is killed half-way goes on where he was. In a folder it is one rename per
entry of the top, in an object store a copy within the store and a deletion per object.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mlflow_ae5_server.common.errors import DamagedError, StorageError, hint_for
from mlflow_ae5_server.common.text import amount

RESERVED = ".mlflow-ae5-"  # the top of the destination: names that begin so are ours, not artifacts
JOURNAL = "restore.json"
COUNTED = 10_000  # files; beyond that "more than" says enough
MAX_JOURNAL = 1024 * 1024  # bytes; one saved copy takes about 300
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@dataclass(frozen=True)
class SavedSize:
    """The artifacts at a destination. `more`: counting stopped at a limit, and there are more."""

    files: int
    bytes: int
    example: str
    more: bool = False

    def __str__(self) -> str:
        return (
            f"{'more than ' if self.more else ''}{self.files} files ({amount(self.bytes)}), among them {self.example!r}"
        )


class SavedCopies(Protocol):
    """Raises StorageError for everything that goes wrong."""

    shown: str

    def read_journal(self) -> bytes | None:
        """Also raises DamagedError, for what no restore has written: a link, a device, a file over MAX_LEDGER."""

    def write_journal(self, data: bytes | None) -> None:
        """Replace the ledger as a whole and for good; None removes it."""

    def contents(self, name: str | None = None) -> SavedSize | None:
        """What is at the destination, or kept at `name`; None where nothing is."""

    def aside(self, name: str) -> None:
        """Move everything at the destination to `name`."""

    def back(self, name: str) -> None:
        """Move everything at `name` to the destination, which holds nothing else."""

    def kept(self, name: str) -> bool:
        """Whether anything is kept at `name`."""

    def drop(self, name: str) -> None:
        """Remove for good what is kept at `name`."""


class FolderSavedCopies:
    """`inside` says where things go; None finds out whether anything can be put beside the folder."""

    def __init__(self, folder: Path, *, inside: bool | None = None) -> None:
        self.shown = str(folder)
        self._folder = Path(os.path.realpath(folder))
        if inside is None:
            closed = _is_mounted(self._folder) or not os.access(self._folder.parent, os.W_OK)
            inside = self._folder.is_dir() and closed
        self._inside = inside

    def read_journal(self) -> bytes | None:
        try:
            descriptor = os.open(self._path(JOURNAL), _READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENXIO, errno.ENODEV}:
                raise damaged_journal(self.shown, "is no regular file") from None
            raise self._failed(error, "read") from None
        try:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode):
                raise damaged_journal(self.shown, "is no regular file")
            if state.st_size > MAX_JOURNAL:
                raise damaged_journal(self.shown, f"has {state.st_size} bytes")
            return os.read(descriptor, MAX_JOURNAL)
        except OSError as error:
            raise self._failed(error, "read") from None
        finally:
            os.close(descriptor)

    def write_journal(self, data: bytes | None) -> None:
        path = self._path(JOURNAL)
        try:
            if data is None:
                path.unlink(missing_ok=True)
                return
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_name(path.name + ".tmp")
            temporary.unlink(missing_ok=True)
            with os.fdopen(os.open(temporary, _NEW, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync(path.parent)
        except OSError as error:
            raise self._failed(error, "write") from None

    def contents(self, name: str | None = None) -> SavedSize | None:
        files, size, example = 0, 0, ""
        try:
            if name is not None and not _is_folder(self._path(name)):
                return None
            for file in self._files(self._folder if name is None else self._path(name)):
                if files == COUNTED:
                    return SavedSize(files, size, example, more=True)
                files, size, example = files + 1, size + file.stat(follow_symlinks=False).st_size, example or file.name
        except OSError as error:
            raise self._failed(error, "read") from None
        return SavedSize(files, size, example) if files else None

    def aside(self, name: str) -> None:
        kept = self._path(name)
        try:
            if not self._folder.is_dir():
                return
            kept.mkdir(mode=0o700, exist_ok=True)
            if not _is_folder(kept):
                raise NotADirectoryError(errno.ENOTDIR, f"{kept} is a link")
            self._move(self._folder, kept)
            _sync(kept)
        except OSError as error:
            raise self._failed(error, "move") from None

    def back(self, name: str) -> None:
        kept = self._path(name)
        try:
            if not _is_folder(kept):
                return
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._move(kept, self._folder)
            kept.rmdir()
            _sync(self._folder)
        except OSError as error:
            raise self._failed(error, "move") from None

    def kept(self, name: str) -> bool:
        return _is_folder(self._path(name))

    def drop(self, name: str) -> None:
        try:
            if _is_folder(self._path(name)):
                shutil.rmtree(self._path(name))
        except OSError as error:
            raise self._failed(error, "remove") from None

    def _move(self, source: Path, target: Path) -> None:
        for entry in sorted(os.listdir(source)):  # noqa: PTH208 - names are what is wanted
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

    def _failed(self, error: OSError, verb: str) -> StorageError:
        return StorageError(f"cannot {verb} beside {self.shown}: {error.strerror or error}", hint_for(error))


def _is_mounted(folder: Path) -> bool:
    """Also where it is of the same file system as the folder above, as a part of a volume may be."""
    if os.path.ismount(folder):
        return True
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    mount_points = (line.split()[4] for line in lines)  # with \040 and the like for what is no visible character
    return any(
        re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), mount_point) == str(folder)
        for mount_point in mount_points
    )


def _is_folder(path: Path) -> bool:
    """Not where it is a link: what that leads to is not ours."""
    return path.is_dir() and not path.is_symlink()


def damaged_journal(shown: str, what: str) -> DamagedError:
    return DamagedError(
        f"the restore journal of {shown} ({JOURNAL}) {what}",
        "who else can write there? If no restore was interrupted and no saved copy is needed, move it away",
    )


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _drop_empty(source: Path, target: Path) -> None:
    """Make way for `source` where only empty folders are in it; FileExistsError where anything else is."""
    for folder, folders, files in os.walk(target, topdown=False):
        if files:
            raise FileExistsError(errno.EEXIST, f"{source} and {target} both hold files")
        for name in folders:
            Path(folder, name).rmdir()
    target.rmdir()
