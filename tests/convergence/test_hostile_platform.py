"""A platform that is slow, shows what it has late, fails twice in a row, or forgets who is asking."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.convergence.cell import Cell
from tests.convergence.points import KILLED_AFTER, LOST_TWICE, LOST_WRITE, Mode, converges, prepare
from tests.convergence.rows import ROWS, Row
from tests.convergence.test_kill_it_anywhere import assert_converges

INSTALL = next(row for row in ROWS if row.name == "install")
EVERY_FOURTH = replace(INSTALL, every=4)  # each single request has its own trouble in test_kill_it_anywhere
EVERY_SECOND = replace(INSTALL, every=2)
UNAUTHORISED = Mode("answers 401 once", {"status": 401})
LATE = {"list_visibility_polls": 2}


class TestTwiceInARow:
    def test_two_answers_are_lost(self, cells, record_property):
        assert_converges(cells, EVERY_FOURTH, LOST_TWICE, record_property)


class TestASessionThatEnds:
    def test_at_any_request(self, cells, record_property):
        assert_converges(cells, EVERY_FOURTH, UNAUTHORISED, record_property)


class TestLateRecords:
    """What was just made is missing from the next answers, also when the request was interrupted."""

    @pytest.mark.parametrize(
        ("row", "mode"),
        [(INSTALL, LOST_WRITE), (EVERY_SECOND, KILLED_AFTER)],
        ids=["lost answer", "killed"],
    )
    def test_an_install(self, cells, row, mode, record_property):
        late = replace(mode, settings=LATE)
        assert_converges(cells, row, late, record_property)


# Two at once where they are about different things, and neither can hide that the other is not borne.
HABITS: dict[str, dict[str, Any]] = {
    "records and states show late": {"list_visibility_polls": 4, "state_polls": 3},
    "everything starts slowly, endpoints are freed late": {"state_seconds": 1.5, "endpoint_release_seconds": 3.0},
    "secrets are mounted late, an administrator's token lives for a moment": {
        "secret_mount_seconds": 2.5,
        "access_token_seconds": 0.3,
    },
    "sessions live for a moment": {"session_seconds": 0.5},
}


# What takes long meets the habit that concerns more than one of its requests.
MET_BY_ALL = "records and states show late"
MEETINGS = [(row, habit) for habit in HABITS for row in ROWS if habit == MET_BY_ALL or not row.requests]


class TestSlow:
    """Not at one request, but all the time. Each verb does its work in one go."""

    @pytest.mark.parametrize(("row", "habit"), MEETINGS, ids=[f"{habit}-{row.name}" for row, habit in MEETINGS])
    def test_a_habit_of_the_platform(self, cells: list[Cell], row: Row, habit: str) -> None:
        cell, settings = cells[0], HABITS[habit]
        prepare(cell, row)
        cell.control.change_settings(**settings)

        done = cell.run(*row.argv)

        assert done.code == 0, done
        converges(cell, row)
