"""Small contents, one after another, in objects that they share; and the list, which must wait for those objects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from mlflow_ae5_server.repository.blobs import BlobWriter
from mlflow_ae5_server.repository.entries import FileEntry, FilePart
from mlflow_ae5_server.repository.file_list import FileListWriter
from mlflow_ae5_server.repository.index import BlobIndex

_PACK = 4 * 1024 * 1024  # bytes: a shared object is closed before it gets larger
_WAITING = 20_000  # entries that may wait for their shared object
_RECENT = 50_000  # contents of objects just closed that are remembered in memory
_OPEN = ""  # in place of the digest of the object that is not closed yet


class PackWriter:
    """Used from one thread. `store` is given the digest and content of an object, and may do it later."""

    def __init__(
        self,
        known: BlobIndex,
        writer: BlobWriter,
        lists: FileListWriter,
        store: Callable[[str, bytes], None],
        load_slices: Callable[[], None],
    ) -> None:
        self._known = known
        self._writer = writer
        self._lists = lists
        self._store = store
        self._load_slices: Callable[[], None] | None = load_slices
        self._pack = bytearray()
        self._inside: dict[str, FilePart] = {}  # the object that is open
        self._recent: dict[str, FilePart] = {}
        self._waiting: list[FileEntry] = []

    def add(self, entry: FileEntry) -> None:
        """The next one of the list."""
        if self._waiting or (entry.parts and entry.parts[0].sha256 == _OPEN):
            self._waiting.append(entry)
            if len(self._waiting) >= _WAITING:
                self.close()
        else:
            self._lists.add(entry)

    def store(self, data: bytes, sha256: str, old: FileEntry | None) -> tuple[FilePart, ...]:
        """Where `data` is, or is going to be. An object that was there before is referred to only if it is right."""
        size = len(data)
        if not size:
            return ()
        if old is not None and old.sha256 == sha256 and self._writer.proves(old.parts):
            return old.parts
        if (part := self._inside.get(sha256) or self._recent.get(sha256)) is not None:
            return (part,)
        if self._writer.proves(whole := (FilePart(sha256, 0, size, size),)):
            return whole
        if self._load_slices is not None:
            self._load_slices()
            self._load_slices = None
        if (found := self._known.slice(sha256)) is not None and self._writer.proves(parts := (FilePart(*found),)):
            return parts
        if len(self._pack) + size > _PACK:
            self.close()
        part = self._inside[sha256] = FilePart(_OPEN, len(self._pack), size, 0)
        self._pack += data
        return (part,)

    def close(self) -> None:
        """End the object that is open, and let go of what waited for it."""
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
                self._known.add_slices((digest, *part) for digest, part in self._recent.items())
                self._recent = {}
        waiting, self._waiting = self._waiting, []
        for entry in waiting:
            if entry.parts and entry.parts[0].sha256 == _OPEN:
                part = entry.parts[0]
                entry = entry._replace(parts=(FilePart(sha256, part.offset, part.length, total),))
            self._lists.add(entry)
