"""Which snapshots a retention policy keeps: the newest, one per day, one per week."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from mlflow_ae5_server.common.errors import Usage
from mlflow_ae5_server.repository.manifest import Manifest


@dataclass(frozen=True)
class RetentionPolicy:
    """Numbers of snapshots to keep; None for all three keeps every snapshot."""

    last: int | None = None
    daily: int | None = None  # the newest of each of so many days (UTC)
    weekly: int | None = None

    def __post_init__(self) -> None:
        for name, number in vars(self).items():
            if number is not None and number < 0:
                raise Usage(f"--keep-{name} {number} is negative", "give a number of snapshots to keep")

    @property
    def keeps_all(self) -> bool:
        return self == RetentionPolicy()

    def choose(self, manifests: Sequence[Manifest], required: Mapping[str, str]) -> dict[str, str]:
        """The names of the snapshots to keep, of `manifests` by sequence, each with the reason.

        required: names of snapshots to keep in any case, with the reason.
        """
        if self.keeps_all:
            return {manifest.name: "" for manifest in manifests}
        newest_first = list(reversed(manifests))
        names = [manifest.name for manifest in newest_first]
        chosen = dict.fromkeys(names[:1], "the newest")
        reasons = (
            ("among the newest", names[: self.last or 0]),
            ("the newest of its day", islice(_newest_of_each(newest_first, "%Y-%m-%d"), self.daily or 0)),
            ("the newest of its week", islice(_newest_of_each(newest_first, "%G-W%V"), self.weekly or 0)),
        )
        for reason, kept in reasons:
            for name in kept:
                chosen.setdefault(name, reason)
        chosen = {**required, **chosen}
        return {manifest.name: chosen[manifest.name] for manifest in manifests if manifest.name in chosen}


def _newest_of_each(newest_first: Sequence[Manifest], period: str) -> Iterator[str]:
    seen: set[str] = set()
    for manifest in newest_first:
        taken = datetime.fromisoformat(manifest.started).astimezone(UTC).strftime(period)
        if taken not in seen:
            seen.add(taken)
            yield manifest.name
