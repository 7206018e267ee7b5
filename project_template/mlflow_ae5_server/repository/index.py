"""Which objects there are, and where small contents lie in shared ones: tables on disk, so that memory stays small."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable

_BITS = 1 << 23


class BlobIndex:
    """Safe for several threads. Lives in a temporary file that SQLite makes only when it is large.

    What is not known at all, which is most of a first backup, is told from a bitmap without asking the tables.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._maybe = bytearray(_BITS // 8)
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16000;"
            "CREATE TABLE objects(sha BLOB PRIMARY KEY) WITHOUT ROWID;"
            "CREATE TABLE claimed(sha BLOB PRIMARY KEY) WITHOUT ROWID;"
            "CREATE TABLE slices(sha BLOB PRIMARY KEY, object BLOB, start INT, length INT, total INT) WITHOUT ROWID;"
            "BEGIN"
        )

    def _remember(self, sha256: str) -> bytes:
        backend = int(sha256[:6], 16) % _BITS
        self._maybe[backend >> 3] |= 1 << (backend & 7)
        return bytes.fromhex(sha256)

    def _may_have(self, sha256: str) -> bool:
        backend = int(sha256[:6], 16) % _BITS
        return bool(self._maybe[backend >> 3] >> (backend & 7) & 1)

    def add(self, objects: Iterable[str]) -> None:
        """Objects that are in the place."""
        with self._lock:
            self._database.executemany(
                "INSERT OR IGNORE INTO objects VALUES (?)", ((self._remember(sha),) for sha in objects)
            )

    def has(self, sha256: str) -> bool:
        """In the place, before this run."""
        with self._lock:
            return self._may_have(sha256) and self._find("objects", sha256)

    def discard(self, sha256: str) -> None:
        """It is not in the place, or not as it should be."""
        with self._lock:
            self._database.execute("DELETE FROM objects WHERE sha = ?", (bytes.fromhex(sha256),))

    def claimed(self, sha256: str) -> bool:
        """Stored by this run, or read by it and right."""
        with self._lock:
            return self._may_have(sha256) and self._find("claimed", sha256)

    def present(self, sha256: str) -> bool:
        """In the place, or being put there by this run."""
        with self._lock:
            return self._may_have(sha256) and (self._find("objects", sha256) or self._find("claimed", sha256))

    def _find(self, table: str, sha256: str) -> bool:
        query = f"SELECT 1 FROM {table} WHERE sha = ?"  # noqa: S608 - one of two names
        return self._database.execute(query, (bytes.fromhex(sha256),)).fetchone() is not None

    def claim(self, sha256: str) -> bool:
        """True for whoever asks first in this run, and is to see to it."""
        with self._lock:
            cursor = self._database.execute("INSERT OR IGNORE INTO claimed VALUES (?)", (self._remember(sha256),))
            return cursor.rowcount == 1

    def add_slices(self, slices: Iterable[tuple[str, str, int, int, int]]) -> None:
        """Contents inside shared objects: digest, object, offset, length, size of the object."""
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
        return (row[0].hex(), row[1], row[2], row[3]) if row else None

    def close(self) -> None:
        self._database.close()
