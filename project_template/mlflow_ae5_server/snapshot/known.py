"""Which objects there are, and where small contents lie in shared ones: tables on disk, so that memory stays small."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator


class Known:
    """Safe for several threads. Lives in a temporary file that SQLite makes only when it is large."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16000;"
            "CREATE TABLE objects(sha BLOB PRIMARY KEY) WITHOUT ROWID;"
            "CREATE TABLE claimed(sha BLOB PRIMARY KEY) WITHOUT ROWID;"
            "CREATE TABLE slices(sha BLOB PRIMARY KEY, object BLOB, start INT, length INT, total INT) WITHOUT ROWID;"
            "BEGIN"
        )

    def add(self, objects: Iterable[str]) -> None:
        """Objects that are in the place."""
        with self._lock:
            self._database.executemany(
                "INSERT OR IGNORE INTO objects VALUES (?)", ((bytes.fromhex(sha),) for sha in objects)
            )

    def has(self, sha256: str) -> bool:
        with self._lock:
            query = "SELECT 1 FROM objects WHERE sha = ?"
            return self._database.execute(query, (bytes.fromhex(sha256),)).fetchone() is not None

    def present(self, sha256: str) -> bool:
        """In the place, or being put there by this run."""
        digest = (bytes.fromhex(sha256),)
        with self._lock:
            return (
                self._database.execute("SELECT 1 FROM objects WHERE sha = ?", digest).fetchone() is not None
                or self._database.execute("SELECT 1 FROM claimed WHERE sha = ?", digest).fetchone() is not None
            )

    def claim(self, sha256: str) -> bool:
        """True for whoever asks first in this run, and is to see to it."""
        with self._lock:
            cursor = self._database.execute("INSERT OR IGNORE INTO claimed VALUES (?)", (bytes.fromhex(sha256),))
            return cursor.rowcount == 1

    def add_slices(self, slices: Iterable[tuple[str, str, int, int, int]]) -> None:
        """Contents inside shared objects: digest, object, offset, length, size of the object."""
        rows = ((bytes.fromhex(sha), bytes.fromhex(within), *rest) for sha, within, *rest in slices)
        with self._lock:
            self._database.executemany("INSERT OR IGNORE INTO slices VALUES (?, ?, ?, ?, ?)", rows)

    def slice(self, sha256: str) -> tuple[str, int, int, int] | None:
        with self._lock:
            row = self._database.execute(
                "SELECT object, start, length, total FROM slices WHERE sha = ?", (bytes.fromhex(sha256),)
            ).fetchone()
        return (row[0].hex(), row[1], row[2], row[3]) if row else None

    def objects(self) -> Iterator[str]:
        for (sha,) in self._database.execute("SELECT sha FROM objects ORDER BY sha"):
            yield sha.hex()

    def close(self) -> None:
        self._database.close()
