"""Saved copies of artifacts in an object store; see saved_copies.py."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mlflow_ae5_server.common import object_store, object_store_listing
from mlflow_ae5_server.common.object_store_listing import Listed
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.restore.saved_copies import COUNTED, JOURNAL, MAX_JOURNAL, RESERVED, SavedSize, damaged_journal

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# Bytes of the largest object that a store copies by itself. S3 copies larger ones only in parts; Azure may answer
# before it has copied, and the original is deleted after the answer.
_SERVER_COPY = {"s3": 5 * 1024**3, "gs": 5 * 1024**3, "azure": -1}
_THREADS = 16


class ObjectStoreSavedCopies:
    def __init__(self, destination: str, server_copy: int | None = None) -> None:
        self._server_copy = _SERVER_COPY[object_store.kind(destination)] if server_copy is None else server_copy
        self.shown = scrub(destination)
        parts = urlsplit(destination)
        above, _, self._name = parts.path.strip("/").rpartition("/")
        self._store: ObjectStore = object_store.open_store(parts._replace(path=f"/{above}" if above else "").geturl())

    def read_journal(self) -> bytes | None:
        import obstore

        with object_store.translated(self.shown, "read"):
            try:
                journal = obstore.get(self._store, self._at(JOURNAL))
            except FileNotFoundError:
                return None
            if (size := journal.meta["size"]) <= MAX_JOURNAL:
                return bytes(journal.bytes())
        raise damaged_journal(self.shown, f"has {size} bytes")

    def write_journal(self, data: bytes | None) -> None:
        import obstore

        with object_store.translated(self.shown, "write to"):
            if data is None:
                with contextlib.suppress(FileNotFoundError):
                    obstore.delete(self._store, self._at(JOURNAL))
            else:
                obstore.put(self._store, self._at(JOURNAL), data, use_multipart=False)

    def contents(self, name: str | None = None) -> SavedSize | None:
        with object_store.translated(self.shown, "list"):
            object_prefix = self._name if name is None else self._at(name)
            objects = list(islice(self._objects(object_prefix), COUNTED + 1))
        if not objects:
            return None
        counted = objects[:COUNTED]
        return SavedSize(len(counted), sum(one.size for one in counted), objects[0].key, len(objects) > len(counted))

    def save(self, name: str) -> None:
        self._move(self._name, self._at(name))

    def bring_back(self, name: str) -> None:
        self._move(self._at(name), self._name)

    def exists(self, name: str) -> bool:
        with object_store.translated(self.shown, "list"):
            return next(self._objects(self._at(name)), None) is not None

    def drop(self, name: str) -> None:
        with object_store.translated(self.shown, "delete in"):
            object_store_listing.delete(self._store, self._objects(self._at(name)))

    def _move(self, source: str, target: str) -> None:
        import obstore

        def copy(one: Listed) -> Listed:
            to = f"{target}/{one.key[len(source) :].removeprefix('/')}".removeprefix("/")
            if not one.path:
                object_store_listing.copy_unaddressable(self._store, one.key, to)
            elif one.size > self._server_copy:
                obstore.put(self._store, to, object_store.read_ahead(iter(obstore.get(self._store, one.path).stream())))
            else:
                obstore.copy(self._store, one.path, to)
            return one

        with object_store.translated(self.shown, "move in"), ThreadPoolExecutor(_THREADS) as threads:
            objects = self._objects(source)
            while chunk := list(islice(objects, 1000)):
                # Only what has been copied is deleted, and only after it has.
                object_store_listing.delete(self._store, list(threads.map(copy, chunk)))

    def _objects(self, prefix: str) -> Iterator[Listed]:
        for one in object_store_listing.files(self._store, prefix):
            if prefix or not one.key.startswith(RESERVED):
                yield one

    def _at(self, suffix: str) -> str:
        return f"{self._name}.{suffix}" if self._name else f"{RESERVED}{suffix}"
