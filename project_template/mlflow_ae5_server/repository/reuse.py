"""Decide which stored blobs a new snapshot may refer to.

To read every blob at each backup would take as long as the first one. So a blob is trusted without reading if it is not
empty, is not recorded as damaged, and its file is older than the newest manifest, which was published after a sync.
Every other one is read first. Where the content is at hand (database, file list, files that were read), the blob is
read in any case: see blobs.BlobWriter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from mlflow_ae5_server.common.errors import RepositoryFailed
from mlflow_ae5_server.common.text import counted
from mlflow_ae5_server.repository import check, damage
from mlflow_ae5_server.repository.blob_index import BlobIndex
from mlflow_ae5_server.repository.repository import Repository
from mlflow_ae5_server.repository.used_blobs import UsedBlobs

_MAX_WARNINGS = 50  # about damaged blobs


class ReusableBlobs:
    """Of one backup, which holds the lock. Safe for several threads where `index` is."""

    def __init__(self, repository: Repository, index: BlobIndex, warn: Callable[[str], None]) -> None:
        self._repository = repository
        self._index = index
        self._warn = warn
        self._lock = threading.Lock()
        self._damaged: set[str] = set()

    def load(self) -> None:
        """Fill the index with the blobs that may be reused. Damaged ones are recorded."""
        repository, backend = self._repository, self._repository.backend
        recorded = damage.recorded(backend)
        suspects = set(recorded.digests)
        for entry in repository.snapshots():
            suspects |= check.recorded_damage(repository, entry.name)
        since, doubted, absent = repository.synced_until(), list[str](), set(recorded.digests)

        def is_trusted(sha256: str, modified: float) -> bool:
            absent.discard(sha256)
            if sha256 in suspects or recorded.overflow or modified >= since:
                doubted.append(sha256)
                return False
            return True

        self._index.add(blob.sha256 for blob in repository.stored_blobs() if is_trusted(blob.sha256, blob.modified))
        self._damaged |= absent
        intact = []
        for sha256, is_intact in damage.read_all(backend, doubted):
            if is_intact:
                intact.append(sha256)
            else:
                self.on_damage(sha256, "its content does not match its digest")
        self._index.add(intact)
        damage.clear(backend, recorded.digests.intersection(intact))
        if recorded.overflow:
            damage.clear_overflow(backend)

    def on_damage(self, sha256: str, what: str) -> None:
        """Record a damaged blob, so that its content is stored again if it is needed."""
        self._index.discard(sha256)
        with self._lock:
            if sha256 in self._damaged:
                return
            self._damaged.add(sha256)
            number = len(self._damaged)
        damage.record(self._repository.backend, [(sha256, what)])
        if number <= _MAX_WARNINGS:
            self._warn(
                f"the object {sha256} in {self._repository.shown} is damaged; its content is stored "
                "again if the server still has it"
            )

    def count_damaged(self, used: UsedBlobs) -> int:
        """How many used blobs are damaged. Raises RepositoryFailed if some do not exist."""
        used.mark_stored(self._repository.blob_sizes())
        if missing := used.missing():
            raise RepositoryFailed(
                f"{counted(len(missing), 'objects')} of the snapshot vanished from {self._repository.shown} while it "
                "was taken; no snapshot was made",
                "check whether another program deletes files there",
            )
        return sum(not self._index.present(digest.hex()) for digest in used.stored())

    def clear_repaired(self) -> None:
        """Clear the records of blobs that a published snapshot has stored again."""
        repaired = [sha256 for sha256 in self._damaged if self._index.claimed(sha256)]
        damage.clear(self._repository.backend, repaired)
