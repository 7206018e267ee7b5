"""Records of damaged or missing blobs: a small file each, `damaged/<sha256>`.

With a file for each, two processes that find damage at the same time do not overwrite each other. A record is removed
when that very blob was read and is right, or was stored again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow_ae5_server.common.errors import SnapshotDamaged
from mlflow_ae5_server.repository import file_list
from mlflow_ae5_server.repository.backend import Backend
from mlflow_ae5_server.repository.blob_types import is_digest
from mlflow_ae5_server.repository.blobs import BlobReader, is_intact
from mlflow_ae5_server.repository.manifest import Manifest

FOLDER = "damaged"
MISSING = "missing"  # what is wrong with a blob that does not exist
_OVERFLOW = "more"  # in place of names: there were too many, so every blob has to be read
_MAX_RECORDS = 10_000
_BATCH = 256


@dataclass(frozen=True)
class DamagedBlobs:
    digests: frozenset[str] = frozenset()
    overflow: bool = False
    """More blobs are damaged than are recorded by name."""

    def __bool__(self) -> bool:
        return bool(self.digests) or self.overflow


def recorded(backend: Backend) -> DamagedBlobs:
    names = {item.name.rpartition("/")[2] for item in backend.items(FOLDER)}
    return DamagedBlobs(frozenset(filter(is_digest, names)), _OVERFLOW in names)


def record(backend: Backend, damaged: Iterable[tuple[str, str]]) -> None:
    """Record (digest, what is wrong). Raises RepositoryFailed."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    for number, (sha256, what) in enumerate(damaged):
        if number == _MAX_RECORDS:
            backend.write(f"{FOLDER}/{_OVERFLOW}", b"{}")
            return
        backend.write(f"{FOLDER}/{sha256}", json.dumps({"at": at, "what": what}).encode())


def clear(backend: Backend, digests: Iterable[str]) -> None:
    """Remove the records of blobs that were read and are right, or were stored again."""
    backend.delete([f"{FOLDER}/{sha256}" for sha256 in digests])


def clear_overflow(backend: Backend) -> None:
    """Remove the note of more damage, after every blob was read."""
    clear(backend, [_OVERFLOW])


def read_all(backend: Backend, digests: list[str]) -> Iterator[tuple[str, bool]]:
    """Read each blob; yield its digest, and whether it is intact."""
    with ThreadPoolExecutor(backend.threads, "check") as pool:
        for start in range(0, len(digests), _BATCH):
            batch = digests[start : start + _BATCH]
            yield from zip(batch, pool.map(lambda sha256: is_intact(backend, sha256), batch), strict=True)


def of_snapshots(backend: Backend, manifests: Sequence[Manifest]) -> dict[str, frozenset[str]]:
    """The damaged blobs of each affected snapshot, by its file name."""
    damaged = recorded(backend).digests
    if not damaged:
        return {}
    reader, in_lists, affected = BlobReader(backend, cached=0), dict[str, frozenset[str]](), {}
    for manifest in manifests:
        found = damaged.intersection(manifest.own_blobs)
        for sha256 in manifest.artifacts.lists:
            if sha256 not in in_lists:
                in_lists[sha256] = _used_in_list(reader, sha256) & damaged
            found |= in_lists[sha256]
        if found:
            affected[manifest.name] = found
    return affected


def _used_in_list(reader: BlobReader, sha256: str) -> frozenset[str]:
    with contextlib.suppress(SnapshotDamaged):
        return frozenset(part.sha256 for entry in file_list.entries_in(reader, sha256) for part in entry.parts)
    return frozenset()
