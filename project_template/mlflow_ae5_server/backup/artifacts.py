"""The artifact store as the source of a snapshot: files in order, and contents."""
# The name of a file is bytes, and need not be text.
# ruff: noqa: PTH112, PTH115

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from mlflow_ae5_server.common.errors import Configuration
from mlflow_ae5_server.repository.entries import key, text
from mlflow_ae5_server.restore.saved_copies import RESERVED

CHUNK = 2 * 1024 * 1024  # bytes of a longer file that are one blob
SMALL = 256 * 1024  # bytes: files up to that share packs
ZEROS = bytes(CHUNK)  # the content of a hole
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_ATTEMPTS = 3  # at a file that changes while it is read


class Artifact(NamedTuple):
    """A name in the store. See FileEntry; "unreadable" is for the reason in `target`."""

    path: str
    kind: str
    size: int
    mtime_ns: int
    mark: str
    target: str = ""


class Content(NamedTuple):
    """A whole file in memory."""

    data: bytes
    sha256: str
    mtime_ns: int
    mark: str


@dataclass(frozen=True)
class Streamed:
    """A file that was read in chunks."""

    size: int
    sha256: str
    mtime_ns: int
    mark: str


class VanishedError(Exception):
    """The name existed when the store was listed, and does not any more."""


class UnreadableError(Exception):
    """The store lists the name, and its content cannot be read."""


class ArtifactSource(Protocol):
    shown: str
    threads: int

    def scan(self) -> Iterator[Artifact]:
        """Everything, sorted by the bytes of the path."""

    def whole(self, artifact: Artifact) -> Content | None:
        """Read a small file; None if it has grown. Raises VanishedError, UnreadableError."""

    def stream(self, artifact: Artifact, take: Callable[[bytes], None]) -> Streamed:
        """Read a large file and call `take` with CHUNK bytes at a time.

        Raises VanishedError, UnreadableError. Where the file changed in the meantime, the `mark` of the result is "".
        """


class FolderArtifacts:
    """A folder. Links are recorded, not followed; devices and pipes are never opened."""

    def __init__(self, folder: Path, exclude: frozenset[Path] = frozenset()) -> None:
        self.shown = str(folder)
        self.threads = min(8, (os.cpu_count() or 1) + 2)
        self._root = os.fsencode(os.path.realpath(folder))
        self._reserved = self._root + b"/" + RESERVED.encode()
        self._exclude = frozenset(os.fsencode(path) for path in exclude)

    def scan(self) -> Iterator[Artifact]:
        """List in the order of paths: names sorted as if folders ended in `/`."""
        if not os.path.lexists(self._root):
            return  # a server that has never stored an artifact
        if not os.path.isdir(self._root) or not os.access(self._root, os.R_OK | os.X_OK):
            raise Configuration(
                f"the folder of the artifacts {self.shown} cannot be read", "check MLFLOW_ARTIFACTS_DESTINATION"
            )
        skip = len(self._root) + 1
        open_folders = [_names(self._root)]
        while open_folders:
            for path, is_folder in open_folders[-1]:
                if is_folder:
                    open_folders.append(_names(path))
                    break
                if path not in self._exclude and not path.startswith(self._reserved):
                    yield _artifact(path, skip)
            else:
                open_folders.pop()

    def whole(self, artifact: Artifact) -> Content | None:
        """Read with one read and one stat where the file is as it was listed."""
        descriptor = self._descriptor(artifact)
        try:
            data = os.read(descriptor, artifact.size + 1)
            after = os.fstat(descriptor)
            mark = artifact.mark
            if len(data) != artifact.size or _mark(after) != mark:
                again = _steady(descriptor)
                if again is None:
                    return None
                data, after, mark = again
        except OSError as error:
            raise UnreadableError(error.strerror) from None
        finally:
            os.close(descriptor)
        return Content(data, hashlib.sha256(data).hexdigest(), after.st_mtime_ns, mark)

    def stream(self, artifact: Artifact, take: Callable[[bytes], None]) -> Streamed:
        descriptor = self._descriptor(artifact)
        digest, size = hashlib.sha256(), 0
        try:
            before = _regular(descriptor)
            # No further than its size at the start: the reading of a growing log ends.
            while size < before.st_size and (chunk := _next_chunk(descriptor, size, before.st_size)):
                digest.update(chunk)
                size += len(chunk)
                take(chunk)
            after = os.fstat(descriptor)
        except OSError as error:
            raise UnreadableError(error.strerror) from None
        finally:
            os.close(descriptor)
        steady = _state(before) == _state(after) and size == after.st_size
        return Streamed(size, digest.hexdigest(), after.st_mtime_ns, _mark(after) if steady else "")

    def _descriptor(self, artifact: Artifact) -> int:
        try:
            return os.open(self._root + b"/" + key(artifact.path), _READ)
        except (FileNotFoundError, NotADirectoryError):
            raise VanishedError from None
        except OSError as error:
            raise UnreadableError(error.strerror) from None


