"""An object store as the target of a restore; see target.py."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import obstore

from mlflow_ae5_server.common import object_store, object_store_listing
from mlflow_ae5_server.repository.entries import FileEntry
from mlflow_ae5_server.restore.saved_copies import RESERVED

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PIECE = 1024 * 1024
_LONGEST_KEY = 1024  # bytes, in all three clouds
_MULTIPART = 16 * 1024 * 1024  # bytes; larger files go up in parts


class ObjectStoreTarget:
    nests = True

    def __init__(self, store: ObjectStore, shown: str) -> None:
        self.shown = shown
        self.threads = 16
        self._store = store

    def refusal(self, entry: FileEntry) -> str:
        try:
            name = entry.path.encode()
        except UnicodeEncodeError:
            return "an object store's names are UTF-8, and this one is not"
        if entry.path.startswith(RESERVED):
            return "the name is reserved"
        if object_store_listing.CONTROL.search(entry.path):
            return "an object store takes no line breaks and control characters in names"
        return f"the name is longer than {_LONGEST_KEY} bytes" if len(name) > _LONGEST_KEY else ""

    def prepare(self) -> None:
        """Nothing to do: a bucket has to exist."""

    def write(self, entry: FileEntry, chunks: Iterator[memoryview]) -> tuple[int, str] | None:
        with object_store.translated(self.shown, "write to"):
            if entry.size <= _MULTIPART:
                obstore.put(self._store, entry.path, b"".join(chunks), use_multipart=False)
            else:
                parts = object_store.read_ahead(chunks)
                obstore.put(self._store, entry.path, parts, chunk_size=_MULTIPART, max_concurrency=2)
        return self.digest(entry.path)

    def digest(self, path: str) -> tuple[int, str] | None:
        digest, size = hashlib.sha256(), 0
        with object_store.translated(self.shown, "read"):
            try:
                for piece in obstore.get(self._store, path).stream(min_chunk_size=_PIECE):
                    digest.update(piece)
                    size += len(piece)
            except FileNotFoundError:
                return None
        return size, digest.hexdigest()

    def size(self, path: str) -> int | None:
        with object_store.translated(self.shown, "read"):
            try:
                return int(obstore.head(self._store, path)["size"])
            except FileNotFoundError:
                return None

    def link(self, entry: FileEntry) -> bool:  # noqa: ARG002 - the protocol's
        return False

    def count(self) -> int:
        with object_store.translated(self.shown, "list"):
            return sum(not one.key.startswith(RESERVED) for one in object_store_listing.files(self._store))

    def sync(self) -> None:
        """Nothing to do: an object is durable when the store has answered."""
