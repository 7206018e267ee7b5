"""Artifacts in an object store as the source of a snapshot."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from mlflow_ae5_server.backup.artifacts import (
    CHUNK,
    SMALL,
    Content,
    FoundArtifact,
    Streamed,
    UnreadableError,
    VanishedError,
)
from mlflow_ae5_server.common import object_store, object_store_listing
from mlflow_ae5_server.common.object_store_listing import Listed
from mlflow_ae5_server.repository.entries import key, text
from mlflow_ae5_server.restore.saved_copies import RESERVED

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_BAD_NAME = "its name has an empty part, `.`, `..` or a control character; rename the object, or remove it"


class ObjectStoreArtifacts:
    """See Source. An object never changes while it is read: a store gives one version of it from begin to end."""

    def __init__(self, store: ObjectStore, shown: str) -> None:
        self.shown = shown
        self.threads = 16
        self._store = store

    def scan(self) -> Iterator[FoundArtifact]:
        """The listing goes through a table on disk: stores do not promise the order that the list needs."""
        with contextlib.closing(sqlite3.connect("", isolation_level=None)) as table:
            table.executescript(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16000;"
                "CREATE TABLE found(path BLOB PRIMARY KEY, size INT, mtime_ns INT, mark TEXT) WITHOUT ROWID; BEGIN"
            )
            listing = self._listing()
            while some := list(islice(listing, 1000)):
                rows = (_row(one.path, one.size, one.modified, one.e_tag) for one in some if one.path)
                table.executemany("INSERT OR REPLACE INTO found VALUES (?, ?, ?, ?)", rows)
                for one in some:
                    if not one.path:
                        yield FoundArtifact(one.key, "unreadable", one.size, 0, "", _BAD_NAME)
            for path, size, mtime_ns, mark in table.execute("SELECT * FROM found ORDER BY path"):
                yield FoundArtifact(text(path), "file", size, mtime_ns, mark)

    def _listing(self) -> Iterator[Listed]:
        try:
            for one in object_store_listing.files(self._store):
                if not one.key.startswith(RESERVED):  # what a restore keeps here is no artifact
                    yield one
        except Exception as error:
            raise object_store.translate(error, self.shown, "list") from None

    def whole(self, found: FoundArtifact) -> Content | None:
        with self._reading(found):
            result = self._get(found)
            if result.meta["size"] > SMALL:
                return None
            data = bytes(result.bytes())
            _path, _size, mtime_ns, mark = _row_of(result.meta)
            return Content(data, hashlib.sha256(data).hexdigest(), mtime_ns, mark)

    def stream(self, found: FoundArtifact, take: Callable[[bytes], None]) -> Streamed:
        digest, size = hashlib.sha256(), 0
        pending = bytearray()
        with self._reading(found):
            result = self._get(found)
            for piece in result.stream(min_chunk_size=CHUNK):
                data = memoryview(piece)
                digest.update(data)
                size += len(data)
                pending += data
                while len(pending) >= CHUNK:
                    take(bytes(pending[:CHUNK]))
                    del pending[:CHUNK]
            _path, expected, mtime_ns, mark = _row_of(result.meta)
        if size != expected:
            raise UnreadableError(f"{size} bytes came instead of {expected}")
        if pending:
            take(bytes(pending))
        return Streamed(size, digest.hexdigest(), mtime_ns, mark)

    def _get(self, found: FoundArtifact) -> Any:
        import obstore

        return obstore.get(self._store, found.path)

    @contextlib.contextmanager
    def _reading(self, found: FoundArtifact) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError:
            if self._is_folder(found):
                raise UnreadableError(_BAD_NAME) from None
            raise VanishedError from None
        except BaseError as error:
            raise object_store.translate(error, self.shown, "read") from None

    def _is_folder(self, found: FoundArtifact) -> bool:
        """Whether it is there under a name with a slash at its end, which is no marker, as it has content."""
        import obstore

        return any(str(meta["path"]) == found.path for meta in next(iter(obstore.list(self._store, found.path)), ()))


def _row_of(meta: Any) -> tuple[bytes, int, int, str]:
    version = str(meta.get("e_tag") or meta.get("version") or "")
    return _row(str(meta["path"]), int(meta["size"]), meta["last_modified"], version)


def _row(path: str, size: int, modified: datetime, version: str) -> tuple[bytes, int, int, str]:
    """Path, size, time in ns and mark. The mark is the store's own word for one version of the content."""
    mtime_ns = int(modified.timestamp() * 1e9)
    return key(path), size, mtime_ns, f"{version} {mtime_ns}" if version else ""
