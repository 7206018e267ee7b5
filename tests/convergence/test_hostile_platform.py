"""A platform that is slow, shows what it has late, fails twice in a row, or forgets who is asking."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.convergence.cell import Cell
from tests.convergence.points import KILLED_AFTER, LOST_TWICE, WRITES, Mode, converges, prepare
from tests.convergence.rows import ROWS, Row
from tests.convergence.test_kill_it_anywhere import assert_converges

INSTALL = next(row for row in ROWS if row.name == "install")
EVERY_THIRD = replace(INSTALL, every=3)  # each single request has its own trouble in test_kill_it_anywhere
UNAUTHORISED = Mode("answers 401 once", {"status": 401})
LOST_WRITE = Mode("takes effect, and the answer is lost", {"method": WRITES, "drop": "after"})
LATE = {"list_visibility_polls": 2}


class TestTwiceInARow:
    def test_two_answers_are_lost(self, cells, record_property):
        assert_converges(cells, EVERY_THIRD, LOST_TWICE, record_property)


class TestASessionThatEnds:
    def test_at_any_request(self, cells, record_property):
        assert_converges(cells, EVERY_THIRD, UNAUTHORISED, record_property)


class TestLateRecords:
    """What was just made is missing from the next answers, also when its making was cut off."""

    @pytest.mark.parametrize("mode", [LOST_WRITE, KILLED_AFTER], ids=["lost answer", "killed"])
    def test_an_install(self, cells, mode, record_property):
        late = replace(mode, settings=LATE)
        assert_converges(cells, INSTALL, late, record_property)


SETTINGS: dict[str, dict[str, Any]] = {
    "records show late": {"list_visibility_polls": 4},
    "states show late": {"state_polls": 3},
    "everything starts slowly": {"state_seconds": 1.5},
    "endpoints are freed late": {"endpoint_release_seconds": 3.0},
    "secrets are mounted late": {"secret_mount_seconds": 2.5},
    "an administrator's token lives for a moment": {"access_token_seconds": 0.3},
    "sessions live for a moment": {"session_seconds": 0.5},
}


# What takes long meets those habits that concern more than one of its requests.
MET_BY_ALL = ("records show late", "states show late")
MEETINGS = [(row, habit) for habit in SETTINGS for row in ROWS if habit in MET_BY_ALL or not row.requests]


class TestSlow:
    """Not at one request, but all the time. Each verb does its work in one go."""

    @pytest.mark.parametrize(("row", "habit"), MEETINGS, ids=[f"{habit}-{row.name}" for row, habit in MEETINGS])
    def test_a_habit_of_the_platform(self, cells: list[Cell], row: Row, habit: str) -> None:
        cell, settings = cells[0], SETTINGS[habit]
        prepare(cell, row)
        cell.control.change_settings(**settings)

        done = cell.run(*row.argv)

        assert done.code == 0, done
        converges(cell, row)
