"""Join small contents in packs; hold back the file list until a pack is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from mlflow_ae5_server.repository.blob_index import BlobIndex
from mlflow_ae5_server.repository.blobs import BlobWriter
from mlflow_ae5_server.repository.entries import FileEntry, FilePart
from mlflow_ae5_server.repository.file_list import FileListWriter

_MAX_PACK = 4 * 1024 * 1024  # bytes
_MAX_PENDING = 20_000  # entries that may wait for their pack
_RECENT = 50_000  # contents of closed packs that are remembered in memory
_OPEN = ""  # instead of the digest of the pack that is still open


class PackWriter:
    """Collects contents, for one thread; `store` may store a pack later."""

    def __init__(
        self,
        index: BlobIndex,
        writer: BlobWriter,
        lists: FileListWriter,
        store: Callable[[str, bytes], None],
        load_slices: Callable[[], None],
    ) -> None:
        self._index = index
        self._writer = writer
        self._lists = lists
        self._store = store
        self._load_slices: Callable[[], None] | None = load_slices
        self._pack = bytearray()
        self._inside: dict[str, FilePart] = {}  # the open pack
        self._recent: dict[str, FilePart] = {}
        self._pending: list[FileEntry] = []

    def add(self, entry: FileEntry) -> None:
        """Append the next entry of the file list."""
        if self._pending or (entry.parts and entry.parts[0].sha256 == _OPEN):
            self._pending.append(entry)
            if len(self._pending) >= _MAX_PENDING:
                self.close()
        else:
            self._lists.add(entry)

    def store(self, data: bytes, sha256: str, old: FileEntry | None) -> tuple[FilePart, ...]:
        """The parts that hold `data` or will; reads older blobs before it reuses them."""
        size = len(data)
        if not size:
            return ()
        if old is not None and old.sha256 == sha256 and self._writer.verify_all(old.parts):
            return old.parts
        if (part := self._inside.get(sha256) or self._recent.get(sha256)) is not None:
            return (part,)
        if self._writer.verify_all(whole := (FilePart(sha256, 0, size, size),)):
            return whole
        if self._load_slices is not None:
            self._load_slices()
            self._load_slices = None
        if (found := self._index.slice(sha256)) is not None and self._writer.verify_all(parts := (FilePart(*found),)):
            return parts
        if len(self._pack) + size > _MAX_PACK:
            self.close()
        part = self._inside[sha256] = FilePart(_OPEN, len(self._pack), size, 0)
        self._pack += data
        return (part,)

    def close(self) -> None:
        """Store the open pack, and append the entries that waited for it."""
        total, sha256 = len(self._pack), ""
        if total:
            data = bytes(self._pack)
            sha256 = hashlib.sha256(data).hexdigest()
            self._pack = bytearray()
            self._store(sha256, data)
            for digest, part in self._inside.items():
                self._recent[digest] = FilePart(sha256, part.offset, part.length, total)
            self._inside = {}
            if len(self._recent) > _RECENT:
                self._index.add_slices((digest, *part) for digest, part in self._recent.items())
                self._recent = {}
        pending, self._pending = self._pending, []
        for entry in pending:
            if entry.parts and entry.parts[0].sha256 == _OPEN:
                part = entry.parts[0]
                entry = entry._replace(parts=(FilePart(sha256, part.offset, part.length, total),))
            self._lists.add(entry)
