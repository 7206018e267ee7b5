"""Artifacts in S3, through obstore: many deletions in one request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

from mlflow_ae5_server.common import object_store, object_store_listing
from mlflow_ae5_server.common.errors import ProjectError
from mlflow_ae5_server.common.object_store_listing import Listed
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.gc.stores import JOURNAL, ArtifactFolder, StoredSize, StoreError

_AT_ONCE = 1000  # keys in one request, S3's own limit


class BucketStore:
    """A bucket, or a prefix in one, which is the root of the obstore `store`."""

    through_server = False

    def __init__(self, store: Any, shown: str, at_once: int = _AT_ONCE) -> None:
        self._store = store
        self._at_once = at_once
        self.shown = shown

    @classmethod
    def open(cls, url: str, at_once: int = _AT_ONCE) -> BucketStore:
        """The store at `url`. Raises StoreError."""
        try:
            return cls(object_store.open_store(url), scrub(url), at_once)
        except ProjectError as error:
            raise StoreError(error.message) from None

    @contextlib.contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise StoreError(f"{self.shown} cannot be {action}: {object_store.reason(error)}") from None

    def size(self, path: str) -> StoredSize | None:
        size = self.folder(path).size
        return size if size.files else None

    def remove(self, path: str) -> None:
        """Remove files and folder markers, also a marker of the folder above."""
        found, marked = self._list(path, markers=True), False
        while batch := list(islice(found, self._at_once)):
            marked = marked or any(one.is_marker for one in batch)
            self._delete(batch)
        above = path.rpartition("/")[0]
        if marked and above and next(self._list(above), None) is None:
            self._delete(list(self._list(above, markers=True)))

    def remove_empty(self, path: str) -> None:
        """Do nothing: there are no empty folders."""

    def top(self) -> set[str]:
        with self._errors("listed"):
            listing = self._store.list_with_delimiter()
        names = {str(item).strip("/").rpartition("/")[2] for item in listing["common_prefixes"]}
        names |= {str(item["path"]).rpartition("/")[2] for item in listing["objects"]}
        return {name for name in names if name and not name.startswith(JOURNAL)}

    def folders(self, path: str) -> list[str]:
        with self._errors("listed"):
            listing = self._store.list_with_delimiter(prefix=path or None)
        return sorted(str(item).strip("/").rpartition("/")[2] for item in listing["common_prefixes"])

    def folder(self, path: str) -> ArtifactFolder:
        files, size, newest = 0, 0, 0.0
        for item in self._list(path):
            files, size = files + 1, size + item.size
            newest = max(newest, item.modified.timestamp())
        return ArtifactFolder(path, StoredSize(files, size), newest)

    def journal_write(self, name: str, content: bytes) -> None:
        with self._errors("written to"):
            self._store.put(f"{JOURNAL}/{name}", content)

    def journal_read(self) -> Iterator[tuple[str, bytes]]:
        for item in sorted(self._list(JOURNAL), key=lambda item: item.key):
            yield item.key.rpartition("/")[2], bytes(self._store.get(item.path).bytes())

    def journal_drop(self, name: str) -> None:
        with self._errors("deleted from"):
            self._store.delete([f"{JOURNAL}/{name}"])

    def _list(self, path: str, *, markers: bool = False) -> Iterator[Listed]:
        listing = object_store_listing.everything if markers else object_store_listing.files
        with self._errors("listed"):
            yield from listing(self._store, path)

    def _delete(self, items: list[Listed]) -> None:
        with self._errors("deleted from"):
            object_store_listing.delete(self._store, items)
