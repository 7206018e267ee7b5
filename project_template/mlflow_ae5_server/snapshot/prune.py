"""`backup prune`: which snapshots may go, and their removal; unfinished ones and what nothing refers to go with them.

Manifests go first and objects afterwards, and only objects that no manifest left refers to: cut off at any point, what
is still listed is still whole. The newest snapshot and the newest verified one never go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from mlflow_ae5_server.errors import DamagedError, UsageError
from mlflow_ae5_server.snapshot.contents import object_name
from mlflow_ae5_server.snapshot.lease import Lease
from mlflow_ae5_server.snapshot.manifest import Manifest
from mlflow_ae5_server.snapshot.repository import Begun, Listed, Repository
from mlflow_ae5_server.snapshot.verify import Uses, when


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
    """`freed_bytes` is what the objects take in the place that nothing will refer to any more."""

    kept: tuple[str, ...]
    removed: tuple[str, ...]
    unfinished: tuple[str, ...]
    objects: int
    freed_bytes: int


def prune(repository: Repository, keep: Keep, *, act: bool) -> Plan:
    """What would be removed, or with `act` has been. Raises DamagedError where a manifest or list cannot be read:
    nobody knows then what it refers to, so nothing is removed; BusyError, StorageError."""
    keep.check()
    if not act:
        return _prune(repository, keep, None)
    with repository.lease("prune") as lease:
        repository.tidy()
        return _prune(repository, keep, lease)


def _prune(repository: Repository, keep: Keep, lease: Lease | None) -> Plan:
    manifests = _readable(repository.listed())
    kept = choose(manifests, keep, _proven(repository, manifests))
    removed = [manifest for manifest in manifests if manifest not in kept]
    begun = repository.begun()
    with contextlib.closing(Uses()) as uses:
        for manifest in kept:
            uses.collect(repository, manifest)
        sizes = [size for _sha256, size in uses.unused(repository.objects())]
        plan = Plan(
            tuple(manifest.id for manifest in kept),
            tuple(manifest.id for manifest in removed),
            tuple(one.id for one in begun),
            len(sizes),
            sum(sizes),
        )
        if lease is not None:
            _remove(repository, lease, removed, begun, uses)
    return plan


def _remove(repository: Repository, lease: Lease, removed: list[Manifest], begun: list[Begun], uses: Uses) -> None:
    lease.check()
    for one in begun:  # an unfinished snapshot that refers to nothing can be begun anew, whatever happens now
        repository.note(Begun(one.sequence, one.id, one.started, 0.0, ()))
    repository.remove([Listed(manifest.sequence, manifest.id, manifest) for manifest in removed])
    repository.place.sync()
    unused = uses.unused(repository.objects())
    while names := [object_name(sha256) for sha256, _size in islice(unused, 1000)]:
        lease.check()
        repository.place.delete(names)
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
    """The newest that was verified, and the newest of which everything was."""
    found: list[Manifest] = []
    for manifest in reversed(manifests):
        verified = when(repository, manifest.name)
        if verified is None:
            continue
        if not found or verified[1]:
            found.append(manifest)
        if verified[1]:
            break
    return found


def _readable(listed: Sequence[Listed]) -> list[Manifest]:
    manifests = []
    for one in listed:
        if one.manifest is None:
            raise DamagedError(
                f"{one.problem}; nobody can tell which objects it needs, so nothing is removed",
                f"bring snapshots/{one.name} back from a copy, or remove that file, then prune again",
            )
        manifests.append(one.manifest)
    return manifests
