"""Every request of a run, one after the other, as the point at which something goes wrong."""

from __future__ import annotations

import re
import threading
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from mlflow_ae5_deploy.common.errors import EXIT_BUG
from mlflow_ae5_deploy.sandbox.info import SandboxError
from tests.cli.bench import Outcome
from tests.convergence.cell import Cell, Running, is_change
from tests.convergence.rows import Row
from tests.convergence.secrecy import leaked

WRITES = "(?!GET|HEAD).*"
READS = "GET|HEAD"
OF_MLFLOW = "/api/2.0/mlflow/"  # requests to the server, some of which a job or another thread of the run sends
MOST_POINTS = 400


@dataclass(frozen=True)
class Mode:
    """What goes wrong at request k. fault, settings: of the sandbox. kill: the process ends while the request is
    held. places: which requests it hits in a row that tells how many it has, as shares of that number."""

    name: str
    fault: dict[str, Any]
    kill: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    shares: tuple[float, ...] = ()

    def points(self, row: Row) -> Iterator[int]:
        """All there are and more, or a few."""
        if not row.requests:
            return iter(range(0, MOST_POINTS, row.every))
        return iter([int(share * row.requests) for share in self.shares])


# Shares of all requests, of which about a fourth are writes.
KILLED = Mode("killed before it takes effect", {"hold": True, "drop": "before"}, kill=True, shares=(0.1, 0.45, 0.8))
KILLED_AFTER = Mode(
    "killed before the answer",
    {"method": WRITES, "hold": True, "after": True},
    kill=True,
    shares=(0.04, 0.1, 0.18),
)
LOST = Mode("takes effect, and the answer is lost", {"drop": "after"}, shares=(0.25, 0.65))
LOST_WRITE = replace(LOST, fault={"method": WRITES, **LOST.fault})
BUSY = Mode("answers 503 once", {"status": 503}, shares=(0.5,))
BUSY_WRITE = replace(BUSY, fault={"method": WRITES, **BUSY.fault})
LOST_TWICE = Mode("this and the next answer are lost", {"drop": "after", "times": 2})
BUSY_TWICE = Mode("this and the next answer 503", {"status": 503, "times": 2})


# What is new in each run: a word of some length with a digit in it, and every number.
_NEW = re.compile(r"(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{6,}|[0-9]+")
_CONVERGED: set[tuple[object, ...]] = set()  # what points left from which the runs that followed have converged


def _masked(text: str) -> str:
    return _NEW.sub("#", text)


@dataclass
class Tally:
    """reached: how many points there were. undisturbed: what a run did whose point lay behind its end.
    killed: what there was when a run was killed."""

    reached: int = 0
    killed: dict[tuple[object, ...], Trial] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    undisturbed: list[Outcome] = field(default_factory=list)


def every_point(cells: Sequence[Cell], row: Row, mode: Mode) -> Tally:
    """Points are taken by whichever cell is free, until one lies behind the end of the run."""
    tally, lock, points = Tally(), threading.Lock(), mode.points(row)
    over = threading.Event()

    def work(cell: Cell) -> None:
        while not over.is_set():
            with lock:
                k = next(points, None)
            if k is None:
                return
            problem, reached = "", True
            trial = Trial(cell, row, mode, k)
            try:
                reached = trial.run(tally)
            except Exception:
                problem = f"request {k} of {row.name} {mode.name} ({trial.request}):\n{traceback.format_exc()}"
            with lock:
                tally.reached += reached
                if problem:
                    tally.failures.append(problem)
            if not reached or len(tally.failures) >= 5:
                over.set()

    with ThreadPoolExecutor(len(cells)) as pool:
        list(pool.map(work, cells))
    return tally