def _regular(descriptor: int) -> os.stat_result:
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        raise VanishedError  # the name belongs to something else by now
    return state


def _steady(descriptor: int) -> tuple[bytes, os.stat_result, str] | None:
    """Content, state and mark of a file that changed; None if it has grown large.

    The mark is "" where it keeps changing.
    """
    for _ in range(_ATTEMPTS):
        before = _regular(descriptor)
        os.lseek(descriptor, 0, os.SEEK_SET)
        data = _read(descriptor, SMALL + 1)
        if len(data) > SMALL:
            return None
        after = os.fstat(descriptor)
        if _state(before) == _state(after) and len(data) == after.st_size:
            return data, after, _mark(after)
    return data, after, ""


def _names(folder: bytes) -> Iterator[tuple[bytes, bool]]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name + b"/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in entries]
    except OSError:
        # As a file: its stat shows whether it vanished or cannot be read.
        yield folder, False
        return
    names.sort()
    for name in names:
        yield (folder + b"/" + name[:-1], True) if name[-1:] == b"/" else (folder + b"/" + name, False)


def _next_chunk(descriptor: int, offset: int, size: int) -> bytes:
    """Up to CHUNK bytes; zeros without reading where the file has a hole."""
    if size - offset >= CHUNK:
        try:
            data_at = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:  # ENXIO: a hole to the end, or past it; else a file system without holes
            data_at = os.fstat(descriptor).st_size if error.errno == errno.ENXIO else offset
        if data_at >= offset + CHUNK:
            return ZEROS
    os.lseek(descriptor, offset, os.SEEK_SET)
    return _read(descriptor, min(CHUNK, size - offset))


def _read(descriptor: int, limit: int) -> bytes:
    data = os.read(descriptor, limit)
    if not data or len(data) == limit:
        return data
    pieces = [data]
    missing = limit - len(data)
    while missing and (more := os.read(descriptor, missing)):
        pieces.append(more)
        missing -= len(more)
    return b"".join(pieces)


def _artifact(path: bytes, skip: int) -> Artifact:
    name = text(path[skip:])
    try:
        state = os.lstat(path)
        if stat.S_ISREG(state.st_mode):
            return Artifact(name, "file", state.st_size, state.st_mtime_ns, _mark(state))
        if stat.S_ISLNK(state.st_mode):
            return Artifact(name, "link", 0, 0, "", text(os.readlink(path)))
        if stat.S_ISDIR(state.st_mode):
            return Artifact(name, "unreadable", 0, 0, "", "the folder cannot be listed")
    except FileNotFoundError:
        return Artifact(name, "file", 0, 0, "")  # reading it raises VanishedError
    except OSError as error:
        return Artifact(name, "unreadable", 0, 0, "", error.strerror or type(error).__name__)
    return Artifact(name, "special", 0, 0, "")


def _state(state: os.stat_result) -> tuple[int, int, int]:
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _mark(state: os.stat_result) -> str:
    return f"{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}:{state.st_ino}"
