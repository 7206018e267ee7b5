"""A clock that moves only when somebody sleeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass
class ManualClock:
    """Sleeping moves it and returns at once."""

    start: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    elapsed: float = 0.0
    naps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.elapsed

    def worked(self) -> float:
        return self.elapsed

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.start.timestamp() + self.elapsed, UTC)

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.elapsed += seconds