class Trial:
    """One point. request: what was hit, for the message when it does not converge.

    A run that is killed before a request takes effect leaves what there is then, and nothing is between two reads:
    so every request is held, and the first one kills that meets what no earlier point has left.
    """

    def __init__(self, cell: Cell, row: Row, mode: Mode, k: int) -> None:
        self.cell, self.row, self.mode = cell, row, mode
        self.holds_all = mode is KILLED and not row.requests
        self.k = 0 if self.holds_all else k
        self.request = "not reached"

    def run(self, tally: Tally) -> bool:
        """Whether the run had a request k. What left the same as an earlier point is not run again."""
        prepare(self.cell, self.row)
        control = self.cell.control
        control.change_settings(**self.mode.settings)
        every = {"times": None, "path": f"^(?!{OF_MLFLOW})"} if self.holds_all else {}
        added = control.add_fault(skip=self.k, **self.mode.fault, **every)
        running = self.cell.spawn(*self.row.argv)
        killed = self.mode.kill and self._kill(running, tally)
        first = running.outcome()
        reached = killed if self.mode.kill else all(fault.times != added.times for fault in control.faults())
        control.clear_faults()
        self._name_request()
        if killed:
            assert first.code == -9, first
        else:
            assert_clear_error(first)
        if not reached:
            assert first.code == 0, first
            tally.undisturbed.append(first)
        left = (self.row.name, repr(self.mode.settings), first.code == 0, self._remains())
        outcomes = []
        if not reached or left not in _CONVERGED:
            outcomes = converges(self.cell, self.row, str(first), done=first.code == 0)
            _CONVERGED.add(left)
        assert leaked(self.cell, [first, *outcomes]) == []
        return reached

    def _remains(self) -> tuple[object, ...]:
        """The writes that took effect since the ground, but those of signing in, and the operator's files, both without
        what is new each time: ids, times, tokens. All that a next run can meet follows from these.
        """
        lost = self.mode.fault.get("drop") != "before"
        effects = [
            f"{call.method} {_masked(call.path)}"
            for call in self.cell.control.calls()
            if (is_change(call) or call.secret) and (call.status < 400 if call.status else lost)
        ]
        state = self.cell.state
        tops = [top for top in state.iterdir() if top.name != "sandbox"]  # which works meanwhile
        files = [path for top in tops for path in (top, *top.rglob("*")) if path.is_file()]
        texts = [
            f"{_masked(str(path.relative_to(state)))}: {'' if path.suffix == '.gz' else _masked(path.read_text())}"
            for path in files
        ]
        return (*effects, *sorted(texts))

    def _kill(self, running: Running, tally: Tally) -> bool:
        """Exactly when the request has arrived. False if the run ended before."""
        control = self.cell.control
        while True:
            self.cell.until(lambda: control.held() > 0 or running.ended, "the request to arrive")
            if not control.held():
                return False
            if not self.holds_all or tally.killed.setdefault(self._remains(), self) is self:
                break
            control.release()
            self.k += 1
        before = len(control.calls())
        running.kill()
        control.clear_faults()
        self.cell.until(lambda: len(control.calls()) > before, "the held request to be done with")
        assert all(call.status < 300 for call in control.calls()[before:])  # it did what it was to do
        return True

    def _name_request(self) -> None:
        pattern = self.mode.fault.get("method", ".*")
        hit = [
            call
            for call in self.cell.control.calls()
            if re.fullmatch(pattern, call.method) and not (self.holds_all and call.path.startswith(OF_MLFLOW))
        ]
        if self.k < len(hit):
            self.request = f"{hit[self.k].method} {hit[self.k].path}"


def prepare(cell: Cell, row: Row) -> None:
    """The ground of the row, made once for each cell and copied after that."""
    try:
        _prepare(cell, row)
    except SandboxError:
        cell.reset()
        _prepare(cell, row)


def _prepare(cell: Cell, row: Row) -> None:
    if not cell.has(row.name):
        if not cell.has("fresh"):
            cell.keep("fresh")
        cell.restore("fresh")
        (cell.folder / "work" / "mlflow-ae5-deploy.yaml").write_text(row.configuration)
        for argv in row.rotation:
            done = cell.run(*argv)
            assert done.code == 0, done
        row.then(cell)
        cell.keep(row.name)
    else:
        cell.restore(row.name)
    cell.control.clear()


def converges(cell: Cell, row: Row, before: str = "", *, done: bool = False) -> list[Outcome]:
    """The runs that followed. What is `done` is not run again: it must be settled as it is."""
    again = [] if done else [cell.run(*row.again)]
    assert all(outcome.code == 0 for outcome in again), f"again: {again}\nbefore: {before}"
    settled, writes = cell.counted(*row.settled)
    assert settled.code == 0, settled
    assert row.unchanged(settled.data), f"the second run: {settled}\nthe first: {again}\nbefore: {before}"
    assert writes == [], f"the second run: {settled}"
    row.holds(cell)
    return [*again, settled]


def assert_clear_error(outcome: Outcome) -> None:
    """A failure is one that the program knows, in its own words."""
    assert outcome.code != EXIT_BUG, outcome
    assert "Traceback" not in outcome.err, outcome
    if outcome.code != 0:
        assert outcome.data["outcome"] != "unchanged", outcome
        assert "  do this  " in outcome.err, outcome
