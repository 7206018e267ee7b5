"""From an artifact store into objects: several files at a time, the list in order, memory bounded.

Files wait in a window. Those that are known by their marks only pass through; the others are read and hashed by
threads (which run side by side: reading, SHA-256 and zstd release the interpreter), small ones in batches. Small
contents are put one after another into shared objects, so that 5,000 of them are not 5,000 files, or requests.
"""

from __future__ import annotations

import posixpath
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from mlflow_ae5_server.backup.artifacts import (
    SMALL,
    ZEROS,
    ArtifactSource,
    Content,
    FoundArtifact,
    Streamed,
    UnreadableError,
    VanishedError,
)
from mlflow_ae5_server.common.text import amount, shown
from mlflow_ae5_server.repository.blobs import BlobWriter
from mlflow_ae5_server.repository.entries import MOST_PARTS, FileEntry, FilePart
from mlflow_ae5_server.repository.file_list import FileListWriter, MergedFileLists
from mlflow_ae5_server.repository.index import BlobIndex
from mlflow_ae5_server.repository.interfaces import LIMIT
from mlflow_ae5_server.repository.packs import PackWriter

_T = TypeVar("_T")
_MARK = re.compile(r"[0-9]+:[0-9]+:([0-9]{1,20}):[0-9]+")  # of a file in a folder
_NAMES = 50  # of changed, vanished, unreadable files, of links out of the store: at most so many are told
_BATCH_FILES, _BATCH_BYTES, _BATCH_ITEMS = 64, 2 * 1024 * 1024, 2048
_LARGE = 4  # long files that are read at a time: each has some of its content in memory
_GRANULE = 2.0  # seconds within which a file may change twice and have one time


@dataclass
class CopyTotals:
    """`external` are links that lead out of the store; `unreadable` is what the store has and does not give. `known` of
    the files were in the previous list, whatever has become of their contents."""

    files: int = 0
    bytes: int = 0
    known: int = 0
    links: int = 0
    special: int = 0
    read_files: int = 0
    changed: int = 0
    vanished: int = 0
    names: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    external: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _QueuedFile:
    """A file to be read. `old` is what the previous snapshot has under its path."""

    found: FoundArtifact
    old: FileEntry | None


@dataclass(frozen=True, slots=True)
class _ReadFile:
    """What became of it: the content, or the parts in which it was stored, or why there is nothing."""

    desired: _QueuedFile
    content: Content | None = None
    streamed: Streamed | None = None
    parts: tuple[FilePart, ...] = ()
    vanished: bool = False
    problem: str = ""


