"""`backup verify`: read the blobs of a snapshot, report and record damage."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mlflow_ae5_server.common import progress
from mlflow_ae5_server.common.errors import SnapshotDamaged
from mlflow_ae5_server.common.text import counted
from mlflow_ae5_server.repository import damage
from mlflow_ae5_server.repository.backend import decoded
from mlflow_ae5_server.repository.blob_types import is_digest
from mlflow_ae5_server.repository.blobs import BlobReader
from mlflow_ae5_server.repository.damage import MISSING
from mlflow_ae5_server.repository.manifest import Manifest, is_moment
from mlflow_ae5_server.repository.repository import VERIFIED, Repository
from mlflow_ae5_server.repository.used_blobs import UsedBlobs

_MAX_RECORDED = 10_000  # damaged blobs that are recorded by name
_MAX_REPORTED = 100


@dataclass
class CheckResult:
    of_objects: int = 0  # blobs of the snapshot
    checked_objects: int = 0
    checked_bytes: int = 0
    damaged_total: int = 0
    damaged: list[dict[str, str]] = field(default_factory=list)
    """{"object" or "name", "what"} of the first of them."""
    intact_again: list[str] = field(default_factory=list)
    """Blobs that were recorded as damaged and are right."""

    @property
    def in_full(self) -> bool:
        """Whether everything was read, whatever share was requested."""
        return self.checked_objects == self.of_objects

    def add(self, kind: str, name: str, what: str) -> None:
        self.damaged_total += 1
        if len(self.damaged) < _MAX_RECORDED:
            self.damaged.append({kind: name, "what": what})


def verify(repository: Repository, manifest: Manifest, *, fraction: float = 1.0) -> CheckResult:
    """Check that every blob exists, and read a `fraction` of them.

    Blobs recorded as damaged are read in any case: the record ends when they are right again.
    """
    result = CheckResult()
    before, now = _Record.of(repository, manifest.name), damage.recorded(repository.backend)
    if before.has_more or now.overflow:
        fraction = 1.0
    unread = ""
    with contextlib.closing(UsedBlobs()) as used, progress.phase("read-objects", "objects") as phase:
        try:
            used.collect(repository, manifest)
        except SnapshotDamaged as error:
            unread = error.message
            used.add(before.digests)
        used.mark_stored(repository.blob_sizes())
        result.of_objects = used.count()
        for sha256 in used.missing():
            result.add("object", sha256, MISSING)
        suspects = before.digests | now.digests
        _read(repository, used, result, used.stored(fraction, suspects), suspects, phase)
    lists = set(manifest.artifacts.lists)
    if unread and not any(entry.get("object") in lists for entry in result.damaged):
        result.add("name", manifest.id, unread)
    return result


def _read(
    repository: Repository,
    used: UsedBlobs,
    result: CheckResult,
    chosen: Sequence[bytes],
    suspects: frozenset[str],
    phase: progress.Phase,
) -> None:
    phase.total = len(chosen)
    reader = BlobReader(repository.backend, cached=0)
    window: deque[tuple[str, Future[tuple[int, str]]]] = deque()

    def receive() -> None:
        sha256, future = window.popleft()
        size, what = future.result()
        result.checked_objects += 1
        phase.advance()
        result.checked_bytes += size
        if what:
            result.add("object", sha256, what)
        elif sha256 in suspects:
            result.intact_again.append(sha256)

    with ThreadPoolExecutor(repository.backend.threads, "verify") as pool:
        for sha256 in (digest.hex() for digest in chosen):
            window.append((sha256, pool.submit(_check, reader, repository.shown, sha256, used.slices(sha256))))
            if len(window) > 2 * repository.backend.threads:
                receive()
        while window:
            receive()


def _check(
    reader: BlobReader, shown: str, sha256: str, slices: list[tuple[int, int, int, bytes | None]]
) -> tuple[int, str]:
    """Plain size, and what is wrong."""
    try:
        data = memoryview(reader.get(sha256))
    except SnapshotDamaged as error:
        return 0, error.message.removeprefix(f"the object {sha256} ").removeprefix(f"in {shown} ")
    for start, length, total, digest in slices:
        if total != len(data):
            return len(data), f"it has {len(data)} bytes, and the list says {total}"
        if digest is not None and hashlib.sha256(data[start : start + length]).digest() != digest:
            return len(data), f"the bytes {start} to {start + length} are not the file that they should be"
    return len(data), ""


def report_fields(manifest: Manifest, result: CheckResult) -> dict[str, Any]:
    """The fields of a job's report that describe damage."""
    return {
        "damaged": result.damaged[:_MAX_REPORTED],
        "damaged_total": result.damaged_total,
        "error": f"the snapshot {manifest.id} is damaged: {counted(result.damaged_total, 'objects')} missing or wrong",
        "hint": "take another backup, which stores again what the server still has",
    }


