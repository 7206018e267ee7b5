"""A prefix in an object store as the storage of a repository."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from mlflow_ae5_server.common import object_store, object_store_listing
from mlflow_ae5_server.common.errors import SnapshotDamaged
from mlflow_ae5_server.repository.backend import INTRUDER, MAX_FILE, Backend, BackendFile

if TYPE_CHECKING:
    from obstore.store import ObjectStore


class ObjectStoreBackend(Backend):
    """A prefix in an object store.

    Needs none of the inherited methods: a file is listed and durable when `put` returns, a failed request leaves
    nothing, the store is never full, and the administrator creates the bucket.
    """

    def __init__(self, store: ObjectStore, shown: str) -> None:
        self.shown = shown
        self.threads = 8
        self._store = store

    def read(self, name: str) -> bytes | None:
        import obstore

        with object_store.translated(self.shown, "read"):
            try:
                answer = obstore.get(self._store, name)
            except FileNotFoundError:
                return None
            if (size := answer.meta["size"]) <= MAX_FILE:
                return bytes(answer.bytes())
        raise SnapshotDamaged(f"{name} in {self.shown} has {size} bytes, more than any file of a backup", INTRUDER)

    def write(self, name: str, data: bytes) -> None:
        import obstore

        with object_store.translated(self.shown, "write to"):
            obstore.put(self._store, name, data, use_multipart=False)

    def create(self, name: str, data: bytes) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotSupportedError

        with object_store.translated(self.shown, "write to"):
            try:
                obstore.put(self._store, name, data, mode="create")
            except AlreadyExistsError:
                return self.read(name) == data  # a repeated request, of which the first had succeeded
            except NotSupportedError:  # S3-like stores without conditional writes: read, write, read who was last
                if self.read(name) is not None:
                    return False
                self.write(name, data)
                return self.read(name) == data
        return True

    def items(self, prefix: str) -> Iterator[BackendFile]:
        with object_store.translated(self.shown, "list"):
            for one in object_store_listing.files(self._store, prefix):
                if one.path or not prefix:  # names that obstore cannot address are not ours
                    yield BackendFile(one.key, one.size, one.modified.timestamp())

    def delete(self, names: Iterable[str]) -> None:
        pending = iter(names)
        while chunk := list(islice(pending, 1000)):
            with object_store.translated(self.shown, "delete in"):
                object_store.delete(self._store, chunk)