class Copier:
    """One run. `load_slices` fills `known` with what lies in shared objects; it is called when that is first asked."""

    def __init__(
        self,
        source: ArtifactSource,
        writer: BlobWriter,
        known: BlobIndex,
        lists: FileListWriter,
        *,
        store_threads: int,
        load_slices: Callable[[], None] = lambda: None,
    ) -> None:
        self.totals = CopyTotals()
        self._source = source
        self._writer = writer
        self._readers = ThreadPoolExecutor(source.threads, "read")
        self._stores = ThreadPoolExecutor(store_threads, "store")
        self._room = threading.Semaphore(store_threads)
        self._large = threading.Semaphore(_LARGE)
        self._storing: deque[Future[None]] = deque()
        self._stopped = threading.Event()
        self._failure: BaseException | None = None  # the first one in a thread that stores
        self._window: deque[Future[list[FileEntry | _ReadFile]]] = deque()
        self._packer = PackWriter(known, writer, lists, self._store, load_slices)
        self._lists = lists
        self._zeros: Future[FilePart] | None = None  # where a hole is kept

    def run(self, previous: Iterable[FileEntry], trusted_before: float, *, rehash: bool = False) -> CopyTotals:
        """Copy everything. A file is taken for unchanged by its mark in `previous`, if it last changed before
        `trusted_before` (seconds since 1970), when the previous run had not begun to look: one that changed while it
        was looked at may have changed again within the same tick of the clock."""
        try:
            self._scan(MergedFileLists(previous), (trusted_before - _GRANULE) * 1e9, rehash)
            while self._window:
                self._receive(self._window.popleft().result())
            self._packer.close()
            self.drain()
            self._lists.close()
        except UnreadableError:
            raise self._failure or AssertionError("stopped without a reason") from None
        finally:
            self._stopped.set()
            for pool in (self._readers, self._stores):
                pool.shutdown(wait=True, cancel_futures=True)
        return self.totals

    def drain(self) -> None:
        """Return when everything that was given to be stored is stored."""
        while self._storing:
            self._storing.popleft().result()

    def _scan(self, previous: MergedFileLists, trusted_before_ns: float, rehash: bool) -> None:
        batch: list[FileEntry | _QueuedFile] = []
        files = size = 0
        for found in self._source.scan():
            item = self._judge(found, previous.at(found.path), trusted_before_ns, rehash)
            if item is None:
                continue
            batch.append(item)
            if isinstance(item, _QueuedFile):
                files, size = files + 1, size + found.size
            if files >= _BATCH_FILES or size >= _BATCH_BYTES or len(batch) >= _BATCH_ITEMS:
                self._send(batch, files)
                batch, files, size = [], 0, 0
        self._send(batch, files)

    def _judge(
        self, found: FoundArtifact, old: FileEntry | None, before_ns: float, rehash: bool
    ) -> FileEntry | _QueuedFile | None:
        """The entry, where nothing has to be read; what to read; None for what is only counted."""
        if found.kind == "file":
            if found.size > MOST_PARTS * LIMIT:
                self._unreadable(
                    found, f"it has {amount(found.size)}, and a snapshot takes {amount(MOST_PARTS * LIMIT)}"
                )
                return None
            if old is None or old.kind != "file":
                return _QueuedFile(found, None)
            self.totals.known += 1
            if rehash or not found.mark or old.mark != found.mark or _changed_at(found.mark) >= before_ns:
                return _QueuedFile(found, old)
            return old if self._writer.keeps(old.parts) else _QueuedFile(found, None)
        if found.kind == "link":
            self.totals.links += 1
            if _leads_out(found) and len(self.totals.external) < _NAMES:
                self.totals.external.append(f"{shown(found.path)} -> {shown(found.target)}")
            return FileEntry(found.path, "link", 0, "", 0, "", (), found.target)
        if found.kind == "special":
            self.totals.special += 1
            return FileEntry(found.path, "special", 0, "", 0, "", ())
        self._unreadable(found, found.target)
        return None

    def _send(self, batch: list[FileEntry | _QueuedFile], files: int) -> None:
        if files or self._window:
            self._window.append(self._readers.submit(self._read_batch, batch))
        else:
            self._receive([item for item in batch if not isinstance(item, _QueuedFile)])
        while self._window and (len(self._window) > self._source.threads + 4 or self._window[0].done()):
            self._receive(self._window.popleft().result())

    # in the threads

    def _read_batch(self, batch: list[FileEntry | _QueuedFile]) -> list[FileEntry | _ReadFile]:
        return [
            self._read(item) if isinstance(item, _QueuedFile) else item for item in batch if not self._stopped.is_set()
        ]

    def _read(self, desired: _QueuedFile) -> _ReadFile:
        try:
            if desired.found.size <= SMALL and (content := self._source.whole(desired.found)) is not None:
                return _ReadFile(desired, content=content)
            parts: list[Future[FilePart]] = []
            with self._large:
                streamed = self._source.stream(desired.found, lambda chunk: parts.append(self._store_part(chunk)))
            return _ReadFile(desired, streamed=streamed, parts=tuple(part.result() for part in parts))
        except VanishedError:
            return _ReadFile(desired, vanished=True)
        except UnreadableError as error:
            return _ReadFile(desired, problem=str(error) or "it cannot be read")

    def _store_part(self, chunk: bytes) -> Future[FilePart]:
        if chunk is ZEROS and self._zeros is not None:
            return self._zeros
        stored = self._store_chunk(chunk)
        if chunk is ZEROS:
            self._zeros = stored
        return stored

    def _store_chunk(self, chunk: bytes) -> Future[FilePart]:
        return self._submit(lambda: FilePart(self._writer.put(chunk).sha256, 0, len(chunk), len(chunk)))

    def _store(self, sha256: str, data: bytes) -> None:
        while self._storing and self._storing[0].done():
            self._storing.popleft().result()
        self._storing.append(self._submit(lambda: self._writer.keep(sha256, data)))

    def _submit(self, work: Callable[[], _T]) -> Future[_T]:
        """Have it done by another thread, when there is room. After a failure nothing is begun any more."""

        def done() -> _T:
            try:
                return work()
            except BaseException as error:
                self._failure = self._failure or error
                self._stopped.set()
                raise
            finally:
                self._room.release()

        self._room.acquire()
        if self._stopped.is_set():
            self._room.release()
            raise UnreadableError("stopped")
        return self._stores.submit(done)

    # in order again

    def _receive(self, done: list[FileEntry | _ReadFile]) -> None:
        if self._failure is not None:
            raise self._failure
        for item in done:
            entry = self._entry(item) if isinstance(item, _ReadFile) else item
            if entry is None:
                continue
            if entry.kind == "file":
                self.totals.files += 1
                self.totals.bytes += entry.size
            self._packer.add(entry)

    def _entry(self, read: _ReadFile) -> FileEntry | None:
        found = read.desired.found
        if read.vanished:
            self.totals.vanished += 1
            self._name(found)
        elif read.problem:
            self._unreadable(found, read.problem)
        elif read.content is not None:
            data, sha256, mtime_ns, mark = read.content
            parts = self._packer.store(data, sha256, read.desired.old)
            return self._file(found, FileEntry(found.path, "file", len(data), sha256, mtime_ns, mark, parts))
        elif read.streamed is not None:
            done = read.streamed
            entry = FileEntry(found.path, "file", done.size, done.sha256, done.mtime_ns, done.mark, read.parts)
            return self._file(found, entry)
        return None

    def _file(self, found: FoundArtifact, entry: FileEntry) -> FileEntry:
        self.totals.read_files += 1
        if not entry.mark:
            self.totals.changed += 1
            self._name(found)
        return entry

    def _name(self, found: FoundArtifact) -> None:
        if len(self.totals.names) < _NAMES:
            self.totals.names.append(shown(found.path))

    def _unreadable(self, found: FoundArtifact, why: str) -> None:
        if len(self.totals.unreadable) < _NAMES:
            self.totals.unreadable.append(f"{shown(found.path)}: {why}")


def _changed_at(mark: str) -> int:
    """When the file last changed, nanoseconds since 1970; 0 for a store's own mark, which changes with the content."""
    found = _MARK.fullmatch(mark)
    return int(found[1]) if found else 0


def _leads_out(found: FoundArtifact) -> bool:
    """Whether a link's target is outside the store, by its words alone: nothing is looked up."""
    if found.target.startswith("/"):
        return True
    target = posixpath.normpath(posixpath.join(posixpath.dirname(found.path), found.target))
    return target == ".." or target.startswith("../")
