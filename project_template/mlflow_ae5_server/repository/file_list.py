"""The list of artifacts as objects: written while files are copied, read as a stream, never whole in memory.

The list is cut after a path whose checksum says so, not after so many lines. What is the same in two snapshots is then
the same objects in both, and an unchanged server adds none.
"""

from __future__ import annotations

import contextlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from mlflow_ae5_server.common.errors import DamagedError
from mlflow_ae5_server.repository.blobs import BlobReader
from mlflow_ae5_server.repository.entries import FileEntry, key, line, parse
from mlflow_ae5_server.repository.interfaces import BlobSink
from mlflow_ae5_server.repository.manifest import ArtifactsPart

_CUT = 0x3FF  # one path in 1024
_LONGEST = 24 * 1024 * 1024  # bytes of a line: of a file of more than MOST_PARTS
_ANOTHER = "use another snapshot"
_PIECE = 4 * 1024 * 1024  # bytes: no object of the list is larger


@dataclass
class FileListWriter:
    """Takes entries in order and keeps them as objects; `lists` are those so far."""

    writer: BlobSink
    on_piece: Callable[[], None] = lambda: None
    lists: list[str] = field(default_factory=list)
    on_entry: Callable[[FileEntry], None] = lambda _entry: None
    _buffer: bytearray = field(default_factory=bytearray)

    def add(self, entry: FileEntry) -> None:
        self.on_entry(entry)
        self._buffer += line(entry)
        if zlib.crc32(key(entry.path)) & _CUT == 0:
            self._keep(len(self._buffer))
        while len(self._buffer) >= _PIECE:
            self._keep(_PIECE)

    def close(self) -> None:
        self._keep(len(self._buffer))

    def _keep(self, size: int) -> None:
        if size:
            self.lists.append(self.writer.put(bytes(self._buffer[:size])).sha256)
            del self._buffer[:size]
            self.on_piece()


def read(reader: BlobReader, lists: Iterable[str]) -> Iterator[FileEntry]:
    """The entries in order. Raises DamagedError."""
    last, parents = b"", ParentFiles()
    for found in _lines(reader, lists):
        entry = parse(found)
        if (path := key(entry.path)) <= last:
            raise DamagedError("the list of artifacts is not in order", _ANOTHER)
        parent = parents.of(entry)
        if parent is not None and (parent.kind, entry.kind) != ("file", "file"):  # two files are fine in a bucket
            raise DamagedError("the list of artifacts has a name within a link, or a link within a file", _ANOTHER)
        last = path
        yield entry


class ParentFiles:
    """Of entries in the order of the list: which of them has a name that is a folder for another one."""

    def __init__(self) -> None:
        self._open: list[tuple[bytes, FileEntry]] = []  # each one's path begins with that of the one before

    def of(self, entry: FileEntry) -> FileEntry | None:
        """The entry above this one; None as it should be."""
        path = key(entry.path)
        while self._open and not path.startswith(self._open[-1][0]):
            self._open.pop()
        found = next((above for name, above in self._open if path[len(name) : len(name) + 1] == b"/"), None)
        self._open.append((path, entry))
        return found


def counted(entries: Iterable[FileEntry], part: ArtifactsPart) -> Iterator[FileEntry]:
    """`entries`, and after the last one a DamagedError where they are not as many as `part` says."""
    found, size = Counter[str](), 0
    for entry in entries:
        found[entry.kind] += 1
        size += entry.size
        yield entry
    if (found["file"], size, found["link"], found["special"]) != (part.files, part.bytes, part.links, part.special):
        raise DamagedError(
            f"the list of artifacts has {found['file']} files of {size} bytes and {found['link']} links, "
            f"the manifest {part.files} of {part.bytes} and {part.links}",
            _ANOTHER,
        )


def _lines(reader: BlobReader, lists: Iterable[str]) -> Iterator[bytes]:
    begun: list[bytes] = []  # of a line that goes on in the next object
    size = 0
    for sha256 in lists:
        first, *others = reader.get(sha256).split(b"\n")
        begun.append(first)
        size += len(first)
        if size > _LONGEST:
            raise DamagedError("the list of artifacts has a line without an end", _ANOTHER)
        if others:
            yield b"".join(begun)
            yield from others[:-1]
            begun, size = others[-1:], len(others[-1])
    if size:
        yield b"".join(begun)


def lines(reader: BlobReader, sha256: str) -> Iterator[FileEntry]:
    """The entries that are whole in one object of the list. Raises DamagedError where the object is."""
    for found in reader.get(sha256).split(b"\n"):
        with contextlib.suppress(DamagedError):  # half a line, of a file of very many parts
            yield parse(found)


def wasteful_blobs(entries: Iterable[FileEntry], waste: int) -> frozenset[str]:
    """Shared objects of which less than half is still used, where more than `waste` bytes of such are unused."""
    used: dict[str, int] = {}
    total: dict[str, int] = {}
    for entry in entries:
        for part in entry.parts:
            if part.length != part.total:
                used[part.sha256] = used.get(part.sha256, 0) + part.length
                total[part.sha256] = part.total
    found = frozenset(sha256 for sha256, size in total.items() if 2 * used[sha256] < size)
    return found if sum(total[sha256] - used[sha256] for sha256 in found) > waste else frozenset()


class MergedFileLists:
    """A sorted list to walk along another one: `at(path)` for ascending paths."""

    def __init__(self, entries: Iterable[FileEntry]) -> None:
        self._entries = iter(entries)
        self._next = next(self._entries, None)

    def at(self, path: str) -> FileEntry | None:
        desired = key(path)
        while self._next is not None and key(self._next.path) < desired:
            self._next = next(self._entries, None)
        return self._next if self._next is not None and self._next.path == path else None


def continued(first: Iterable[FileEntry], second: Iterable[FileEntry]) -> Iterator[FileEntry]:
    """`first`, and then what of `second` lies behind it."""
    last = b""
    for entry in first:
        last = key(entry.path)
        yield entry
    for entry in second:
        if key(entry.path) > last:
            yield entry
