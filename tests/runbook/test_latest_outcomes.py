"""Which outcomes of backups, checks, drills and the repository stand."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from runbook_support import OURS

from mlflow_ae5_deploy.ae5.models import Run
from mlflow_ae5_deploy.engine.records import Outcome, SnapshotRecord
from mlflow_ae5_deploy.engine.state import SavedState
from mlflow_ae5_deploy.jobs import tasks
from mlflow_ae5_deploy.jobs.latest_outcomes import BACKUP, CHECK, DRILL, PRUNE, REPOSITORY, latest, note, outcomes_of
from mlflow_ae5_deploy.jobs.result import read_result

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CREATE, VERIFY = tasks.backup("create"), tasks.backup("verify", "--snapshot", "latest")
VERIFY_OLD = tasks.backup("verify", "--snapshot", "S1")
LIST, SHOW = tasks.backup("list"), tasks.backup("show", "--snapshot", "latest")
SHOW_OLD = tasks.backup("show", "--snapshot", "S1")
PRUNED, DROPPED = tasks.backup("prune", "--yes"), tasks.backup("prune", "--drop-damaged", "S1")
TRIAL, UNDO = tasks.restore("--snapshot", "latest", "--dry-run"), tasks.restore("--undo")
DRILLED = tasks.drill("latest")
WELL = {"outcome": "done", "exit_code": 0}
LACKING = {**WELL, "kept": ["S1", "S2"], "incomplete": [{"snapshot": "S1", "what": "1 object missing"}]}
CREATED = {"action": "create", "snapshot": "S2"}
LISTED = {**WELL, "snapshots": [{"snapshot": "S1", "damaged": "half of it"}, {"snapshot": "S2"}]}


def broken(code, **report):
    return {"outcome": "failed", "exit_code": code, "error": "it broke", **report}


def job_result(task, report):
    log = json.dumps(report) if report else ""
    state = "completed" if report else "failed"
    return read_result(task.report, Run("r", "job", "mlflow-service", OURS.id, state), log)


def learn(task, report, newest="S2"):
    return outcomes_of(task, job_result(task, report), NOW, newest=newest)


# S2 is the newest snapshot that is known. A failure begins with `!`.
ROWS = [
    ("backup", CREATE, WELL, {BACKUP, REPOSITORY}),
    ("backup, incomplete", CREATE, broken(23), {BACKUP, REPOSITORY}),
    ("backup, destination full", CREATE, broken(28), {"!backup"}),
    ("backup that pruned", CREATE, {**WELL, **CREATED, "kept": ["S2"]}, {BACKUP, PRUNE, REPOSITORY}),
    ("backup, its prune failed", CREATE, {**WELL, **CREATED, "prune_error": "no"}, {BACKUP, "!prune", REPOSITORY}),
    (
        "backup, its prune found damage",
        CREATE,
        {**LACKING, **CREATED, "kept": ["S1"]},
        {BACKUP, PRUNE, REPOSITORY, "!check"},
    ),
    ("backup that was killed", CREATE, {}, {"!backup"}),
    ("scheduled backup, which has no words", replace(CREATE, words=()), broken(22), {"!backup"}),
    ("verify", VERIFY, WELL, {CHECK, REPOSITORY}),
    ("verify, damaged", VERIFY, broken(25), {"!check"}),
    ("verify, folder gone", VERIFY, broken(15), {"!check"}),
    ("verify, a name that is not there", VERIFY_OLD, broken(15), set()),
    ("verify that was killed", VERIFY, {}, {"!check"}),
    ("list", LIST, WELL, {REPOSITORY}),
    ("list, an older one damaged", LIST, LISTED, {REPOSITORY}),
    ("list, the newest damaged", LIST, {**LISTED, "snapshots": LISTED["snapshots"][:1]}, {REPOSITORY, "!check"}),
    ("list, folder gone", LIST, broken(15), {"!repository"}),
    ("list, something else there", LIST, broken(28), {"!repository"}),
    ("list that was killed", LIST, {}, set()),
    ("show, damaged", SHOW, broken(25), {"!check"}),
    ("show, a name that is not there", SHOW_OLD, broken(15), set()),
    ("prune", PRUNED, WELL, {PRUNE, REPOSITORY}),
    ("prune, an older one is not whole", PRUNED, LACKING, {PRUNE, REPOSITORY}),
    ("prune, the newest is not whole", PRUNED, {**LACKING, "kept": ["S1"]}, {PRUNE, REPOSITORY, "!check"}),
    ("preview of a prune", PRUNED, {**WELL, "outcome": "dry-run"}, {REPOSITORY}),
    ("prune, damaged", PRUNED, broken(25), {"!prune"}),
    ("prune, no room", PRUNED, broken(28), {"!prune"}),
    ("prune, folder gone", PRUNED, broken(15), {"!repository"}),
    ("prune while a restore is unfinished", PRUNED, broken(22), set()),
    ("prune that was killed", PRUNED, {}, set()),
    ("prune, a name that is not there", DROPPED, broken(15), set()),
    ("prune, a name of a right one", DROPPED, broken(3), set()),
    ("drill", DRILLED, WELL, {DRILL, REPOSITORY}),
    ("drill, damaged", DRILLED, broken(25), {"!drill"}),
    ("drill, folder gone", DRILLED, broken(15), {"!drill"}),
    ("drill, a check of it", DRILLED, broken(1), {"!drill"}),
    ("dry run", TRIAL, {**WELL, "outcome": "dry-run"}, {CHECK, REPOSITORY}),
    ("dry run, damaged", TRIAL, broken(25, snapshot="S2"), {"!check"}),
    ("dry run, its journal damaged", TRIAL, broken(25), set()),
    ("dry run, folder gone", TRIAL, broken(15), {"!repository"}),
    ("dry run, no room for the data", TRIAL, broken(28), set()),
    ("dry run, no database", TRIAL, broken(10), set()),
    ("undo", UNDO, {**WELL, "outcome": "undone"}, set()),
    ("undo, failed", UNDO, broken(25), set()),
    ("rehearsal of an upgrade", tasks.rehearsal(), broken(1), set()),
]


@pytest.mark.parametrize(("case", "task", "report", "outcomes"), ROWS, ids=[row[0] for row in ROWS])
def test_a_run_has_outcomes(case, task, report, outcomes):
    assert {("" if item.passed else "!") + item.of for item in learn(task, report)} == outcomes


@pytest.mark.parametrize(("state", "reported"), [("completed", False), ("failed", True)])
def test_a_run_that_completed_without_a_report_is_recorded_as_unreported(tmp_path, state, reported):
    ended = read_result(CREATE.report, Run("r", "job", "mlflow-service", OURS.id, state), "Traceback\n")
    saved = SavedState.load(tmp_path)

    note(saved, CREATE, ended, NOW)

    (outcome,) = saved.outcomes.values()
    assert (outcome.passed, outcome.reported) == (False, reported)


def test_without_any_recorded_snapshot_a_missing_one_is_no_failure():
    for task in (VERIFY, LIST, SHOW, TRIAL, DRILLED):
        assert learn(task, broken(15), newest="") == []


BAD = Outcome(CHECK, NOW, False, "damaged", snapshot="S2")
UNRUN = replace(BAD, when=NOW + timedelta(hours=1), message="no room", ran=False)
BAD_OLD = replace(BAD, snapshot="S1")
GOOD = Outcome(CHECK, NOW + timedelta(hours=1), True, snapshot="S2")
GOOD_OLD = replace(GOOD, snapshot="S1", newest=False)
STANDING = [
    ("nothing", [], None),
    ("failed", [BAD], False),
    ("cleared", [BAD, GOOD], True),
    ("in another order", [GOOD, BAD], True),
    ("failed after that", [GOOD, replace(BAD, when=GOOD.when + timedelta(hours=1))], False),
    ("an older snapshot is right", [BAD, GOOD_OLD], False),
    ("the older one itself is right", [BAD_OLD, GOOD_OLD], True),
    ("the newest is right, and it was an older one", [BAD_OLD, GOOD], True),
    ("one without a result hides no damage", [BAD, UNRUN], False),
    ("a run without a report hides no failure", [BAD, replace(UNRUN, ran=True, reported=False)], False),
    ("another kind", [BAD, Outcome(DRILL, GOOD.when, True)], False),
]


@pytest.mark.parametrize(("case", "seen", "passed"), STANDING, ids=[row[0] for row in STANDING])
def test_a_failure_stands_until_a_run_of_its_kind_succeeds(case, seen, passed):
    standing = latest(seen).get(CHECK)
    assert (standing and standing.passed) == passed
    assert standing is None or (standing.ran and standing.reported)


def test_a_check_without_a_result_says_nothing_of_the_snapshot():
    for report, ran in ((broken(25), True), (broken(28), False), ({}, False), (broken(22), False)):
        assert [item.ran for item in learn(VERIFY, report)] == [ran]
    assert latest([GOOD, replace(UNRUN, when=GOOD.when + timedelta(hours=1))])[CHECK].message == "no room"


def test_a_prune_that_drops_a_damaged_snapshot_clears_the_failure():
    failed, dropped = learn(PRUNED, broken(25)), learn(DROPPED, WELL)
    later = [replace(item, when=item.when + timedelta(hours=1)) for item in dropped]
    assert latest([*failed, *later])[PRUNE].passed


def test_outcomes_and_the_state_of_the_newest_snapshot_are_recorded(tmp_path):
    state = SavedState.load(tmp_path)
    state.snapshot = SnapshotRecord("S2", NOW)

    def noted(task, report):
        note(state, task, job_result(task, report), NOW)
        saved = SavedState.load(tmp_path)
        return saved.outcomes, saved.snapshot.verified, saved.snapshot.damaged

    outcomes, verified, damaged = noted(SHOW, broken(25, snapshot="S2", hint="take another"))
    assert outcomes == {CHECK: Outcome(CHECK, NOW, False, "it broke", "take another", "S2")}
    assert (verified, damaged) == (None, True)
    outcomes, verified, damaged = noted(VERIFY, {**WELL, "snapshot": "S2"})
    assert (outcomes[CHECK].passed, verified, damaged) == (True, NOW, False)
    outcomes, verified, damaged = noted(LIST, {**WELL, "snapshots": [{"snapshot": "S2", "damaged": "half of it"}]})
    assert (outcomes[CHECK].message, verified, damaged) == ("half of it", None, True)
