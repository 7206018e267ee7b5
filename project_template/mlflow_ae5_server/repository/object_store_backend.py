"""A prefix in an object store as the place of snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from mlflow_ae5_server.common import object_store, object_store_listing
from mlflow_ae5_server.common.errors import DamagedError
from mlflow_ae5_server.repository.backend import INTRUDER, MOST, BackendFile

if TYPE_CHECKING:
    from obstore.store import ObjectStore


class ObjectStoreBackend:
    """See Place. The stores are strongly consistent: what was written is listed and durable when `put` returns."""

    def __init__(self, store: ObjectStore, shown: str) -> None:
        self.shown = shown
        self.threads = 8
        self._store = store

    def read(self, name: str) -> bytes | None:
        import obstore

        try:
            found = obstore.get(self._store, name)
            size = found.meta["size"]
            if size <= MOST:
                return bytes(found.bytes())
        except FileNotFoundError:
            return None
        except Exception as error:
            raise object_store.translate(error, self.shown, "read") from None
        raise DamagedError(
            f"{name} in {self.shown} has {size} bytes, more than any file of a backup",
            INTRUDER,
        )

    def write(self, name: str, data: bytes) -> None:
        import obstore

        try:
            obstore.put(self._store, name, data, use_multipart=False)
        except Exception as error:
            raise object_store.translate(error, self.shown, "write to") from None

    def create(self, name: str, data: bytes) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotSupportedError

        try:
            obstore.put(self._store, name, data, mode="create")
        except AlreadyExistsError:
            return self.read(name) == data  # a repeated request that had come through
        except NotSupportedError:
            return self._create_unguarded(name, data)
        except Exception as error:
            raise object_store.translate(error, self.shown, "write to") from None
        return True

    def _create_unguarded(self, name: str, data: bytes) -> bool:
        """For S3-like stores without conditional writes: look, write, and look who was last."""
        if self.read(name) is not None:
            return False
        self.write(name, data)
        return self.read(name) == data

    def items(self, prefix: str) -> Iterator[BackendFile]:
        try:
            for one in object_store_listing.files(self._store, prefix):
                if one.path or not prefix:  # what cannot be addressed is something else, or nobody's
                    yield BackendFile(one.key, one.size, one.modified.timestamp())
        except Exception as error:
            raise object_store.translate(error, self.shown, "list") from None

    def delete(self, names: Iterable[str]) -> None:
        pending = iter(names)
        while chunk := list(islice(pending, 1000)):
            try:
                object_store.delete(self._store, chunk)
            except Exception as error:
                raise object_store.translate(error, self.shown, "delete in") from None

    def sync(self) -> None:
        """Nothing to do: see the class."""

    def prepare(self) -> None:
        """Nothing to do: a bucket is the administrator's to make."""

    def clean(self) -> None:
        """Nothing to do: half a request leaves nothing."""

    def set_room_aside(self) -> None:
        """Nothing to do: an object store is never full."""

    def give_room(self) -> None:
        """Nothing to do: see above."""
