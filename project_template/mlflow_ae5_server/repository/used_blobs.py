"""The blobs that snapshots refer to, in a table on disk."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator

from mlflow_ae5_server.repository.entries import FileEntry
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.repository import Repository
from mlflow_ae5_server.repository.temporary_database import open_temporary


class UsedBlobs:
    def __init__(self) -> None:
        self._last = ""
        self._table = open_temporary(
            "CREATE TABLE objects(sha BLOB PRIMARY KEY, size INT) WITHOUT ROWID;"
            "CREATE TABLE slices(object BLOB, start INT, length INT, total INT, sha BLOB)"
        )

    def collect(self, repository: Repository, manifest: Manifest) -> None:
        """Add everything that a snapshot uses. Raises SnapshotDamaged for its file list."""
        self.add(manifest.own_blobs)
        try:
            slices = self._slices(repository.files(manifest))
            self._table.executemany("INSERT INTO slices VALUES (?, ?, ?, ?, ?)", slices)
        finally:
            self._table.execute("CREATE INDEX IF NOT EXISTS within ON slices(object)")

    def _slices(self, entries: Iterable[FileEntry]) -> Iterator[tuple[bytes, int, int, int, bytes | None]]:
        """Add the blobs of `entries`; yield rows for those that are more than one whole file."""
        for entry in entries:
            self.add_entry(entry)
            alone = bytes.fromhex(entry.sha256) if len(entry.parts) == 1 else None
            for part in entry.parts if alone is None or entry.parts[0].sha256 != entry.sha256 else ():
                yield bytes.fromhex(part.sha256), part.offset, part.length, part.total, alone

    def add(self, digests: Iterable[str]) -> None:
        self._table.executemany(
            "INSERT OR IGNORE INTO objects VALUES (?, NULL)", ((bytes.fromhex(sha),) for sha in digests)
        )

    def add_entry(self, entry: FileEntry) -> None:
        for part in entry.parts:
            if part.sha256 != self._last:
                self._last = part.sha256
                self.add([self._last])

    def mark_stored(self, sizes: Iterator[tuple[str, int]]) -> None:
        """Note which blobs the repository has, by digest and size there."""
        self._table.executemany(
            "UPDATE objects SET size = ? WHERE sha = ?", ((size, bytes.fromhex(sha)) for sha, size in sizes)
        )

    def count(self) -> int:
        return int(self._table.execute("SELECT count(*) FROM objects").fetchone()[0])

    def missing(self) -> list[str]:
        return [row[0].hex() for row in self._table.execute("SELECT sha FROM objects WHERE size IS NULL")]

    def stored(self, fraction: float = 1.0, suspects: Collection[str] = ()) -> list[bytes]:
        """The digests of the stored ones: all, or a random share and the suspects among them."""
        digests = [row[0] for row in self._table.execute("SELECT sha FROM objects WHERE size IS NOT NULL")]
        if fraction < 1 and digests:
            suspected = {bytes.fromhex(sha256) for sha256 in suspects}.intersection(digests)
            chosen = random.SystemRandom().sample(digests, max(1, round(len(digests) * fraction)))
            digests = list(suspected.union(chosen))
        return digests

    def unused(self, blobs: Iterator[tuple[str, int]]) -> Iterator[tuple[str, int]]:
        """Those of (digest, size) that no snapshot uses."""
        for sha256, size in blobs:
            query = "SELECT 1 FROM objects WHERE sha = ?"
            if self._table.execute(query, (bytes.fromhex(sha256),)).fetchone() is None:
                yield sha256, size

    def slices(self, sha256: str) -> list[tuple[int, int, int, bytes | None]]:
        """Contents inside a blob: offset, length, its size, digest (None for a part)."""
        query = "SELECT DISTINCT start, length, total, sha FROM slices WHERE object = ?"
        return self._table.execute(query, (bytes.fromhex(sha256),)).fetchall()

    def close(self) -> None:
        self._table.close()
