"""Progress of a job: lines in its log that say which phase runs and how much of it is done, see contract.json.

A line has words of the contract and numbers only, so it can carry neither a secret nor anybody else's text.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator

from mlflow_ae5_server.common.contract import CONTRACT, PHASES
from mlflow_ae5_server.common.redaction import ScrubbingStream

EVERY = 2.0  # seconds between two lines of a phase
_NAMES: dict[str, str] = CONTRACT["progress"]["phases"]
_UNITS: list[str] = CONTRACT["progress"]["units"]


class Phase:
    """A phase that runs. `advance` may be called from any thread, and costs less than a microsecond."""

    def __init__(self, report: Callable[..., None], clock: Callable[[], float], every: float) -> None:
        self.done = 0
        self.total: int | None = None
        """None while it is not known."""
        self.on_slow: Callable[[], None] | None = None
        """Called once, when the phase has run for half the time to its next line."""
        self._report, self._clock, self._every = report, clock, every
        self._lock = threading.Lock()
        self._started = clock()
        self._next = self._started + every

    def advance(self, number: int = 1) -> None:
        with self._lock:
            self.done += number
            now, slow = self._clock(), None
            if self.on_slow is not None and now >= self._started + self._every / 2:
                slow, self.on_slow = self.on_slow, None
            if now >= self._next:
                self._next = now + self._every
                self._report(self.done, self.total, now - self._started)
        if slow is not None:
            slow()

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
        every: float = EVERY,
    ) -> None:
        self._phases = list(phases)
        self._write = write or _to_log
        self._clock, self._every = clock, every

    @contextlib.contextmanager
    def phase(self, name: str, unit: str | None = None, total: int | None = None) -> Iterator[Phase]:
        """Report the phase `name` while the block runs: when it starts, every few seconds, and when it has ended."""

        def report(done: int, total: int | None, seconds: float, *, ended: bool = False) -> None:
            if self._phases:
                self._write(self._line(name, unit, done, total, seconds, ended=ended))

        if name not in _NAMES or unit not in (None, *_UNITS):
            raise ValueError(f"contract.json has no phase {name} in {unit}")
        running = Phase(report, self._clock, self._every)
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
