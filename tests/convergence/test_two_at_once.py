"""Two administrators on one machine: the second learns who, since when and at which stage; or waits.

A holder that is killed leaves nothing in the way: see test_kill_it_anywhere.py, at every request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from mlflow_ae5_deploy.engine.journal import operator
from tests.cli.answers import assert_error
from tests.cli.bench import Outcome
from tests.convergence.cell import Cell, Running, opened
from tests.convergence.points import prepare
from tests.convergence.rows import CHANGED_JOB, INSTALL, ROTATE, ROWS, UNINSTALL

ROW = {row.name: row for row in ROWS}

# verb -> the request at which it is held, the stage it then tells of (empty: whichever comes to that request first)
HELD = {
    "install": (INSTALL, "GET", "/jobs$", ""),
    "rotate-token": (ROTATE, "POST", "/credentials/user$", "store for mlflow-service"),
    "schedule-gc": (CHANGED_JOB, "POST", "/jobs$", "start"),
    "uninstall": (UNINSTALL, "DELETE", "/deployments/", "start"),
}
CHANGING = {"install": INSTALL, "rotate-token": ROTATE, "schedule-gc": CHANGED_JOB, "uninstall": UNINSTALL}


@pytest.fixture(scope="module")
def one_cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    with opened(tmp_path_factory.mktemp("two") / "cell") as cell:
        yield cell


@pytest.fixture
def cell(one_cell: Cell) -> Cell:
    prepare(one_cell, ROW["schedule-gc"])  # its ground is an installation
    return one_cell


def held(cell: Cell, verb: str) -> Running:
    argv, method, path, _ = HELD[verb]
    skip = 1 if "credentials" in path else 0  # the first secret is the lock for other machines
    cell.control.add_fault(method=method, path=path, skip=skip, hold=True)
    running = cell.spawn(*argv)
    cell.until(lambda: running.ended or cell.control.held() > 0, f"the request of {verb}")
    assert cell.control.held() == 1
    return running


def let_go(cell: Cell, running: Running) -> Outcome:
    cell.control.clear_faults()
    return running.outcome()


@pytest.mark.parametrize("verb", HELD)
def test_every_other_run_names_the_holder(cell: Cell, verb: str) -> None:
    first = held(cell, verb)
    lock = json.loads((cell.state_folder / "lock").read_text())
    assert lock["verb"] == verb
    cell.control.clear_calls()

    refused = {other: cell.run(*argv) for other, argv in CHANGING.items()}

    stage = HELD[verb][3] or lock["stage"]
    for outcome in refused.values():
        assert_error(outcome, 22, operator(), f"pid {first.pid}", f"{verb}, ", f"stage {stage}")
        assert re.search(r"since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", outcome.err)
        assert "--lock-wait" in outcome.err
    assert not [
        call for call in cell.control.calls() if call.method in ("POST", "PUT", "DELETE") and "/v2/" in call.path
    ]
    assert let_go(cell, first).code == 0


@pytest.mark.parametrize("verb", ["plan", "status", "env"])
def test_whoever_only_looks_is_not_kept_waiting(cell: Cell, verb: str) -> None:
    first = held(cell, "install")

    seen = cell.run(verb, "--sandbox")

    assert seen.code == 0, seen
    assert let_go(cell, first).code == 0


def test_a_second_call_that_waits_goes_by_what_the_first_has_done(cell: Cell) -> None:
    """On a fresh platform: had it looked before it waited, it would install everything once more."""
    prepare(cell, ROW["install"])
    cell.control.add_fault(method="POST", path="/projects/upload$", hold=True)
    first = cell.spawn(*INSTALL)
    cell.until(lambda: first.ended or cell.control.held() > 0, "stage 6 of the first")
    second = cell.spawn(*INSTALL, "--lock-wait", "60")
    lock = cell.state_folder / "lock"
    cell.until(lambda: second.ended or second.holds_open(lock), "the second to wait")

    assert not second.ended
    done = let_go(cell, first)
    waited = second.outcome()

    assert (done.code, done.data["outcome"]) == (0, "changed"), done
    assert (waited.code, waited.data["outcome"], waited.data["writes"]) == (0, "unchanged", 0), waited
    ROW["install"].holds(cell)


def test_waiting_has_an_end(cell: Cell) -> None:
    first = held(cell, "install")

    refused = cell.run(*INSTALL, "--lock-wait", "0.6")

    assert_error(refused, 22, f"pid {first.pid}")
    assert let_go(cell, first).code == 0


@pytest.mark.parametrize("verb", CHANGING)
def test_the_help_says_that_other_machines_are_waited_for_too(cell: Cell, verb: str) -> None:
    help_text = " ".join(re.sub(r"[│|]", " ", cell.run(verb, "--help").out).split())

    assert "also on another machine" in help_text.partition("--lock-wait")[2][:200], help_text
