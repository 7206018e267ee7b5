"""`backup prune`: which snapshots may go, and their removal; unfinished ones and what nothing refers to go with them.

Manifests go first and objects afterwards, and only objects that no manifest left refers to: cut off at any point, what
is still listed is still whole. The newest snapshot, the newest that nothing wrong is known of, the newest that was
read as a whole and was right, and the newest of which a share was, never go. None of these three is taken at its word:
every object of it has to be there. Where no snapshot can be relied on, nothing is removed at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice

from mlflow_ae5_server.common.errors import ConfigurationError, DamagedError, NoRoomError, NoSnapshotError, UsageError
from mlflow_ae5_server.common.text import counted
from mlflow_ae5_server.repository import damage
from mlflow_ae5_server.repository.blobs import object_name
from mlflow_ae5_server.repository.check import BlobUses, database_objects, state
from mlflow_ae5_server.repository.inventory import Inventory
from mlflow_ae5_server.repository.lock import RepositoryLock
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.repository import Repository, SnapshotEntry, UnfinishedSnapshot

_NAMED = 5  # snapshots in a message
_WAY_OUT = "or have a damaged snapshot go: backup prune --drop-damaged ID"


@dataclass(frozen=True)
class RetentionPolicy:
    """How many to keep: of the newest, one for each of the newest days, one for each of the newest weeks (UTC).

    None for all three keeps every snapshot.
    """

    last: int | None = None
    daily: int | None = None
    weekly: int | None = None

    def check(self) -> None:
        for name, number in vars(self).items():
            if number is not None and number < 0:
                raise UsageError(f"--keep-{name} {number} is less than none", "give a number of snapshots to keep")

    @property
    def everything(self) -> bool:
        return self.last is None and self.daily is None and self.weekly is None


@dataclass(frozen=True)
class PrunePlan:
    """`freed_bytes` is what the objects take in the place that nothing refers to any more. `held`: why none goes.

    `lacking`: (id, what it lacks) of snapshots that turned out not to be whole. `unnoted`: why that is not remembered.
    """

    kept: tuple[str, ...]
    removed: tuple[str, ...]
    unfinished: tuple[str, ...]
    objects: int
    freed_bytes: int
    held: str = ""
    lacking: tuple[tuple[str, str], ...] = ()
    unnoted: str = ""


def prune(
    repository: Repository,
    keep: RetentionPolicy,
    *,
    act: bool,
    drop: Sequence[str] = (),
    allowed: Callable[[], None] = lambda: None,
) -> PrunePlan:
    """What would be removed, or with `act` has been. `drop` are ids of damaged snapshots that are to go as well.
    `allowed` is asked right before something is removed, and raises where that must not be.

    Raises DamagedError where the manifest or list of one that stays cannot be read: nobody knows then what it refers
    to. Nothing is removed then, or with `drop` no object is. Raises it, too, where no snapshot is known to be whole:
    nothing is removed. Raises NoSnapshotError where one of `drop` is not there, ConfigurationError where one is not
    damaged; BusyError, StorageError.
    """
    keep.check()
    if not act:
        return _prune(repository, keep, drop, None, allowed)
    with _told_without_room(), repository.lease("prune", frees=True) as lease:
        repository.tidy()
        return _prune(repository, keep, drop, lease, allowed)


@contextlib.contextmanager
def _told_without_room() -> Iterator[None]:
    try:
        yield
    except NoRoomError as error:
        hint = "even a prune needs 4 kB: make them free on that volume, by something else than backups, and prune again"
        raise NoRoomError(error.message, hint) from None


def _prune(
    repository: Repository,
    keep: RetentionPolicy,
    drop: Sequence[str],
    lease: RepositoryLock | None,
    allowed: Callable[[], None],
) -> PrunePlan:
    listed = repository.listed()  # before their objects: what is published meanwhile is not to seem without them
    with contextlib.closing(Inventory(repository)) as inventory:
        return _Pruning(repository, inventory, lease, allowed).run(listed, keep, drop)


class _Pruning:
    """One of them. `lease`: held, or None to do nothing but look."""

    def __init__(
        self, repository: Repository, inventory: Inventory, lease: RepositoryLock | None, allowed: Callable[[], None]
    ) -> None:
        self._repository = repository
        self._inventory = inventory
        self._lease = lease
        self._allowed = allowed

    def run(self, listed: list[SnapshotEntry], keep: RetentionPolicy, drop: Sequence[str]) -> PrunePlan:
        repository, inventory = self._repository, self._inventory
        dropped = damaged_of(repository, inventory, listed, drop)
        left = [one for one in listed if one not in dropped]
        relied = self._relied(left, dropped)
        unnoted = inventory.note() if self._lease is not None else ""
        if listed and not relied:
            raise _nothing_to_rely_on(repository, inventory, left, dropped)
        plan = self._carry_out(keep, listed, dropped, left, relied)
        lacking = tuple((one.id, inventory.lacks[one.name].message) for one in left if one.name in inventory.lacks)
        return replace(plan, lacking=lacking, unnoted=unnoted)

    def _relied(self, left: list[SnapshotEntry], dropped: list[SnapshotEntry]) -> list[Manifest]:
        """What stays whatever is asked for, and what there has to be before anything goes."""
        proven = _proven(self._repository, self._inventory, [one.manifest for one in left if one.manifest is not None])
        if proven or not dropped:
            return proven
        sound = next((one.manifest for one in reversed(left) if is_sound(self._repository, self._inventory, one)), None)
        return [sound] if sound is not None else []

    def _carry_out(
        self,
        keep: RetentionPolicy,
        listed: list[SnapshotEntry],
        dropped: list[SnapshotEntry],
        left: list[SnapshotEntry],
        relied: list[Manifest],
    ) -> PrunePlan:
        begun = self._repository.begun()
        with contextlib.closing(BlobUses()) as uses:
            try:
                kept = choose(_readable(left), keep, relied)
                for manifest in kept:
                    _collect(uses, self._repository, manifest)
            except DamagedError as error:
                if not dropped:
                    raise DamagedError(error.message, f"{error.hint}; {_WAY_OUT}") from None
                return self._drop_only(listed, dropped, error)
            gone = [one for one in left if one.manifest not in kept]
            sizes = [size for _sha256, size in uses.unused(self._inventory.objects())]
            if self._lease is not None:
                self._remove(self._lease, [*dropped, *gone], begun, uses)
        return PrunePlan(
            tuple(manifest.id for manifest in kept),
            tuple(one.id for one in [*dropped, *gone]),
            tuple(one.id for one in begun),
            len(sizes),
            sum(sizes),
        )

    def _drop_only(self, listed: list[SnapshotEntry], dropped: list[SnapshotEntry], error: DamagedError) -> PrunePlan:
        """Of what cannot be read nobody knows the objects, so they all stay, and so do the other snapshots."""
        if self._lease is not None:
            self._allowed()
            self._lease.check()
            self._repository.remove(dropped)
            self._repository.backend.sync()
        kept = tuple(one.id for one in listed if one not in dropped)
        return PrunePlan(kept, tuple(one.id for one in dropped), (), 0, 0, f"no object goes: {error.message}")

    def _remove(
        self, lease: RepositoryLock, removed: list[SnapshotEntry], begun: list[UnfinishedSnapshot], uses: BlobUses
    ) -> None:
        """Deletes and nothing else: there may be no room to write."""
        repository = self._repository
        self._allowed()
        lease.check()
        repository.forget(begun)  # what a note refers to is not to be gone on with, whatever happens now
        repository.remove(removed)
        repository.backend.sync()
        unused = uses.unused(self._inventory.objects())
        while digests := [sha256 for sha256, _size in islice(unused, 1000)]:
            lease.check()
            repository.backend.delete([object_name(sha256) for sha256 in digests])
            damage.forget(repository.backend, digests)
        noted = ((sha256, 0) for sha256 in damage.noted(repository.backend).objects)
        damage.forget(
            repository.backend, [sha256 for sha256, _size in uses.unused(noted)]
        )  # missing, and not missed now


def _collect(uses: BlobUses, repository: Repository, manifest: Manifest) -> None:
    try:
        uses.collect(repository, manifest)
    except DamagedError as error:
        message = f"the list of the snapshot {manifest.id} cannot be read: {error.message}"
        raise DamagedError(
            f"{message}; nobody can tell which objects it needs, so nothing is removed", error.hint
        ) from None


def _nothing_to_rely_on(
    repository: Repository, inventory: Inventory, left: list[SnapshotEntry], dropped: list[SnapshotEntry]
) -> DamagedError | ConfigurationError:
    told = "; ".join(f"{one.id}: {_what_is_wrong(inventory, one)}" for one in left[: -_NAMED - 1 : -1])
    more = f"; and {counted(len(left) - _NAMED, 'older ones')}" if len(left) > _NAMED else ""
    where = f"no snapshot in {repository.shown} is known to be whole"
    if dropped:
        return ConfigurationError(
            f"no snapshot that can be restored would be left ({told}{more})" if left else "no snapshot would be left",
            "take another backup first",
        )
    return DamagedError(f"{where}, so nothing is removed ({told}{more})", "take another backup, then prune again")


def _what_is_wrong(inventory: Inventory, one: SnapshotEntry) -> str:
    if one.manifest is None:
        return one.problem
    return "a check has found it damaged" if inventory.has_all_of(one.manifest) else inventory.lacks[one.name].message


def damaged_of(
    repository: Repository, inventory: Inventory, listed: Sequence[SnapshotEntry], names: Sequence[str]
) -> list[SnapshotEntry]:
    """Those of `names`, ids or the names of their files. Raises as `prune` does."""
    found = []
    for name in dict.fromkeys(names):
        same = [one for one in listed if name in (one.id, one.name, one.name.removesuffix(".json"))]
        if not same:
            raise NoSnapshotError(f"there is no snapshot {name!r} in {repository.shown}", "see `backup list`")
        damaged = [one for one in same if not is_sound(repository, inventory, one)]
        if not damaged:
            raise ConfigurationError(
                f"nothing is known to be wrong with the snapshot {name}, so it is not dropped",
                "verify it first, or thin out with --keep-last, --keep-daily and --keep-weekly",
            )
        found += damaged
    return found


def is_sound(repository: Repository, inventory: Inventory, one: SnapshotEntry) -> bool:
    """Whether manifest and list can be read, every object is there, and whatever was found damaged or missing is right
    now: it is read."""
    if one.manifest is None or not inventory.has_all_of(one.manifest):
        return False
    noted = damage.affected(repository.backend, [one.manifest], database_objects).get(one.name, frozenset())
    known = state(repository, one.name)
    if known is not None and known.found > len(noted):  # what cannot be looked at by name
        return False
    return all(right for _sha256, right in damage.proven(repository.backend, sorted(noted)))


def choose(manifests: Sequence[Manifest], keep: RetentionPolicy, proven: Sequence[Manifest]) -> list[Manifest]:
    """Those to keep, of `manifests` in the order of their sequence; `proven` is kept whatever is asked for."""
    if keep.everything:
        return list(manifests)
    newest_first = list(reversed(manifests))
    chosen = {manifest.name for manifest in [*newest_first[:1], *newest_first[: keep.last or 0], *proven]}
    for number, period in ((keep.daily, "%Y-%m-%d"), (keep.weekly, "%G-W%V")):
        chosen.update(islice(_newest_of_each(newest_first, period), number or 0))
    return [manifest for manifest in manifests if manifest.name in chosen]


def _newest_of_each(newest_first: Sequence[Manifest], period: str) -> Iterator[str]:
    seen: set[str] = set()
    for manifest in newest_first:
        when_taken = datetime.fromisoformat(manifest.started).astimezone(UTC).strftime(period)
        if when_taken not in seen:
            seen.add(when_taken)
            yield manifest.name


def _proven(repository: Repository, inventory: Inventory, manifests: Sequence[Manifest]) -> list[Manifest]:
    """Of those that nothing wrong is known of and that lack nothing: the newest, the newest that was verified or
    sampled, and the newest that was verified, which the sampled one does not stand in for."""
    damaged = damage.affected(repository.backend, manifests, database_objects)
    newest: list[Manifest] = []
    found: list[Manifest] = []
    for manifest in reversed(manifests):
        known = state(repository, manifest.name)
        if manifest.name in damaged or (known is not None and known.found):
            continue
        in_full = known is not None and not known.fixed and known.in_full is not None
        checked = known is not None and not known.fixed and (in_full or not found)
        if (newest and not checked) or not inventory.has_all_of(manifest):
            continue
        newest = newest or [manifest]
        if checked:
            found.append(manifest)
        if in_full:
            break
    return newest + found


def _readable(listed: Sequence[SnapshotEntry]) -> list[Manifest]:
    manifests = []
    for one in listed:
        if one.manifest is None:
            raise DamagedError(
                f"{one.problem}; nobody can tell which objects it needs, so nothing is removed",
                f"bring snapshots/{one.name} back from a copy, then prune again",
            )
        manifests.append(one.manifest)
    return manifests
