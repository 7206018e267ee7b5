"""Which snapshots a retention policy keeps: the newest, one per day, one per week."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from mlflow_ae5_server.common.errors import UsageError
from mlflow_ae5_server.repository.manifest import Manifest


@dataclass(frozen=True)
class RetentionPolicy:
    """Numbers of snapshots to keep; None for all three keeps every snapshot."""

    last: int | None = None
    daily: int | None = None  # the newest of each of so many days (UTC)
    weekly: int | None = None

    def check(self) -> None:
        for name, number in vars(self).items():
            if number is not None and number < 0:
                raise UsageError(f"--keep-{name} {number} is negative", "give a number of snapshots to keep")

    def choose(self, manifests: Sequence[Manifest], required: Sequence[Manifest]) -> list[Manifest]:
        """The snapshots to keep, of `manifests` by sequence, and `required` in any case."""
        if self == RetentionPolicy():
            return list(manifests)
        newest_first = list(reversed(manifests))
        chosen = {manifest.name for manifest in [*newest_first[:1], *newest_first[: self.last or 0], *required]}
        for number, period in ((self.daily, "%Y-%m-%d"), (self.weekly, "%G-W%V")):
            chosen.update(islice(_newest_of_each(newest_first, period), number or 0))
        return [manifest for manifest in manifests if manifest.name in chosen]


def _newest_of_each(newest_first: Sequence[Manifest], period: str) -> Iterator[str]:
    seen: set[str] = set()
    for manifest in newest_first:
        taken = datetime.fromisoformat(manifest.started).astimezone(UTC).strftime(period)
        if taken not in seen:
            seen.add(taken)
            yield manifest.name
