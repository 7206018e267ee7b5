"""Whatever happens to one request of a run, the next run ends in the same installation, and the one after it rests."""

from __future__ import annotations

import pytest

from tests.convergence.conftest import POINTS
from tests.convergence.points import BUSY, KILLED, KILLED_AFTER, LOST, Mode, every_point
from tests.convergence.rows import ROWS, Row

rows = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


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


@rows
class TestKilled:
    def test_before_a_request_takes_effect(self, cells, row, record_property):
        assert_converges(cells, row, KILLED, record_property)


@rows
class TestKilledTooLate:
    def test_while_a_change_takes_effect(self, cells, row, record_property):
        assert_converges(cells, row, KILLED_AFTER, record_property)


@rows
class TestLost:
    def test_the_answer_and_not_the_effect(self, cells, row, record_property):
        assert_converges(cells, row, LOST, record_property)


@rows
class TestBusy:
    def test_the_platform_answers_503_once(self, cells, row, record_property):
        assert_converges(cells, row, BUSY, record_property)
