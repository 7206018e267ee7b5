"""Two administrators on two machines, whose runs meet at any request: one works, the other is told who does."""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Iterator

import pytest

from mlflow_ae5_deploy.common.errors import EXIT_DONE
from mlflow_ae5_deploy.engine.lease import PREFIX
from tests.cli.bench import Outcome
from tests.convergence.cell import ACCOUNT, PROJECT, Cell, opened
from tests.convergence.expectations import JOB, database, requested, use_data
from tests.convergence.points import prepare
from tests.convergence.rows import BACKUP, INSTALL_FIRST, ROTATE, UNINSTALL, UPGRADE, Row, all_stages_unchanged

ALICE, BOB = "alice", "bob"
RESTORE = ("restore", "--sandbox", "--json", "--yes", "--replace", "--stop-server", "--release", "{first}")
VERBS = {
    "install": INSTALL_FIRST,
    "upgrade": UPGRADE,
    "restore": RESTORE,
    "rotate-token": ROTATE,
    "uninstall": UNINSTALL,
}
SIGNED_IN = 6  # requests, after which a run takes the lease
MEETINGS = 50
TOLD = {  # what stderr says, by exit code
    14: r"Not confirmed: replace project",  # `install` of another release than that of an upgrade
    15: r"There is no deployment `|has no project `",  # `rotate-token`, `upgrade` after an uninstall
    22: r"another run: \S+, {winner}@|machine's \S+ was interrupted: {winner}@",
}


def both_know_it(cell: Cell) -> None:
    # Bob's machine does not know the stored secrets, which it therefore asks about.
    for argv, machine in ((INSTALL_FIRST, ALICE), (BACKUP, ALICE), ((*INSTALL_FIRST, "--yes"), BOB)):
        done = cell.run(*argv, machine=machine)
        assert done.code == 0, done
        if argv is not BACKUP:
            use_data(cell)


GROUND = Row(
    "two machines", INSTALL_FIRST, (), (), all_stages_unchanged, lambda _: None, rotation=(), then=both_know_it
)


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    with opened(tmp_path_factory.mktemp("two") / "cell") as one:
        yield one


@pytest.mark.parametrize("seed", range(MEETINGS))
def test_two_runs_that_meet_at_any_request(cell: Cell, seed: int) -> None:
    chance = random.Random(seed)
    mine, other = (chance.choice(list(VERBS)) for _ in range(2))
    mine_at, other_at = chance.choice((chance.randrange(SIGNED_IN), chance.randrange(60))), chance.randrange(12)
    killed = chance.random() < 0.3
    prepare(cell, GROUND)
    control = cell.control

    control.add_fault(skip=mine_at, hold=True)
    alice = cell.spawn(*VERBS[mine], machine=ALICE)
    cell.until(lambda: control.held() > 0 or alice.ended, "the request of the first")
    control.add_fault(skip=other_at, hold=True)
    bob = cell.spawn(*VERBS[other], machine=BOB)
    cell.until(lambda: control.held() > (not alice.ended) or bob.ended, "the request of the second")
    if killed and not alice.ended:
        alice.kill()
    control.clear_faults()
    ends = {ALICE: alice.outcome(), BOB: bob.outcome()}

    met = f"{mine} held at {mine_at}{', killed' if killed else ''}; {other} held at {other_at}: {ends}"
    assert any(end.code in (0, -9) for end in ends.values()), met
    for winner, loser in ((BOB, ALICE), (ALICE, BOB)):
        assert_told(ends[loser], winner, met)
    if ends[ALICE].code == -9:
        again = cell.run(*VERBS[mine], machine=ALICE)
        assert_told(again, BOB, f"{met}; again {again}")
    assert_nothing_lost_and_nothing_twice(cell, met)


def assert_told(end: Outcome, winner: str, met: str) -> None:
    """It has done its work, or says whose comes first; or what it met is of a run that came before it."""
    assert "Traceback" not in end.err, met
    if end.code not in (EXIT_DONE, -signal.SIGKILL):
        assert end.code in TOLD, met
        assert re.search(TOLD[end.code].format(winner=winner), end.err), met


def assert_nothing_lost_and_nothing_twice(cell: Cell, met: str) -> None:
    records = cell.records()
    assert [name for name in records["secrets"][ACCOUNT] if name.startswith(PREFIX)] == [], met
    projects = [project["name"] for project in records["projects"].values()]
    jobs = [job["name"] for job in records["jobs"].values()]
    assert projects in ([], [PROJECT]), met
    assert len(records["deployments"]) == len(projects), met
    assert jobs == ([JOB["name"]] if projects else []), met
    assert database(cell).read_text().endswith("\nlogged\n"), met
    if projects:
        own = {name: secret["value"] for name, secret in records["secrets"][ACCOUNT].items()}
        url, token = own["MLFLOW_TRACKING_URI"], own["MLFLOW_TRACKING_TOKEN"]
        assert requested(cell, url, token).status_code == 200, met
