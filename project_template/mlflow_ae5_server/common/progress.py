"""Progress of a job: lines in its log that say which phase runs and how much of it is done, see contract.json.

A line has words of the contract and numbers only, so it can carry neither a secret nor anybody else's text.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sized
from typing import TypeVar

from mlflow_ae5_server.common.contract import CONTRACT, PHASES
from mlflow_ae5_server.common.redaction import ScrubbingStream

EVERY = 2.0  # seconds between two lines of a phase that counts
_NAMES: dict[str, str] = CONTRACT["progress"]["phases"]
_UNITS: list[str] = CONTRACT["progress"]["units"]
S = TypeVar("S", bound=Sized)


class Phase:
    """A phase that runs. `advance` may be called from any thread, and costs less than a microsecond."""

    def __init__(self, report: Callable[..., None], clock: Callable[[], float]) -> None:
        self.done = 0
        self.total: int | None = None
        """None while it is not known."""
        self._report, self._clock = report, clock
        self._lock = threading.Lock()
        self._started = clock()
        self._next = self._started + EVERY

    def advance(self, number: int = 1) -> None:
        with self._lock:
            self.done += number
            now = self._clock()
            if now >= self._next:
                self._next = now + EVERY
                self._report(self.done, self.total, now - self._started)

    def was(self, number: int) -> None:
        """Set how much it was in all, where `advance` or `total` were approximate."""
        with self._lock:
            self.done = number
            self.total = None if self.total is None else number

    def line(self, *, ended: bool = False) -> None:
        with self._lock:
            self._report(self.done, self.total, self._clock() - self._started, ended=ended)


class Progress:
    """Writes the lines of one job. phases: those of this run, in order."""

    def __init__(
        self,
        phases: Iterable[str] = (),
        *,
        write: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._phases = list(phases)
        self._write = write or _to_log
        self._clock = clock

    @contextlib.contextmanager
    def phase(self, name: str, unit: str | None = None, total: int | None = None) -> Iterator[Phase]:
        """Report the phase `name` while the block runs: when it starts, while it counts, and when it has ended."""

        def report(done: int, total: int | None, seconds: float, *, ended: bool = False) -> None:
            if self._phases:
                self._write(self._line(name, unit, done, total, seconds, ended=ended))

        if name not in _NAMES or unit not in (None, *_UNITS):
            raise ValueError(f"contract.json has no phase {name} in {unit}")
        running = Phase(report, self._clock)
        running.total = total
        running.line()
        yield running
        running.line(ended=True)

    def _line(self, name: str, unit: str | None, done: int, total: int | None, seconds: float, *, ended: bool) -> str:
        fields: dict[str, object] = {"phase": name}
        if name in self._phases:
            fields |= {"step": self._phases.index(name) + 1, "steps": len(self._phases)}
        if unit is not None:
            fields |= {"done": done, "total": total, "unit": unit}
        if total is not None and done > total:  # more has come since it was counted
            fields["total"] = None
        fields |= {"seconds": round(seconds, 1), "ended": ended}
        return "progress " + json.dumps({name: value for name, value in fields.items() if value is not None})


def _to_log(line: str) -> None:
    """Past the filter: a password such as "12345" must not turn a number into stars."""
    stream = sys.stderr
    stream.flush()
    inner = stream.inner if isinstance(stream, ScrubbingStream) else stream
    inner.write(f"{line}\n")
    inner.flush()


_current = Progress()


def start(command: str, variant: str = "run", without: Collection[str] = ()) -> None:
    """Begin the progress of this process's job. Before that, `phase` writes nothing.

    without: phases that this run does not have.
    """
    global _current
    _current = Progress([name for name in PHASES[command][variant] if name not in without])


def phase(name: str, unit: str | None = None, total: int | None = None) -> contextlib.AbstractContextManager[Phase]:
    """A phase of this process's job, see `Progress.phase`."""
    return _current.phase(name, unit, total)


def reported(items: Iterable[S], advance: Callable[[int], None], size: Callable[[S], int] = len) -> Iterator[S]:
    """Call `advance` with the size of each item that has been used."""
    for item in items:
        yield item
        advance(size(item))
