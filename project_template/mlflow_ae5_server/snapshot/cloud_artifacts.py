"""Artifacts in an object store as the source of a snapshot."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from mlflow_ae5_server.errors import StorageError
from mlflow_ae5_server.snapshot import clouds
from mlflow_ae5_server.snapshot.artifacts import (
    CHUNK,
    SMALL,
    Content,
    Found,
    Streamed,
    UnreadableError,
    VanishedError,
)
from mlflow_ae5_server.snapshot.entries import key, text
from mlflow_ae5_server.snapshot.recover_beside import RESERVED

if TYPE_CHECKING:
    from obstore.store import ObjectStore


class CloudSource:
    """See Source. An object never changes while it is read: a store gives one version of it from begin to end."""

    def __init__(self, store: ObjectStore, shown: str) -> None:
        self.shown = shown
        self.threads = 16
        self._store = store

    def scan(self) -> Iterator[Found]:
        """The listing goes through a table on disk: stores do not promise the order that the list needs."""
        with contextlib.closing(sqlite3.connect("", isolation_level=None)) as table:
            table.executescript(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16000;"
                "CREATE TABLE found(path BLOB PRIMARY KEY, size INT, mtime_ns INT, mark TEXT) WITHOUT ROWID; BEGIN"
            )
            for metas in self._listing():
                table.executemany("INSERT OR REPLACE INTO found VALUES (?, ?, ?, ?)", map(_row, metas))
            for path, size, mtime_ns, mark in table.execute("SELECT * FROM found ORDER BY path"):
                # A marker that some tools leave for a folder is none, and what a restore keeps here is no artifact.
                if not path.endswith(b"/") and not path.startswith(RESERVED.encode()):
                    yield Found(text(path), "file", size, mtime_ns, mark)

    def _listing(self) -> Iterator[list[Any]]:
        import obstore
        from obstore.exceptions import InvalidPathError

        try:
            for metas in obstore.list(self._store, chunk_size=1000):
                yield list(metas)
        except InvalidPathError as error:
            raise StorageError(
                f"{self.shown} has an object whose name cannot be addressed: {clouds.said(error)}",
                "rename or remove it: names with control characters, empty parts, `.` or `..` cannot be copied",
            ) from None
        except Exception as error:
            raise clouds.translate(error, self.shown, "list") from None

    def whole(self, found: Found) -> Content | None:
        with self._reading():
            result = self._get(found)
            if result.meta["size"] > SMALL:
                return None
            data = bytes(result.bytes())
            _path, _size, mtime_ns, mark = _row(result.meta)
            return Content(data, hashlib.sha256(data).hexdigest(), mtime_ns, mark)

    def stream(self, found: Found, take: Callable[[bytes], None]) -> Streamed:
        digest, size = hashlib.sha256(), 0
        pending = bytearray()
        with self._reading():
            result = self._get(found)
            for piece in result.stream(min_chunk_size=CHUNK):
                data = memoryview(piece)
                digest.update(data)
                size += len(data)
                pending += data
                while len(pending) >= CHUNK:
                    take(bytes(pending[:CHUNK]))
                    del pending[:CHUNK]
            _path, expected, mtime_ns, mark = _row(result.meta)
        if size != expected:
            raise UnreadableError(f"{size} bytes came instead of {expected}")
        if pending:
            take(bytes(pending))
        return Streamed(size, digest.hexdigest(), mtime_ns, mark)

    def _get(self, found: Found) -> Any:
        import obstore

        return obstore.get(self._store, found.path)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError:
            raise VanishedError from None
        except BaseError as error:
            raise clouds.translate(error, self.shown, "read") from None


def _row(meta: Any) -> tuple[bytes, int, int, str]:
    """Path, size, time in ns and mark. The mark is the store's own word for one version of the content."""
    version = meta.get("e_tag") or meta.get("version") or ""
    mtime_ns = int(meta["last_modified"].timestamp() * 1e9)
    return key(str(meta["path"])), int(meta["size"]), mtime_ns, f"{version} {mtime_ns}" if version else ""
