"""`backup prune`: which snapshots may go, and their removal; unfinished ones and what nothing refers to go with them.

Manifests go first and objects afterwards, and only objects that no manifest left refers to: cut off at any point, what
is still listed is still whole. The newest snapshot, the newest that nothing wrong is known of, the newest that was
read as a whole and was right, and the newest of which a share was, never go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from mlflow_ae5_server.errors import ConfigurationError, DamagedError, NoSnapshotError, UsageError
from mlflow_ae5_server.snapshot import damage
from mlflow_ae5_server.snapshot.contents import object_name
from mlflow_ae5_server.snapshot.lease import Lease
from mlflow_ae5_server.snapshot.manifest import Manifest
from mlflow_ae5_server.snapshot.repository import Begun, Listed, Repository
from mlflow_ae5_server.snapshot.verify import Uses, database_objects, state

_WAY_OUT = "or have a damaged snapshot go: backup prune --drop-damaged ID"


@dataclass(frozen=True)
class Keep:
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
class Plan:
    """`freed_bytes` is what the objects take in the place that nothing refers to any more. `held`: why none goes."""

    kept: tuple[str, ...]
    removed: tuple[str, ...]
    unfinished: tuple[str, ...]
    objects: int
    freed_bytes: int
    held: str = ""


def prune(repository: Repository, keep: Keep, *, act: bool, drop: Sequence[str] = ()) -> Plan:
    """What would be removed, or with `act` has been. `drop` are ids of damaged snapshots that are to go as well.

    Raises DamagedError where the manifest or list of one that stays cannot be read: nobody knows then what it refers
    to. Nothing is removed then, or with `drop` no object is. Raises NoSnapshotError where one of `drop` is not
    there, ConfigurationError where one is not damaged; BusyError, StorageError.
    """
    keep.check()
    if not act:
        return _prune(repository, keep, drop, None)
    with repository.lease("prune") as lease:
        repository.tidy()
        return _prune(repository, keep, drop, lease)


def _prune(repository: Repository, keep: Keep, drop: Sequence[str], lease: Lease | None) -> Plan:
    listed = repository.listed()
    dropped = damaged_of(repository, listed, drop)
    left = [one for one in listed if one not in dropped]
    if dropped and not any(is_sound(repository, one) for one in left):
        raise ConfigurationError("no snapshot that can be read would be left", "take another backup first")
    begun = repository.begun()
    with contextlib.closing(Uses()) as uses:
        try:
            manifests = _readable(left)
            kept = choose(manifests, keep, _proven(repository, manifests))
            for manifest in kept:
                _collect(uses, repository, manifest)
        except DamagedError as error:
            if not dropped:
                raise DamagedError(error.message, f"{error.hint}; {_WAY_OUT}") from None
            return _drop_only(repository, lease, listed, dropped, error)
        gone = [one for one in left if one.manifest not in kept]
        sizes = [size for _sha256, size in uses.unused(repository.objects())]
        plan = Plan(
            tuple(manifest.id for manifest in kept),
            tuple(one.id for one in [*dropped, *gone]),
            tuple(one.id for one in begun),
            len(sizes),
            sum(sizes),
        )
        if lease is not None:
            _remove(repository, lease, [*dropped, *gone], begun, uses)
    return plan


def _collect(uses: Uses, repository: Repository, manifest: Manifest) -> None:
    try:
        uses.collect(repository, manifest)
    except DamagedError as error:
        message = f"the list of the snapshot {manifest.id} cannot be read: {error.message}"
        raise DamagedError(
            f"{message}; nobody can tell which objects it needs, so nothing is removed", error.hint
        ) from None


def _drop_only(
    repository: Repository, lease: Lease | None, listed: list[Listed], dropped: list[Listed], error: DamagedError
) -> Plan:
    """Of what cannot be read nobody knows the objects, so they all stay, and so do the other snapshots."""
    if lease is not None:
        lease.check()
        repository.remove(dropped)
        repository.place.sync()
    kept = tuple(one.id for one in listed if one not in dropped)
    return Plan(kept, tuple(one.id for one in dropped), (), 0, 0, f"no object goes: {error.message}")


def damaged_of(repository: Repository, listed: Sequence[Listed], names: Sequence[str]) -> list[Listed]:
    """Those of `names`, ids or the names of their files. Raises as `prune` does."""
    found = []
    for name in dict.fromkeys(names):
        same = [one for one in listed if name in (one.id, one.name, one.name.removesuffix(".json"))]
        if not same:
            raise NoSnapshotError(f"there is no snapshot {name!r} in {repository.shown}", "see `backup list`")
        damaged = [one for one in same if not is_sound(repository, one)]
        if not damaged:
            raise ConfigurationError(
                f"nothing is known to be wrong with the snapshot {name}, so it is not dropped",
                "verify it first, or thin out with --keep-last, --keep-daily and --keep-weekly",
            )
        found += damaged
    return found


def is_sound(repository: Repository, one: Listed) -> bool:
    """Whether manifest and list can be read, and whatever was found damaged or missing is right now: it is read."""
    if one.manifest is None:
        return False
    try:
        for _entry in repository.files(one.manifest):
            pass
    except DamagedError:
        return False
    noted = damage.affected(repository.place, [one.manifest], database_objects).get(one.name, frozenset())
    known = state(repository, one.name)
    if known is not None and known.found > len(noted):  # what cannot be looked at by name
        return False
    return all(right for _sha256, right in damage.proven(repository.place, sorted(noted)))


def _remove(repository: Repository, lease: Lease, removed: list[Listed], begun: list[Begun], uses: Uses) -> None:
    lease.check()
    for one in begun:  # an unfinished snapshot that refers to nothing can be begun anew, whatever happens now
        repository.note(Begun(one.sequence, one.id, one.started, 0.0, ()))
    repository.remove(removed)
    repository.place.sync()
    unused = uses.unused(repository.objects())
    while digests := [sha256 for sha256, _size in islice(unused, 1000)]:
        lease.check()
        repository.place.delete([object_name(sha256) for sha256 in digests])
        damage.forget(repository.place, digests)
    repository.forget(begun)


def choose(manifests: Sequence[Manifest], keep: Keep, proven: Sequence[Manifest]) -> list[Manifest]:
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


def _proven(repository: Repository, manifests: Sequence[Manifest]) -> list[Manifest]:
    """Of those that nothing wrong is known of: the newest, the newest that was verified or sampled, and the newest that
    was verified, which the sampled one does not stand in for."""
    damaged = damage.affected(repository.place, manifests, database_objects)
    newest: list[Manifest] = []
    found: list[Manifest] = []
    for manifest in reversed(manifests):
        known = state(repository, manifest.name)
        if manifest.name in damaged or (known is not None and known.found):
            continue
        newest = newest or [manifest]
        if known is None or known.mended:
            continue
        if not found or known.in_full:
            found.append(manifest)
        if known.in_full:
            break
    return newest + found


def _readable(listed: Sequence[Listed]) -> list[Manifest]:
    manifests = []
    for one in listed:
        if one.manifest is None:
            raise DamagedError(
                f"{one.problem}; nobody can tell which objects it needs, so nothing is removed",
                f"bring snapshots/{one.name} back from a copy, then prune again",
            )
        manifests.append(one.manifest)
    return manifests
