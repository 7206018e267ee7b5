"""Whatever happens to one request of a run, the next run converges, and the one after it changes nothing."""

from __future__ import annotations

import pytest

from tests.convergence.conftest import POINTS
from tests.convergence.points import BUSY, KILLED, KILLED_AFTER, LOST, Mode, every_point
from tests.convergence.rows import ROWS, Row


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


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
@pytest.mark.parametrize("mode", [KILLED, KILLED_AFTER, LOST, BUSY], ids=lambda mode: mode.name)
def test_a_run_converges_after_a_fault(cells, mode, row, record_property):
    assert_converges(cells, row, mode, record_property)