# Records of checks


@dataclass(frozen=True)
class _Record:
    """What is recorded of the last check of a snapshot, in `verified/`."""

    fields: dict[str, Any]
    """Empty where the snapshot was never checked, or the file makes no sense."""

    @classmethod
    def of(cls, repository: Repository, name: str) -> _Record:
        fields = decoded(repository.backend.read(f"{VERIFIED}/{name}")) or {}
        counts = [fields.get(key, 0) for key in ("checked_objects", "of_objects", "found")]
        times = [fields.get("at"), *(fields.get(key) or fields.get("at") for key in ("right", "in_full"))]
        damaged = fields.get("damaged")
        makes_sense = (
            all(type(count) is int and 0 <= count < 2**63 for count in counts)
            and all(map(is_moment, times))
            and isinstance(damaged, list)
            and all(isinstance(entry, dict) and is_digest(entry.get("object", "0" * 64)) for entry in damaged)
        )
        return cls(fields if makes_sense else {})

    @property
    def digests(self) -> frozenset[str]:
        return frozenset(entry["object"] for entry in self.fields.get("damaged", ()) if "object" in entry)

    @property
    def damaged_total(self) -> int:
        return int(self.fields.get("found", len(self.fields.get("damaged", ()))))

    @property
    def has_more(self) -> bool:
        """Whether more blobs were damaged than are recorded by name."""
        return self.damaged_total > len(self.fields.get("damaged", ()))

    @property
    def last_intact(self) -> str | None:
        default = self.fields.get("at") if self.fields.get("damaged") == [] else None
        at = self.fields.get("right", default)
        return at if isinstance(at, str) else None


def recorded_damage(repository: Repository, name: str) -> frozenset[str]:
    """The blobs that the last check of a snapshot found damaged."""
    return _Record.of(repository, name).digests


def note(repository: Repository, manifest: Manifest, result: CheckResult) -> None:
    """Record a result for `list`, `prune` and the next backup.

    A full check without damage stays recorded while later samples find none either.
    """
    damage.clear(repository.backend, result.intact_again)
    damage.record(
        repository.backend, ((entry["object"], entry["what"]) for entry in result.damaged if "object" in entry)
    )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    before = _Record.of(repository, manifest.name)
    in_full = now if result.in_full else before.fields.get("in_full") if before.fields.get("damaged") == [] else None
    fields = {
        "at": now,
        "right": before.last_intact if result.damaged_total else now,
        "in_full": None if result.damaged_total else in_full,
        "checked_objects": result.checked_objects,
        "of_objects": result.of_objects,
        "found": result.damaged_total,
        "damaged": result.damaged,
    }
    repository.backend.write(f"{VERIFIED}/{manifest.name}", json.dumps(fields).encode())


@dataclass(frozen=True)
class CheckState:
    """What the checks of a snapshot have shown. Times are ISO 8601 UTC."""

    at: str  # of the last check
    last_intact: str | None  # of the last check that found no damage
    in_full: str | None  # of the last one that read everything, where none has found damage since
    sampled: dict[str, Any] | None  # {at, checked, of} of the last one, where it read a part and found no damage
    damaged: int  # blobs that the last one found damaged, without those repaired since
    repaired: bool = False  # there were such


def state(repository: Repository, name: str) -> CheckState | None:
    """None where the snapshot was never checked."""
    record = _Record.of(repository, name)
    if not record.fields:
        return None
    repaired, at, in_full = 0, record.fields["at"], record.fields.get("in_full") or None
    if record.damaged_total:
        now = damage.recorded(repository.backend)
        repaired = 0 if now.overflow else len(record.digests - now.digests)
    sampled = None
    if not record.damaged_total and in_full != at:
        sampled = {"at": at, "checked": record.fields.get("checked_objects"), "of": record.fields.get("of_objects")}
    return CheckState(at, record.last_intact, in_full, sampled, record.damaged_total - repaired, repaired > 0)
