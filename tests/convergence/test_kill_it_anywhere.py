"""Whatever happens to one request of a run, the next run converges, and the one after it changes nothing."""

from __future__ import annotations

import itertools

import pytest

from tests.convergence.cell import Cell
from tests.convergence.conftest import POINTS
from tests.convergence.points import (
    BUSY,
    BUSY_WRITE,
    KILLED,
    KILLED_AFTER,
    LOST,
    LOST_WRITE,
    MOST_POINTS,
    OF_MLFLOW,
    READS,
    Mode,
    converges,
    every_point,
    prepare,
)
from tests.convergence.rows import ROWS, Row
from tests.convergence.secrecy import leaked

SIGN_IN = "/login"
SHORT, LONG = ([row for row in ROWS if bool(row.requests) is long] for long in (False, True))
POINTS_OF = [(row, mode) for row in SHORT for mode in (KILLED, KILLED_AFTER, LOST_WRITE, BUSY_WRITE)] + [
    (row, mode) for row in LONG for mode in (KILLED, KILLED_AFTER, LOST, BUSY)
]


def assert_converges(cells, row: Row, mode: Mode, record_property) -> None:
    tally = every_point(cells, row, mode)
    record_property(POINTS, tally.reached)
    if tally.failures:
        pytest.fail("\n\n".join([f"{len(tally.failures)} points", *tally.failures]), pytrace=False)
    if row.requests:
        assert tally.reached == len(mode.shares), "the row tells of more requests than it has"
    else:
        assert tally.undisturbed
        assert tally.reached >= 5


@pytest.mark.parametrize(("row", "mode"), POINTS_OF, ids=[f"{mode.name}-{row.name}" for row, mode in POINTS_OF])
def test_a_run_converges_after_a_fault(cells, mode, row, record_property):
    assert_converges(cells, row, mode, record_property)


@pytest.mark.parametrize("row", SHORT, ids=[row.name for row in SHORT])
@pytest.mark.parametrize("mode", [LOST, BUSY], ids=lambda mode: mode.name)
def test_a_run_repeats_each_read_that_fails_once(cells: list[Cell], mode: Mode, row: Row) -> None:
    """Each one fails, and the next one, which repeats it, does not. /login fails once: its code is used then.

    Reads of the server are left out: a job sends some at the same time, so the next one may be another's.
    """
    cell = cells[0]
    prepare(cell, row)
    cell.control.add_fault(path=SIGN_IN, **mode.fault)
    for number in range(MOST_POINTS):
        cell.control.add_fault(method=READS, path=f"^(?!{OF_MLFLOW}).*(?<!{SIGN_IN})$", skip=number, **mode.fault)
    done = cell.run(*row.argv)
    assert done.code == 0, done
    reads = [call for call in cell.control.calls() if call.method in READS and not call.path.startswith(OF_MLFLOW)]
    others = [call for call in reads if call.path != SIGN_IN]
    failed = [call.status in (0, 503) for call in others]
    assert len(failed) >= 20
    assert failed == [number % 2 == 0 for number in range(len(failed))], reads
    pairs = [(one.path, two.path) for one, two in itertools.pairwise(others)][::2]
    assert [pair for pair in pairs if len({*pair}) > 1] == []
    assert next(call.status for call in reads if call.path == SIGN_IN) in (0, 503)
    cell.control.clear_faults()
    assert leaked(cell, [done, *converges(cell, row, str(done), done=True)]) == []
