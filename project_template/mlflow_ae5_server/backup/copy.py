"""Copy an artifact store into blobs.

Several files are read at a time, the file list stays in order, and memory is bounded. Files pass through a window.
Those whose marks show them unchanged are not read; the others are read and hashed by threads (reading, SHA-256 and zstd
release the interpreter), small ones in batches. Small contents are joined in packs, so that 5,000 of them are not 5,000
files, or requests.
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
    Artifact,
    ArtifactSource,
    Content,
    Streamed,
    UnreadableError,
    VanishedError,
)
from mlflow_ae5_server.common.text import amount, shown
from mlflow_ae5_server.repository.blob_index import BlobIndex
from mlflow_ae5_server.repository.blob_types import LIMIT
from mlflow_ae5_server.repository.blobs import BlobWriter
from mlflow_ae5_server.repository.entries import MAX_PARTS, FileEntry, FilePart
from mlflow_ae5_server.repository.file_list import FileListCursor, FileListWriter
from mlflow_ae5_server.repository.packs import PackWriter

_T = TypeVar("_T")
_MARK = re.compile(r"[0-9]+:[0-9]+:([0-9]{1,20}):[0-9]+")  # of a file in a folder
_MAX_NAMES = 50  # reported, of each of: changed or vanished files, unreadable files, links out of the store
_BATCH_FILES, _BATCH_BYTES, _BATCH_ITEMS = 64, 2 * 1024 * 1024, 2048
_LARGE = 4  # large files that are read at a time: each has some of its content in memory
_TIME_RESOLUTION = 2.0  # seconds within which a file may change twice and show one time


@dataclass
class CopyTotals:
    files: int = 0
    bytes: int = 0
    listed_before: int = 0  # files that were in the previous list, changed or not
    links: int = 0
    special: int = 0
    changed: int = 0
    vanished: int = 0
    names: list[str] = field(default_factory=list)  # of changed and vanished files
    unreadable: list[str] = field(default_factory=list)  # names that the store lists without content
    external: list[str] = field(default_factory=list)  # links that lead out of the store


@dataclass(frozen=True, slots=True)
class _QueuedFile:
    """A file to be read."""

    artifact: Artifact
    old: FileEntry | None
    """The entry of the previous snapshot under that path."""


@dataclass(frozen=True, slots=True)
class _ReadFile:
    """The content, or the parts in which it was stored, or why there is nothing."""

    queued: _QueuedFile
    content: Content | None = None
    streamed: Streamed | None = None
    parts: tuple[FilePart, ...] = ()
    vanished: bool = False
    problem: str = ""


class Copier:
    """Copies once; calls `load_slices` to index packs when first needed.

    on_bytes: called from any thread with the size of what was read, or of an unchanged file.
    """

    def __init__(
        self,
        source: ArtifactSource,
        writer: BlobWriter,
        index: BlobIndex,
        lists: FileListWriter,
        *,
        store_threads: int,
        load_slices: Callable[[], None] = lambda: None,
        on_bytes: Callable[[int], None] = lambda _number: None,
    ) -> None:
        self.totals = CopyTotals()
        self._source = source
        self._writer = writer
        self._on_bytes = on_bytes
        self._readers = ThreadPoolExecutor(source.threads, "read")
        self._stores = ThreadPoolExecutor(store_threads, "store")
        self._room = threading.Semaphore(store_threads)
        self._large = threading.Semaphore(_LARGE)
        self._storing: deque[Future[None]] = deque()
        self._stopped = threading.Event()
        self._failure: BaseException | None = None  # the first one in a thread that stores
        self._window: deque[Future[list[FileEntry | _ReadFile]]] = deque()
        self._packer = PackWriter(index, writer, lists, self._store, load_slices)
        self._lists = lists
        self._zeros: Future[FilePart] | None = None  # of the blob of zeros, for holes

    def run(self, previous: Iterable[FileEntry], trusted_before: float, *, rehash: bool = False) -> CopyTotals:
        """Copy everything; skip files that have not changed since `previous`.

        A file with the mark that it has there counts as unchanged, if it last changed before `trusted_before` (seconds
        since 1970), the start of the previous run: a file that changed while it was read may have changed again within
        the same tick of the clock.
        """
        try:
            self._scan(FileListCursor(previous), (trusted_before - _TIME_RESOLUTION) * 1e9, rehash)
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
        """Wait until everything passed to the storing threads is stored."""
        while self._storing:
            self._storing.popleft().result()

    def _scan(self, previous: FileListCursor, trusted_before_ns: float, rehash: bool) -> None:
        batch: list[FileEntry | _QueuedFile] = []
        files = size = 0
        for artifact in self._source.scan():
            item = self._classify(artifact, previous.at(artifact.path), trusted_before_ns, rehash)
            if item is None:
                continue
            batch.append(item)
            if isinstance(item, _QueuedFile):
                files, size = files + 1, size + artifact.size
            if files >= _BATCH_FILES or size >= _BATCH_BYTES or len(batch) >= _BATCH_ITEMS:
                self._send(batch, files)
                batch, files, size = [], 0, 0
        self._send(batch, files)

    def _classify(
        self, artifact: Artifact, old: FileEntry | None, before_ns: float, rehash: bool
    ) -> FileEntry | _QueuedFile | None:
        """An entry that needs no reading, a file to read, or None for a counted name."""
        if artifact.kind == "file":
            if artifact.size > MAX_PARTS * LIMIT:
                limit = amount(MAX_PARTS * LIMIT)
                self._add_unreadable(artifact, f"it has {amount(artifact.size)}, and a snapshot takes {limit}")
                return None
            if old is None or old.kind != "file":
                return _QueuedFile(artifact, None)
            self.totals.listed_before += 1
            if rehash or not artifact.mark or old.mark != artifact.mark or _changed_at(artifact.mark) >= before_ns:
                return _QueuedFile(artifact, old)
            return old if self._writer.has_all(old.parts) else _QueuedFile(artifact, None)
        if artifact.kind == "link":
            self.totals.links += 1
            if _leads_out(artifact) and len(self.totals.external) < _MAX_NAMES:
                self.totals.external.append(f"{shown(artifact.path)} -> {shown(artifact.target)}")
            return FileEntry(artifact.path, "link", 0, "", 0, "", (), artifact.target)
        if artifact.kind == "special":
            self.totals.special += 1
            return FileEntry(artifact.path, "special", 0, "", 0, "", ())
        self._add_unreadable(artifact, artifact.target)
        return None

    def _send(self, batch: list[FileEntry | _QueuedFile], files: int) -> None:
        if files or self._window:
            self._window.append(self._readers.submit(self._read_batch, batch))
        else:
            self._receive([item for item in batch if not isinstance(item, _QueuedFile)])
        while self._window and (len(self._window) > self._source.threads + 4 or self._window[0].done()):
            self._receive(self._window.popleft().result())

    # In threads

    def _read_batch(self, batch: list[FileEntry | _QueuedFile]) -> list[FileEntry | _ReadFile]:
        return [
            self._read(item) if isinstance(item, _QueuedFile) else item for item in batch if not self._stopped.is_set()
        ]

    def _read(self, queued: _QueuedFile) -> _ReadFile:
        try:
            if queued.artifact.size <= SMALL and (content := self._source.whole(queued.artifact)) is not None:
                self._on_bytes(len(content.data))
                return _ReadFile(queued, content=content)
            parts: list[Future[FilePart]] = []
            with self._large:
                streamed = self._source.stream(queued.artifact, lambda chunk: self._take(chunk, parts))
            return _ReadFile(queued, streamed=streamed, parts=tuple(part.result() for part in parts))
        except VanishedError:
            return _ReadFile(queued, vanished=True)
        except UnreadableError as error:
            return _ReadFile(queued, problem=str(error) or "it cannot be read")

    def _take(self, chunk: bytes, parts: list[Future[FilePart]]) -> None:
        parts.append(self._store_part(chunk))
        self._on_bytes(len(chunk))

    def _store_part(self, chunk: bytes) -> Future[FilePart]:
        if chunk is ZEROS and self._zeros is not None:
            return self._zeros
        stored = self._submit(lambda: FilePart(self._writer.put(chunk).sha256, 0, len(chunk), len(chunk)))
        if chunk is ZEROS:
            self._zeros = stored
        return stored

    def _store(self, sha256: str, data: bytes) -> None:
        while self._storing and self._storing[0].done():
            self._storing.popleft().result()
        self._storing.append(self._submit(lambda: self._writer.store(sha256, data)))

    def _submit(self, work: Callable[[], _T]) -> Future[_T]:
        """Run `work` in a free storing thread; after a failure start nothing more."""

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

    # In order again

    def _receive(self, done: list[FileEntry | _ReadFile]) -> None:
        if self._failure is not None:
            raise self._failure
        for item in done:
            if isinstance(item, _ReadFile):
                entry = self._entry(item)
            else:
                entry = item
                self._on_bytes(entry.size)
            if entry is None:
                continue
            if entry.kind == "file":
                self.totals.files += 1
                self.totals.bytes += entry.size
            self._packer.add(entry)

    def _entry(self, read: _ReadFile) -> FileEntry | None:
        artifact = read.queued.artifact
        if read.vanished:
            self.totals.vanished += 1
            self._add_name(artifact)
        elif read.problem:
            self._add_unreadable(artifact, read.problem)
        elif read.content is not None:
            data, sha256, mtime_ns, mark = read.content
            parts = self._packer.store(data, sha256, read.queued.old)
            return self._file(artifact, FileEntry(artifact.path, "file", len(data), sha256, mtime_ns, mark, parts))
        elif read.streamed is not None:
            done = read.streamed
            entry = FileEntry(artifact.path, "file", done.size, done.sha256, done.mtime_ns, done.mark, read.parts)
            return self._file(artifact, entry)
        return None

    def _file(self, artifact: Artifact, entry: FileEntry) -> FileEntry:
        if not entry.mark:
            self.totals.changed += 1
            self._add_name(artifact)
        return entry

    def _add_name(self, artifact: Artifact) -> None:
        if len(self.totals.names) < _MAX_NAMES:
            self.totals.names.append(shown(artifact.path))

    def _add_unreadable(self, artifact: Artifact, why: str) -> None:
        if len(self.totals.unreadable) < _MAX_NAMES:
            self.totals.unreadable.append(f"{shown(artifact.path)}: {why}")


def _changed_at(mark: str) -> int:
    """When a file last changed, nanoseconds since 1970; 0 for an etag."""
    match = _MARK.fullmatch(mark)
    return int(match[1]) if match else 0


def _leads_out(artifact: Artifact) -> bool:
    """Whether a link leads out of the store, by its text alone."""
    if artifact.target.startswith("/"):
        return True
    target = posixpath.normpath(posixpath.join(posixpath.dirname(artifact.path), artifact.target))
    return target == ".." or target.startswith("../")
