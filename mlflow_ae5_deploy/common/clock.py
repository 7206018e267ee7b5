"""Time, deadlines and the only sleep of the client."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from mlflow_ae5_deploy.common.errors import DeadlineExceeded

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Clock(Protocol):
    def monotonic(self) -> float: ...
    def worked(self) -> float:
        """As `monotonic`, without the time that questions waited for an answer."""
        ...

    def now(self) -> datetime: ...
    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock; `now()` is timezone-aware UTC."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.monotonic = monotonic
        self._at_questions = 0.0

    def worked(self) -> float:
        return self.monotonic() - self._at_questions

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """A person is asked in the body."""
        began = self.monotonic()
        try:
            yield
        finally:
            self._at_questions += self.monotonic() - began

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


class Deadline:
    """A point in time by which something must have happened."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds
        self._end = clock.monotonic() + seconds

    def remaining(self) -> float:
        return max(0.0, self._end - self.clock.monotonic())

    def expired(self) -> bool:
        return self.remaining() <= 0.0


def poll_until(
    probe: Callable[[], T | None],
    *,
    waiting_for: str,
    deadline: Deadline,
    first: float = 0.2,
    longest: float = 5.0,
    on_wait: Callable[[str], None] | None = None,
    remedy: str = "",
) -> T:
    """Call `probe` until it returns something other than None.

    Pauses grow from `first` by half up to `longest` seconds. `on_wait(waiting_for)` is called before each
    pause, for a progress display. Raises DeadlineExceeded naming what was awaited and for how long.
    """
    clock = deadline.clock
    began = clock.monotonic()
    pause = first
    while True:
        found = probe()
        if found is not None:
            return found
        if deadline.expired():
            raise DeadlineExceeded(
                f"Timed out after {deadline.seconds:.0f} s waiting for {waiting_for}.", where=waiting_for, remedy=remedy
            )
        if on_wait is not None:
            on_wait(waiting_for)
        _log.info("waiting for %s, %.1f s so far", waiting_for, clock.monotonic() - began)
        clock.sleep(min(pause, deadline.remaining()))
        pause = min(pause * 1.5, longest)
