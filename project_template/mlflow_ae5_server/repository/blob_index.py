"""Index of the stored blobs and of the contents inside packs, in tables on disk."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from mlflow_ae5_server.repository.temporary_database import open_temporary

_BITS = 1 << 23


class BlobIndex:
    """Safe for several threads.

    A bitmap answers for digests that were never added, most of those in a first backup, without asking the tables.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bitmap = bytearray(_BITS // 8)
        self._database = open_temporary(
            "CREATE TABLE objects(sha BLOB PRIMARY KEY) WITHOUT ROWID;"
            "CREATE TABLE claimed(sha BLOB PRIMARY KEY) WITHOUT ROWID;"
            "CREATE TABLE slices(sha BLOB PRIMARY KEY, object BLOB, start INT, length INT, total INT) WITHOUT ROWID"
        )

    def _remember(self, sha256: str) -> bytes:
        bit = int(sha256[:6], 16) % _BITS
        self._bitmap[bit >> 3] |= 1 << (bit & 7)
        return bytes.fromhex(sha256)

    def _may_have(self, sha256: str) -> bool:
        bit = int(sha256[:6], 16) % _BITS
        return bool(self._bitmap[bit >> 3] >> (bit & 7) & 1)

    def add(self, blobs: Iterable[str]) -> None:
        """Blobs that are in the repository."""
        with self._lock:
            self._database.executemany(
                "INSERT OR IGNORE INTO objects VALUES (?)", ((self._remember(sha),) for sha in blobs)
            )

    def has(self, sha256: str) -> bool:
        """Whether it was in the repository before this run."""
        with self._lock:
            return self._may_have(sha256) and self._find("objects", sha256)

    def discard(self, sha256: str) -> None:
        """Remove a blob that is missing or damaged."""
        with self._lock:
            self._database.execute("DELETE FROM objects WHERE sha = ?", (bytes.fromhex(sha256),))

    def claimed(self, sha256: str) -> bool:
        """Whether this run stored it, or read it and found it right."""
        with self._lock:
            return self._may_have(sha256) and self._find("claimed", sha256)

    def present(self, sha256: str) -> bool:
        """Whether it is in the repository, or this run is storing it."""
        with self._lock:
            return self._may_have(sha256) and (self._find("objects", sha256) or self._find("claimed", sha256))

    def _find(self, table: str, sha256: str) -> bool:
        query = f"SELECT 1 FROM {table} WHERE sha = ?"  # noqa: S608 - one of two names
        return self._database.execute(query, (bytes.fromhex(sha256),)).fetchone() is not None

    def claim(self, sha256: str) -> bool:
        """True for the first caller in this run, who has to store the blob."""
        with self._lock:
            cursor = self._database.execute("INSERT OR IGNORE INTO claimed VALUES (?)", (self._remember(sha256),))
            return cursor.rowcount == 1

    def add_slices(self, slices: Iterable[tuple[str, str, int, int, int]]) -> None:
        """Contents inside packs: digest, pack, offset, length, size of the pack."""
        with self._lock:
            self._database.executemany(
                "INSERT OR IGNORE INTO slices VALUES (?, ?, ?, ?, ?)",
                ((self._remember(sha), bytes.fromhex(within), *rest) for sha, within, *rest in slices),
            )

    def slice(self, sha256: str) -> tuple[str, int, int, int] | None:
        with self._lock:
            if not self._may_have(sha256):
                return None
            row = self._database.execute(
                "SELECT object, start, length, total FROM slices WHERE sha = ?", (bytes.fromhex(sha256),)
            ).fetchone()
        return (row[0].hex(), *row[1:]) if row else None

    def close(self) -> None:
        self._database.close()
