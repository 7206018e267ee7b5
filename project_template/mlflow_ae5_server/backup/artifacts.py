"""The artifact store as the source of a snapshot: what is in it, in order, and its contents."""
# A file's name is bytes, which need not be text.
# ruff: noqa: PTH112, PTH115

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from mlflow_ae5_server.common.errors import ConfigurationError
from mlflow_ae5_server.repository.entries import key, text
from mlflow_ae5_server.restore.saved_copies import RESERVED

CHUNK = 2 * 1024 * 1024  # bytes: of longer files this much is one object
SMALL = 256 * 1024  # bytes: shorter files share objects
ZEROS = bytes(CHUNK)  # what a hole reads as
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_TRIES = 3  # readings of a file that changes meanwhile


class FoundArtifact(NamedTuple):
    """A name in the store; see FileEntry. `kind` is also "unreadable" (`target` says why)."""

    path: str
    kind: str
    size: int
    mtime_ns: int
    mark: str
    target: str = ""


class Content(NamedTuple):
    """A whole file, in memory."""

    data: bytes
    sha256: str
    mtime_ns: int
    mark: str


@dataclass(frozen=True)
class Streamed:
    """A file that was given away in pieces."""

    size: int
    sha256: str
    mtime_ns: int
    mark: str


class VanishedError(Exception):
    """The name was there when the store was listed, and is not any more."""


class UnreadableError(Exception):
    """The store has it and does not give it."""


class ArtifactSource(Protocol):
    shown: str
    threads: int

    def scan(self) -> Iterator[FoundArtifact]:
        """Everything, sorted by the bytes of the path."""

    def whole(self, found: FoundArtifact) -> Content | None:
        """A small file; None where it has grown and is not small any more. Raises VanishedError, UnreadableError."""

    def stream(self, found: FoundArtifact, take: Callable[[bytes], None]) -> Streamed:
        """A large file, given to `take` in pieces of CHUNK bytes, the last one shorter. Raises the same.

        Where it changed in the meantime, `mark` is "".
        """


class FolderArtifacts:
    """See Source. Symbolic links are named and not followed; devices, pipes and sockets are never opened."""

    def __init__(self, folder: Path, exclude: frozenset[Path] = frozenset()) -> None:
        self.shown = str(folder)
        self.threads = min(8, (os.cpu_count() or 1) + 2)
        self._root = os.fsencode(os.path.realpath(folder))
        self._reserved = self._root + b"/" + RESERVED.encode()
        self._exclude = frozenset(os.fsencode(path) for path in exclude)

    def scan(self) -> Iterator[FoundArtifact]:
        """As `find` would, with each folder's names sorted as if folders ended in `/`: that is the order of paths."""
        if not os.path.lexists(self._root):
            return  # a server that was never given an artifact
        if not os.path.isdir(self._root) or not os.access(self._root, os.R_OK | os.X_OK):
            raise ConfigurationError(
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
                    yield _look(path, skip)
            else:
                open_folders.pop()

    def whole(self, found: FoundArtifact) -> Content | None:
        """Most files are still as they were when they were listed: that needs one reading, and one look after it."""
        descriptor = self._descriptor(found)
        try:
            data = os.read(descriptor, found.size + 1)
            after = os.fstat(descriptor)
            mark = found.mark
            if len(data) != found.size or _mark(after) != mark:
                again = _steady(descriptor)
                if again is None:
                    return None
                data, after, mark = again
        except OSError as error:
            raise UnreadableError(error.strerror) from None
        finally:
            os.close(descriptor)
        return Content(data, hashlib.sha256(data).hexdigest(), after.st_mtime_ns, mark)

    def stream(self, found: FoundArtifact, take: Callable[[bytes], None]) -> Streamed:
        descriptor = self._descriptor(found)
        digest, size = hashlib.sha256(), 0
        try:
            before = _regular(descriptor)
            # No further than it was long: a log that grows is taken up to here, and ends.
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

    def _descriptor(self, found: FoundArtifact) -> int:
        try:
            return os.open(self._root + b"/" + key(found.path), _READ)
        except (FileNotFoundError, NotADirectoryError):
            raise VanishedError from None
        except OSError as error:
            raise UnreadableError(error.strerror) from None


def _regular(descriptor: int) -> os.stat_result:
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        raise VanishedError  # something else has taken its place
    return state


def _steady(descriptor: int) -> tuple[bytes, os.stat_result, str] | None:
    """Content, state and mark of a file that is being changed, or has been since it was listed; None where it has
    grown large. The mark is "" if it does not keep still."""
    for _ in range(_TRIES):
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
        with os.scandir(folder) as found:
            names = [entry.name + b"/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in found]
    except OSError:
        # As a file: whoever looks at it then finds out whether it vanished or cannot be read.
        yield folder, False
        return
    names.sort()
    for name in names:
        yield (folder + b"/" + name[:-1], True) if name[-1:] == b"/" else (folder + b"/" + name, False)


def _next_chunk(descriptor: int, offset: int, size: int) -> bytes:
    """Up to CHUNK bytes; where the file has a hole, zeros that need not be read."""
    if size - offset >= CHUNK:
        try:
            if os.lseek(descriptor, offset, os.SEEK_DATA) >= offset + CHUNK:
                return ZEROS
        except OSError:  # ENXIO: nothing but a hole to the end; or a file system that cannot tell
            if _hole_to_end(descriptor, offset):
                return ZEROS
    os.lseek(descriptor, offset, os.SEEK_SET)
    return _read(descriptor, min(CHUNK, size - offset))


def _hole_to_end(descriptor: int, offset: int) -> bool:
    try:
        return os.lseek(descriptor, offset, os.SEEK_HOLE) == offset
    except OSError:
        return False


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


def _look(path: bytes, skip: int) -> FoundArtifact:
    name = text(path[skip:])
    try:
        state = os.lstat(path)
        if stat.S_ISREG(state.st_mode):
            return FoundArtifact(name, "file", state.st_size, state.st_mtime_ns, _mark(state))
        if stat.S_ISLNK(state.st_mode):
            return FoundArtifact(name, "link", 0, 0, "", text(os.readlink(path)))
        if stat.S_ISDIR(state.st_mode):
            return FoundArtifact(name, "unreadable", 0, 0, "", "the folder cannot be listed")
    except FileNotFoundError:
        return FoundArtifact(name, "file", 0, 0, "")  # the attempt to read it tells that it has vanished
    except OSError as error:
        return FoundArtifact(name, "unreadable", 0, 0, "", error.strerror or type(error).__name__)
    return FoundArtifact(name, "special", 0, 0, "")


def _state(state: os.stat_result) -> tuple[int, int, int]:
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _mark(state: os.stat_result) -> str:
    return f"{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}:{state.st_ino}"
