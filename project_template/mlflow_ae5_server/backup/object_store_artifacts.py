"""Artifacts in an object store as the source of a snapshot."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from mlflow_ae5_server.backup.artifacts import (
    CHUNK,
    SMALL,
    Artifact,
    Content,
    Streamed,
    UnreadableError,
    VanishedError,
)
from mlflow_ae5_server.common import object_store, object_store_listing
from mlflow_ae5_server.common.object_store_listing import Listed
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.repository.entries import key, text
from mlflow_ae5_server.repository.temporary_database import open_temporary
from mlflow_ae5_server.restore.saved_copies import RESERVED

_BAD_NAME = "its name has an empty part, `.`, `..` or a control character; rename the object, or remove it"


class ObjectStoreArtifacts:
    """A store, whose objects never change while they are read."""

    def __init__(self, location: str) -> None:
        self.shown = scrub(location)
        self.threads = 16
        self._store = object_store.open_store(location)

    def scan(self) -> Iterator[Artifact]:
        """Sort the listing in a table on disk: stores guarantee no order."""
        columns = "path BLOB PRIMARY KEY, size INT, mtime_ns INT, mark TEXT"
        with contextlib.closing(open_temporary(f"CREATE TABLE listed({columns}) WITHOUT ROWID")) as table:
            listing = self._listing()
            while some := list(islice(listing, 1000)):
                rows = (_row(one.path, one.size, one.modified, one.e_tag) for one in some if one.path)
                table.executemany("INSERT OR REPLACE INTO listed VALUES (?, ?, ?, ?)", rows)
                for one in some:
                    if not one.path:
                        yield Artifact(one.key, "unreadable", one.size, 0, "", _BAD_NAME)
            for path, size, mtime_ns, mark in table.execute("SELECT * FROM listed ORDER BY path"):
                yield Artifact(text(path), "file", size, mtime_ns, mark)

    def _listing(self) -> Iterator[Listed]:
        with object_store.translated(self.shown, "list"):
            for one in object_store_listing.files(self._store):
                if not one.key.startswith(RESERVED):  # saved copies and the journal of a restore are no artifacts
                    yield one

    def whole(self, artifact: Artifact) -> Content | None:
        with self._reading(artifact):
            result = self._get(artifact)
            if result.meta["size"] > SMALL:
                return None
            data = bytes(result.bytes())
            _path, _size, mtime_ns, mark = _row_of(result.meta)
            return Content(data, hashlib.sha256(data).hexdigest(), mtime_ns, mark)

    def stream(self, artifact: Artifact, take: Callable[[bytes], None]) -> Streamed:
        digest, size = hashlib.sha256(), 0
        pending = bytearray()
        with self._reading(artifact):
            result = self._get(artifact)
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
            raise UnreadableError(f"{size} bytes were received instead of {expected}")
        if pending:
            take(bytes(pending))
        return Streamed(size, digest.hexdigest(), mtime_ns, mark)

    def _get(self, artifact: Artifact) -> Any:
        import obstore

        return obstore.get(self._store, artifact.path)

    @contextlib.contextmanager
    def _reading(self, artifact: Artifact) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError:
            if self._is_folder(artifact):
                raise UnreadableError(_BAD_NAME) from None
            raise VanishedError from None
        except BaseError as error:
            raise object_store.translate(error, self.shown, "read") from None

    def _is_folder(self, artifact: Artifact) -> bool:
        """Whether it exists under a name with a slash at its end."""
        import obstore

        return any(
            str(meta["path"]) == artifact.path for meta in next(iter(obstore.list(self._store, artifact.path)), ())
        )


def _row_of(meta: Any) -> tuple[bytes, int, int, str]:
    version = str(meta.get("e_tag") or meta.get("version") or "")
    return _row(str(meta["path"]), int(meta["size"]), meta["last_modified"], version)


def _row(path: str, size: int, modified: datetime, version: str) -> tuple[bytes, int, int, str]:
    """Path, size, time in ns and mark, the store's name for a version of the content."""
    mtime_ns = int(modified.timestamp() * 1e9)
    return key(path), size, mtime_ns, f"{version} {mtime_ns}" if version else ""
