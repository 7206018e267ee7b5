"""The artifact store as the target of a restore. Every file that is written is read back from the store."""
# A file's name is bytes, which need not be text.
# ruff: noqa: PTH102, PTH114, PTH115, PTH120, PTH211

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from mlflow_ae5_server.common.errors import RepositoryFailed, hint_for
from mlflow_ae5_server.common.text import shown
from mlflow_ae5_server.repository.entries import FileEntry, key
from mlflow_ae5_server.restore.saved_copies import RESERVED

_PIECE = 1024 * 1024
_ZEROS = bytes(_PIECE)
_LONGEST_PATH = 4095  # bytes, on Linux
_FOLDERS = 10_000  # that are remembered as made: files come sorted, so the last ones do


class ArtifactTarget(Protocol):
    """Raises RepositoryFailed and LoginFailed. Safe for several threads."""

    shown: str
    threads: int  # that may write at a time
    nests: bool  # whether the name of a file may be that of a folder as well: in an object store

    def refusal(self, entry: FileEntry) -> str:
        """Why this store cannot hold a name; "" where it can."""

    def prepare(self) -> None:
        """Create the folder; a bucket has to exist."""

    def write(self, entry: FileEntry, chunks: Iterator[memoryview]) -> tuple[int, str] | None:
        """Write the file, over an existing one; then as `digest`."""

    def digest(self, path: str) -> tuple[int, str] | None:
        """Size and SHA-256 as read from the store; None where there is no such file."""

    def size(self, path: str) -> int | None: ...

    def link(self, entry: FileEntry) -> bool:
        """Create a symbolic link; False where the store has none."""

    def count(self) -> int:
        """The number of names that are no folders."""

    def sync(self) -> None:
        """Return when everything written survives a power failure."""


class FolderTarget:
    nests = False

    def __init__(self, folder: Path) -> None:
        self.shown = str(folder)
        self.threads = min(8, (os.cpu_count() or 1) + 2)
        self._root = os.fsencode(os.path.realpath(folder))
        self._made: set[bytes] = set()

    def refusal(self, entry: FileEntry) -> str:
        if entry.path.startswith(RESERVED):
            return "the name is reserved"
        path = key(entry.path)
        if len(self._root) + len(path) + 1 > _LONGEST_PATH:
            return f"with the folder before it, the name is longer than {_LONGEST_PATH} bytes"
        if len(path) > 255 and any(len(part) > 255 for part in path.split(b"/")):
            return "a part of the name is longer than 255 bytes"
        return ""

    def prepare(self) -> None:
        with self._translated("make", ""):
            Path(os.fsdecode(self._root)).mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, entry: FileEntry, chunks: Iterator[memoryview]) -> tuple[int, str] | None:
        path = self._at(entry.path)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with self._translated("write", entry.path):
            self._make(os.path.dirname(path))
            descriptor = os.open(path, flags, 0o600)
            try:
                if _size_of_file(descriptor):  # to truncate an empty file makes ext4 write it to the disk at its close
                    os.ftruncate(descriptor, 0)
                for chunk in chunks:
                    _write_sparse(descriptor, chunk)
                if entry.size >= _PIECE:  # there may be a hole at the end
                    os.ftruncate(descriptor, entry.size)
                os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
                return _sum(descriptor, entry.size)
            finally:
                os.close(descriptor)

    def digest(self, path: str) -> tuple[int, str] | None:
        with self._translated("read", path):
            try:
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
                descriptor = os.open(self._at(path), flags)
            except (FileNotFoundError, NotADirectoryError):
                return None
            try:
                return _sum(descriptor, _size_of_file(descriptor))
            finally:
                os.close(descriptor)

    def size(self, path: str) -> int | None:
        with self._translated("read", path):
            try:
                return os.lstat(self._at(path)).st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def link(self, entry: FileEntry) -> bool:
        path, target = self._at(entry.path), os.fsencode(entry.target)
        with self._translated("write", entry.path):
            if os.path.islink(path) and os.readlink(path) == target:
                return True
            self._make(os.path.dirname(path))
            os.symlink(target, path)
        return True

    def count(self) -> int:
        with self._translated("list", ""):
            return _count(self._root, RESERVED.encode())

    def sync(self) -> None:
        from mlflow_ae5_server.repository.folder_backend import FolderBackend

        FolderBackend(Path(os.fsdecode(self._root))).sync()

    def _make(self, folder: bytes) -> None:
        """Below the root only: where that is gone, it is not created again on whatever lies beneath the mount."""
        missing = []
        while folder != self._root and folder not in self._made:
            missing.append(folder)
            folder = os.path.dirname(folder)
        for directory in reversed(missing):
            try:
                os.mkdir(directory, 0o700)
            except FileExistsError:  # not through a link, which may lead anywhere
                if not stat.S_ISDIR(os.lstat(directory).st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
            if len(self._made) >= _FOLDERS:
                self._made.clear()
            self._made.add(directory)

    def _at(self, path: str) -> bytes:
        return self._root + b"/" + key(path)

    @contextlib.contextmanager
    def _translated(self, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"{shown(path)} in {self.shown}" if path else self.shown
            raise RepositoryFailed(
                f"cannot {verb} {what}: {(error.strerror or str(error)).lower()}",
                f"{hint_for(error)}, and run it again",
            ) from None


def _size_of_file(descriptor: int) -> int:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return status.st_size


def _write_sparse(descriptor: int, chunk: memoryview) -> None:
    """Pieces of zeros become holes, as they may have been."""
    while chunk:
        piece, chunk = chunk[:_PIECE], chunk[_PIECE:]
        if len(piece) == _PIECE and bytes(piece) == _ZEROS:  # a memoryview would be compared byte by byte
            os.lseek(descriptor, _PIECE, os.SEEK_CUR)
            continue
        while piece:
            piece = piece[os.write(descriptor, piece) :]


def _count(folder: bytes, reserved: bytes) -> int:
    """The names below `folder` that are no folders, and do not begin with `reserved` in `folder` itself."""
    count, waiting = 0, [folder]
    while waiting:
        directory = waiting.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                if directory == folder and entry.name.startswith(reserved):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    count += 1
    return count


def _sum(descriptor: int, expected: int) -> tuple[int, str]:
    """Size and SHA-256 as read. `expected`: the probable size."""
    digest, size = hashlib.sha256(), 0
    # A byte more than there should be, so that one reading of a small file finds its end as well.
    piece = min(_PIECE, expected + 1)
    while data := os.pread(descriptor, piece, size):
        digest.update(data)
        size += len(data)
        if len(data) < piece < _PIECE:
            break
    return size, digest.hexdigest()
