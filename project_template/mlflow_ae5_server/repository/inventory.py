"""The objects that a place has, by one listing, and whether a snapshot can be restored as far as that tells.

It tells that an object is there and not empty. Whether it is its content, only `verify` can say, which reads it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow_ae5_server.common.errors import DamagedError, StorageError
from mlflow_ae5_server.common.text import counted
from mlflow_ae5_server.repository import damage
from mlflow_ae5_server.repository.check import MISSING, BlobUses, database_objects
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.repository import Repository


@dataclass(frozen=True)
class MissingBlob:
    """What a snapshot lacks: objects by name, and all of it in words."""

    missing: tuple[str, ...]
    message: str


class Inventory:
    """In a table on disk, so that memory stays small. `lacks`: of the snapshots that were looked at and lack something,
    by the name of their file."""

    def __init__(self, repository: Repository) -> None:
        self.lacks: dict[str, MissingBlob] = {}
        self._repository = repository
        self._table = sqlite3.connect("", isolation_level=None)
        self._table.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16000;"
            "CREATE TABLE objects(sha BLOB, size INT); BEGIN"
        )
        rows = ((bytes.fromhex(sha256), size) for sha256, size in repository.objects())
        self._table.executemany("INSERT INTO objects VALUES (?, ?)", rows)

    def objects(self) -> Iterator[tuple[str, int]]:
        """Digest, and size as kept."""
        for sha, size in self._table.execute("SELECT sha, size FROM objects"):
            yield sha.hex(), size

    def has_all_of(self, manifest: Manifest) -> bool:
        """Whether its list can be read, and every object of it is there."""
        if manifest.name not in self.lacks and (lack := self._look(manifest)) is not None:
            self.lacks[manifest.name] = lack
        return manifest.name not in self.lacks

    def _look(self, manifest: Manifest) -> MissingBlob | None:
        unread = ""
        with contextlib.closing(BlobUses()) as uses:
            try:
                uses.collect(self._repository, manifest)
            except DamagedError as error:
                unread = f"its list of artifacts cannot be read: {error.message}"
                uses.add([*database_objects(manifest), *manifest.artifacts.lists])
            uses.present(self.objects())
            missing = tuple(uses.missing())
        message = [f"{counted(len(missing), 'objects')} missing"] if missing else []
        message += [unread] if unread and not set(missing).intersection(manifest.artifacts.lists) else []
        return MissingBlob(missing, "; ".join(message)) if message else None

    def note(self) -> str:
        """Remember what is missing, as `verify` does; why that could not be done, in words."""
        missing = {sha256 for lack in self.lacks.values() for sha256 in lack.missing}
        try:
            damage.note(self._repository.backend, ((sha256, MISSING) for sha256 in sorted(missing)))
        except StorageError as error:
            return error.message
        return ""

    def close(self) -> None:
        self._table.close()
