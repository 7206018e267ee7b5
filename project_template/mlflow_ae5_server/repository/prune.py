"""`backup prune`: delete snapshots by policy, unfinished ones, and unused blobs.

Manifests are deleted first and blobs afterwards, and only blobs that no remaining manifest refers to: interrupted at
any point, every listed snapshot is whole. Four snapshots always stay: the newest, the newest without known damage, the
newest of which everything was read and was right, and the newest of which a share was. Of the last three every blob
has to exist; where no such snapshot exists, nothing is deleted at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from mlflow_ae5_server.common import progress
from mlflow_ae5_server.common.errors import Configuration, NoRoom, NoSnapshot, SnapshotDamaged
from mlflow_ae5_server.common.text import counted
from mlflow_ae5_server.repository import damage
from mlflow_ae5_server.repository.blob_listing import BlobListing
from mlflow_ae5_server.repository.blobs import blob_name
from mlflow_ae5_server.repository.check import state
from mlflow_ae5_server.repository.lock import RepositoryLock
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.repository import Repository, SnapshotEntry, UnfinishedSnapshot, named
from mlflow_ae5_server.repository.retention import RetentionPolicy
from mlflow_ae5_server.repository.used_blobs import UsedBlobs

_NAMED = 5  # snapshots in a message
_WAY_OUT = "or drop a damaged snapshot: backup prune --drop-damaged ID"
_NOTHING_REMOVED = "it is unknown which objects it needs, so nothing was deleted"


@dataclass(frozen=True)
class PrunePlan:
    kept: tuple[str, ...]
    kept_because: tuple[str, ...]  # the reason for each; empty where nothing limits their number
    removed: tuple[str, ...]
    unfinished: tuple[str, ...]
    objects: int  # blobs that no snapshot uses any more
    freed_bytes: int  # of these, as stored
    refused: str = ""  # why no blob is deleted
    lacking: tuple[tuple[str, str], ...] = ()  # (id, what it lacks) of snapshots found not to be whole
    unrecorded: str = ""  # why these could not be recorded as damaged


def prune(
    repository: Repository,
    policy: RetentionPolicy,
    *,
    apply: bool,
    drop: Sequence[str] = (),
    guard: Callable[[], None] = lambda: None,
) -> PrunePlan:
    """Plan what to delete, and delete it with `apply`.

    `drop`: ids of damaged snapshots to delete as well. `guard` is called right before anything is deleted, and raises
    where that must not be.

    Raises SnapshotDamaged where the manifest or file list of a remaining snapshot cannot be read: it is unknown then
    which blobs it needs. Nothing is deleted then, with `drop` no blob. Raises it, too, where no snapshot can be relied
    on. Raises NoSnapshot where one of `drop` does not exist, Configuration where it is not damaged.
    """
    if not apply:
        return _plan(repository, policy, drop, None, guard)
    try:
        with repository.lock("prune", use_spare=True) as lock:
            repository.remove_leftovers()
            return _plan(repository, policy, drop, lock, guard)
    except NoRoom as error:
        hint = "a prune needs 4 kB: free them on that volume by deleting something other than backups, and prune again"
        raise NoRoom(error.message, hint) from None


def _plan(
    repository: Repository,
    policy: RetentionPolicy,
    drop: Sequence[str],
    lock: RepositoryLock | None,
    guard: Callable[[], None],
) -> PrunePlan:
    entries = repository.snapshots()  # before the blobs: a snapshot published meanwhile must not seem to lack any
    with contextlib.closing(BlobListing(repository)) as listing:
        return _Prune(repository, listing, lock, guard).run(entries, policy, drop)


class _Prune:
    """One prune. `lock` is None for a plan."""

    def __init__(
        self, repository: Repository, listing: BlobListing, lock: RepositoryLock | None, guard: Callable[[], None]
    ) -> None:
        self._repository = repository
        self._listing = listing
        self._lock = lock
        self._guard = guard

    def run(self, entries: list[SnapshotEntry], policy: RetentionPolicy, drop: Sequence[str]) -> PrunePlan:
        with progress.phase("examine-snapshots"):
            dropped = self._damaged_entries(entries, drop)
            remaining = [entry for entry in entries if entry not in dropped]
            required = self._required(remaining, dropped)
        unrecorded = self._listing.record_missing() if self._lock is not None else ""
        if entries and not required:
            raise self._nothing_reliable(remaining, dropped)
        plan = self._carry_out(policy, entries, dropped, remaining, required)
        lacking = self._listing.lacking
        return replace(
            plan,
            lacking=tuple((entry.id, lacking[entry.name].message) for entry in remaining if entry.name in lacking),
            unrecorded=unrecorded,
        )

    # Decisions

    def _damaged_entries(self, entries: Sequence[SnapshotEntry], names: Sequence[str]) -> list[SnapshotEntry]:
        """The snapshots that `names`, ids or names of files, mean. Raises as `prune` does."""
        dropped = []
        for name in dict.fromkeys(names):
            same = [entry for entry in entries if name in (entry.name, entry.name.removesuffix(".json"))]
            same = same or named(entries, name)
            if not same:
                raise NoSnapshot(f"there is no snapshot {name!r} in {self._repository.shown}", "see `backup list`")
            damaged = [entry for entry in same if not self._is_intact(entry)]
            if not damaged:
                raise Configuration(
                    f"the snapshot {name} is not known to be damaged, so it is not deleted",
                    "verify it first, or prune with --keep-last, --keep-daily and --keep-weekly",
                )
            dropped += damaged
        return dropped

    def _is_intact(self, entry: SnapshotEntry) -> bool:
        """Whether everything can be read and exists, and recorded damage is repaired."""
        backend = self._repository.backend
        if entry.manifest is None or not self._listing.has_all_of(entry.manifest):
            return False
        suspects = damage.of_snapshots(backend, [entry.manifest]).get(entry.name, frozenset())
        checked = state(self._repository, entry.name)
        if checked is not None and checked.damaged > len(suspects):  # some are not recorded by name
            return False
        return all(is_intact for _sha256, is_intact in damage.read_all(backend, sorted(suspects)))

    def _required(self, remaining: list[SnapshotEntry], dropped: list[SnapshotEntry]) -> dict[str, str]:
        """The names of the snapshots that stay in any case, with the reason; without any, nothing may be deleted."""
        reliable = self._reliable([entry.manifest for entry in remaining if entry.manifest is not None])
        if reliable or not dropped:
            return reliable
        intact = (entry.name for entry in reversed(remaining) if self._is_intact(entry))
        return dict.fromkeys(islice(intact, 1), "the newest that is undamaged")

    def _reliable(self, manifests: Sequence[Manifest]) -> dict[str, str]:
        """Snapshots that can be restored, as far as is recorded, by name, with the reason to keep each.

        Of those without known damage that lack nothing: the newest, the newest that was checked in full or in part,
        and the newest that was checked in full.
        """
        damaged = damage.of_snapshots(self._repository.backend, manifests)
        found: dict[str, str] = {}
        sampled = False
        for manifest in reversed(manifests):
            checked = state(self._repository, manifest.name)
            if manifest.name in damaged or (checked is not None and checked.damaged):
                continue
            in_full = checked is not None and not checked.repaired and checked.in_full is not None
            counts = checked is not None and not checked.repaired and (in_full or not sampled)
            if (found and not counts) or not self._listing.has_all_of(manifest):
                continue
            found[manifest.name] = "the newest without known damage"
            if counts:
                found[manifest.name] = f"the newest that was verified {'in full' if in_full else 'in part'}"
                sampled = True
            if in_full:
                break
        return found

    def _nothing_reliable(
        self, remaining: list[SnapshotEntry], dropped: list[SnapshotEntry]
    ) -> SnapshotDamaged | Configuration:
        problems = "; ".join(f"{entry.id}: {self._problem(entry)}" for entry in remaining[: -_NAMED - 1 : -1])
        more = f"; and {counted(len(remaining) - _NAMED, 'older ones')}" if len(remaining) > _NAMED else ""
        if dropped:
            why = f"no restorable snapshot would be left ({problems}{more})"
            return Configuration(why if remaining else "no snapshot would be left", "take another backup first")
        return SnapshotDamaged(
            f"no snapshot in {self._repository.shown} is known to be complete; nothing was deleted ({problems}{more})",
            "take another backup, then prune again",
        )

    def _problem(self, entry: SnapshotEntry) -> str:
        if entry.manifest is None:
            return entry.problem
        if self._listing.has_all_of(entry.manifest):
            return "a check has found it damaged"
        return self._listing.lacking[entry.name].message

    # Deletion

    def _carry_out(
        self,
        policy: RetentionPolicy,
        entries: list[SnapshotEntry],
        dropped: list[SnapshotEntry],
        remaining: list[SnapshotEntry],
        required: Mapping[str, str],
    ) -> PrunePlan:
        unfinished = self._repository.unfinished()
        with contextlib.closing(UsedBlobs()) as used:
            try:
                manifests = list(_manifests(remaining))
                reasons = policy.choose(manifests, required)
                kept = [manifest for manifest in manifests if manifest.name in reasons]
                for manifest in kept:
                    self._collect(used, manifest)
            except SnapshotDamaged as error:
                if not dropped:
                    raise SnapshotDamaged(error.message, f"{error.hint}; {_WAY_OUT}") from None
                return self._drop_only(entries, dropped, error)
            removed = [*dropped, *(entry for entry in remaining if entry.manifest not in kept)]
            sizes = [size for _sha256, size in used.unused(self._listing.blob_sizes())]
            if self._lock is not None:
                with progress.phase("delete-objects", "objects", len(sizes)) as phase:
                    self._remove(self._lock, removed, unfinished, used, phase)
        return PrunePlan(
            tuple(manifest.id for manifest in kept),
            tuple(reasons.values()),
            tuple(entry.id for entry in removed),
            tuple(snapshot.id for snapshot in unfinished),
            len(sizes),
            sum(sizes),
        )

    def _collect(self, used: UsedBlobs, manifest: Manifest) -> None:
        try:
            used.collect(self._repository, manifest)
        except SnapshotDamaged as error:
            message = f"the list of the snapshot {manifest.id} cannot be read: {error.message}"
            raise SnapshotDamaged(f"{message}; {_NOTHING_REMOVED}", error.hint) from None

    def _drop_only(
        self, entries: list[SnapshotEntry], dropped: list[SnapshotEntry], error: SnapshotDamaged
    ) -> PrunePlan:
        """Delete the dropped manifests alone: an unreadable snapshot's blobs are unknown."""
        if self._lock is not None:
            self._guard()
            self._lock.check()
            self._repository.remove(dropped)
            self._repository.backend.sync()
        kept = tuple(entry.id for entry in entries if entry not in dropped)
        removed, why = tuple(entry.id for entry in dropped), f"no object is deleted: {error.message}"
        return PrunePlan(kept, ("",) * len(kept), removed, (), 0, 0, why)

    def _remove(
        self,
        lock: RepositoryLock,
        removed: list[SnapshotEntry],
        unfinished: list[UnfinishedSnapshot],
        used: UsedBlobs,
        phase: progress.Phase,
    ) -> None:
        """Deletes, and writes nothing: there may be no room."""
        repository, backend = self._repository, self._repository.backend
        self._guard()
        lock.check()
        repository.remove_unfinished(unfinished)  # first: their blobs go, so no backup may resume them
        repository.remove(removed)
        backend.sync()
        unused = used.unused(self._listing.blob_sizes())
        while digests := [sha256 for sha256, _size in islice(unused, 1000)]:
            lock.check()
            backend.delete([blob_name(sha256) for sha256 in digests])
            damage.clear(backend, digests)
            phase.advance(len(digests))
        recorded = ((sha256, 0) for sha256 in damage.recorded(backend).digests)
        damage.clear(backend, [sha256 for sha256, _size in used.unused(recorded)])  # missing, and not needed any more


def _manifests(entries: Sequence[SnapshotEntry]) -> Iterator[Manifest]:
    """Raises SnapshotDamaged where one cannot be read."""
    for entry in entries:
        if entry.manifest is None:
            raise SnapshotDamaged(
                f"{entry.problem}; {_NOTHING_REMOVED}",
                f"restore snapshots/{entry.name} from a copy, then prune again",
            )
        yield entry.manifest
