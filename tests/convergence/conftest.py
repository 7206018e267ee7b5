"""Cells to try points in, and the sum of points at the end of the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.convergence.expectations", "tests.convergence.points")

from tests.convergence.cell import Cell, opened  # noqa: E402 - after the registration

POINTS = "points tried"
CELLS = 2  # at once: half of a point's time is spent waiting; more would wait for each other in one process


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Cell]]:
    base = tmp_path_factory.mktemp("cells")
    with ExitStack() as stack:
        opened_cells = [stack.enter_context(opened(base / str(n))) for n in range(CELLS)]
        opened_cells[0].run("--version")  # starts the fork server while nothing disturbs its warm-up
        yield opened_cells


def pytest_terminal_summary(terminalreporter: Any) -> None:
    tried = {
        report.nodeid.rpartition("::")[2]: value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == POINTS and report.when == "call"
    }
    if tried:
        terminalreporter.section("points at which something went wrong")
        for test, points in sorted(tried.items()):
            terminalreporter.write_line(f"{points:5}  {test}")
        terminalreporter.write_line(f"{sum(tried.values()):5}  in all")
