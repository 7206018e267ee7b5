"""List the blobs of a repository once; find the snapshots that lack some.

A listing shows that a blob exists and is not empty. Only `backup verify` reads whether its content is right.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow_ae5_server.common.errors import RepositoryFailed, SnapshotDamaged
from mlflow_ae5_server.common.text import counted
from mlflow_ae5_server.repository import damage
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.repository import Repository
from mlflow_ae5_server.repository.temporary_database import open_temporary
from mlflow_ae5_server.repository.used_blobs import UsedBlobs


@dataclass(frozen=True)
class MissingBlobs:
    """What a snapshot lacks."""

    digests: tuple[str, ...]
    message: str


class BlobListing:
    def __init__(self, repository: Repository) -> None:
        self.lacking: dict[str, MissingBlobs] = {}
        """Of the snapshots examined so far, by file name, those that lack something."""
        self._repository = repository
        self._table = open_temporary("CREATE TABLE objects(sha BLOB, size INT)")
        rows = ((bytes.fromhex(sha256), size) for sha256, size in repository.blob_sizes())
        self._table.executemany("INSERT INTO objects VALUES (?, ?)", rows)

    def blob_sizes(self) -> Iterator[tuple[str, int]]:
        """Digest and stored size of every blob."""
        for sha, size in self._table.execute("SELECT sha, size FROM objects"):
            yield sha.hex(), size

    def has_all_of(self, manifest: Manifest) -> bool:
        """Whether the file list of a snapshot can be read and every blob of it exists."""
        if manifest.name not in self.lacking and (lack := self._examine(manifest)) is not None:
            self.lacking[manifest.name] = lack
        return manifest.name not in self.lacking

    def _examine(self, manifest: Manifest) -> MissingBlobs | None:
        unread = ""
        with contextlib.closing(UsedBlobs()) as used:
            try:
                used.collect(self._repository, manifest)
            except SnapshotDamaged as error:
                unread = f"its list of artifacts cannot be read: {error.message}"
            used.mark_stored(self.blob_sizes())
            missing = tuple(used.missing())
        message = [f"{counted(len(missing), 'objects')} missing"] if missing else []
        message += [unread] if unread and not set(missing).intersection(manifest.artifacts.lists) else []
        return MissingBlobs(missing, "; ".join(message)) if message else None

    def record_missing(self) -> str:
        """Record the missing blobs as damaged; the reason in text if that fails."""
        missing = {sha256 for lack in self.lacking.values() for sha256 in lack.digests}
        try:
            damage.record(self._repository.backend, ((sha256, damage.MISSING) for sha256 in sorted(missing)))
        except RepositoryFailed as error:
            return error.message
        return ""

    def close(self) -> None:
        self._table.close()
