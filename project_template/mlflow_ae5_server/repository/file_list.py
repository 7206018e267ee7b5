"""The file list of a snapshot, stored as blobs and never whole in memory.

The list is cut at paths whose checksum says so, not after so many lines. Equal stretches of two snapshots are then
equal blobs, and an unchanged server adds none.
"""

from __future__ import annotations

import contextlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from mlflow_ae5_server.common.errors import ANOTHER_SNAPSHOT, SnapshotDamaged
from mlflow_ae5_server.repository.blob_types import BlobSink
from mlflow_ae5_server.repository.blobs import BlobReader
from mlflow_ae5_server.repository.entries import FileEntry, key, line, parse
from mlflow_ae5_server.repository.manifest import ArtifactsPart

_CUT = 0x3FF  # one path in 1024
_MAX_LINE = 24 * 1024 * 1024  # bytes: of a file of more than MAX_PARTS
_PIECE = 4 * 1024 * 1024  # bytes: no blob of the list is larger


@dataclass
class FileListWriter:
    """Takes entries in order and stores them as blobs."""

    writer: BlobSink
    on_piece: Callable[[], None] = lambda: None
    lists: list[str] = field(default_factory=list)
    """The blobs so far."""
    on_entry: Callable[[FileEntry], None] = lambda _entry: None
    _buffer: bytearray = field(default_factory=bytearray)

    def add(self, entry: FileEntry) -> None:
        self.on_entry(entry)
        self._buffer += line(entry)
        if zlib.crc32(key(entry.path)) & _CUT == 0:
            self._store(len(self._buffer))
        while len(self._buffer) >= _PIECE:
            self._store(_PIECE)

    def close(self) -> None:
        self._store(len(self._buffer))

    def _store(self, size: int) -> None:
        if size:
            self.lists.append(self.writer.put(bytes(self._buffer[:size])).sha256)
            del self._buffer[:size]
            self.on_piece()


def read(reader: BlobReader, lists: Iterable[str]) -> Iterator[FileEntry]:
    """The entries in order. Raises SnapshotDamaged."""
    last, parents = b"", ParentFiles()
    for data in _lines(reader, lists):
        entry = parse(data)
        if (path := key(entry.path)) <= last:
            raise SnapshotDamaged("the list of artifacts is not in order", ANOTHER_SNAPSHOT)
        parent = parents.of(entry)
        if parent is not None and (parent.kind, entry.kind) != ("file", "file"):  # a bucket can have two files
            raise SnapshotDamaged(
                "the list of artifacts has a name within a link, or a link within a file", ANOTHER_SNAPSHOT
            )
        last = path
        yield entry


class ParentFiles:
    """Finds entries whose path continues the path of another one."""

    def __init__(self) -> None:
        self._open: list[tuple[bytes, FileEntry]] = []  # each path continues the one before

    def of(self, entry: FileEntry) -> FileEntry | None:
        """The entry of which this one's path names a child; None as it should be."""
        path = key(entry.path)
        while self._open and not path.startswith(self._open[-1][0]):
            self._open.pop()
        parent = next((above for name, above in self._open if path[len(name) : len(name) + 1] == b"/"), None)
        self._open.append((path, entry))
        return parent


def counted(entries: Iterable[FileEntry], part: ArtifactsPart) -> Iterator[FileEntry]:
    """Pass `entries` through; raise SnapshotDamaged if `part` counts others."""
    kinds, size = Counter[str](), 0
    for entry in entries:
        kinds[entry.kind] += 1
        size += entry.size
        yield entry
    if (kinds["file"], size, kinds["link"], kinds["special"]) != (part.files, part.bytes, part.links, part.special):
        raise SnapshotDamaged(
            f"the list of artifacts has {kinds['file']} files of {size} bytes and {kinds['link']} links, "
            f"the manifest {part.files} of {part.bytes} and {part.links}",
            ANOTHER_SNAPSHOT,
        )


def _lines(reader: BlobReader, lists: Iterable[str]) -> Iterator[bytes]:
    started: list[bytes] = []  # of a line that continues in the next blob
    size = 0
    for sha256 in lists:
        first, *others = reader.get(sha256).split(b"\n")
        started.append(first)
        size += len(first)
        if size > _MAX_LINE:
            raise SnapshotDamaged("the list of artifacts has a line without an end", ANOTHER_SNAPSHOT)
        if others:
            yield b"".join(started)
            yield from others[:-1]
            started, size = others[-1:], len(others[-1])
    if size:
        yield b"".join(started)


def entries_in(reader: BlobReader, sha256: str) -> Iterator[FileEntry]:
    """The entries that are whole in one blob of a list. Raises SnapshotDamaged."""
    for data in reader.get(sha256).split(b"\n"):
        with contextlib.suppress(SnapshotDamaged):  # half a line, of a file of very many parts
            yield parse(data)


def wasteful_packs(entries: Iterable[FileEntry], waste: int) -> frozenset[str]:
    """Packs less than half used, if more than `waste` bytes of these are unused."""
    used: dict[str, int] = {}
    total: dict[str, int] = {}
    for entry in entries:
        for part in entry.parts:
            if part.length != part.total:
                used[part.sha256] = used.get(part.sha256, 0) + part.length
                total[part.sha256] = part.total
    packs = frozenset(sha256 for sha256, size in total.items() if 2 * used[sha256] < size)
    return packs if sum(total[sha256] - used[sha256] for sha256 in packs) > waste else frozenset()


class FileListCursor:
    """Walks a sorted list along another one: `at(path)` for ascending paths."""

    def __init__(self, entries: Iterable[FileEntry]) -> None:
        self._entries = iter(entries)
        self._next = next(self._entries, None)

    def at(self, path: str) -> FileEntry | None:
        sought = key(path)
        while self._next is not None and key(self._next.path) < sought:
            self._next = next(self._entries, None)
        return self._next if self._next is not None and self._next.path == path else None


def continued(first: Iterable[FileEntry], second: Iterable[FileEntry]) -> Iterator[FileEntry]:
    """`first`, and then the entries of `second` behind its last path."""
    last = b""
    for entry in first:
        last = key(entry.path)
        yield entry
    for entry in second:
        if key(entry.path) > last:
            yield entry
