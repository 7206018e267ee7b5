"""The result of a maintenance job: its sentence, its error, and the variables that request it."""

from __future__ import annotations

import json

import pytest
from runbook_support import OURS, Doors, context

from mlflow_ae5_deploy.ae5.models import Run
from mlflow_ae5_deploy.common import errors
from mlflow_ae5_deploy.common.durations import lasting
from mlflow_ae5_deploy.common.text import size
from mlflow_ae5_deploy.jobs import job_errors, tasks
from mlflow_ae5_deploy.jobs.contract import read
from mlflow_ae5_deploy.jobs.logs import follow_run
from mlflow_ae5_deploy.jobs.reports import REPORTS, BackupReport, Report
from mlflow_ae5_deploy.jobs.result import read_result
from mlflow_ae5_deploy.jobs.text import sentence
from tests.contract import CONTRACT


def run(state="completed"):
    return Run("a2-1", "job", "mlflow-service", OURS.id, state)


def result(state="completed", **report):
    return read_result(BackupReport, run(state), "working\n" + (json.dumps(report) + "\n" if report else ""))


GOOD = ["done", "dry-run", "undone", "rehearsed", "upgraded", "unchanged", "initialised"]
BAD = [
    ("failed by its own report", "completed", {"outcome": "failed", "exit_code": 0}),
    ("failed on the platform", "failed", {"outcome": "done", "exit_code": 0}),
    ("with a code", "completed", {"outcome": "done", "exit_code": 4}),
    ("skipped", "completed", {"outcome": "skipped", "exit_code": 22}),
    ("stopped", "stopped", {"outcome": "interrupted", "exit_code": 130}),
    ("mute", "completed", {}),
]


@pytest.mark.parametrize("outcome", GOOD)
def test_a_success_is_an_outcome_of_success_without_an_exit_code(outcome):
    assert result(outcome=outcome, exit_code=0).succeeded


@pytest.mark.parametrize(("case", "state", "report"), BAD, ids=[row[0] for row in BAD])
def test_anything_else_raises(case, state, report):
    job_result = result(state, **report)
    assert not job_result.succeeded
    with pytest.raises(errors.DeployError):
        job_errors.require(tasks.backup("create"), job_result)


LOST = [
    ("backup", tasks.backup("create")),
    ("verification of the snapshot", tasks.backup("verify")),
    ("restore", tasks.restore("--snapshot", "S1")),
    ("drill", tasks.drill("latest")),
    ("upgrade of the database schema", tasks.database_upgrade()),
]


@pytest.mark.parametrize(("purpose", "task"), LOST, ids=[row[0] for row in LOST])
def test_a_completed_run_without_a_report_is_neither_success_nor_failure(purpose, task):
    log = 'Traceback (most recent call last):\n{"level": "info"}\nOperationalError: disk I/O error\n'
    job_result = read_result(task.report, run(), log)

    with pytest.raises(errors.JobFailed) as raised:
        job_errors.require(task, job_result)

    assert raised.value.what == (
        f"The {purpose} finished, result unknown: the run is completed, and its log has no report; it ends with "
        "`OperationalError: disk I/O error`."
    )
    assert (job_result.reported, job_result.passed) == (False, None)


KINDS = {
    1: errors.JobFailed,
    2: errors.Usage,
    3: errors.Configuration,
    10: errors.Unreachable,
    11: errors.LoginFailed,
    130: errors.JobFailed,
    33: errors.SchemaMismatch,
    25: errors.SnapshotDamaged,
    26: errors.TargetNotEmpty,
    27: errors.TargetInUse,
    28: errors.RepositoryFailed,
    15: errors.NotFound,
    23: errors.PartlyDone,
    22: errors.Locked,
}


@pytest.mark.parametrize(("code", "kind"), KINDS.items())
def test_an_exit_code_raises_its_error_with_the_jobs_message(code, kind):
    job_result = result(outcome="failed", exit_code=code, error="it broke", hint="fix it")

    with pytest.raises(errors.DeployError) as raised:
        job_errors.require(tasks.restore("--snapshot", "S1"), job_result)

    assert type(raised.value) is kind
    assert (raised.value.where, raised.value.remedy) == ("run a2-1", "Fix it.")
    if code != 23:
        assert "The restore failed: it broke." in raised.value.what


def test_every_failing_exit_code_of_the_contract_has_an_error():
    assert KINDS.keys() == set(CONTRACT["exit_codes"].values()) - {0}
    assert job_errors.ERRORS == KINDS


@pytest.mark.parametrize(
    ("code", "hint", "remedy"),
    [
        (1, "fix it.", "Fix it."),
        (1, "is the volume mounted?", "Is the volume mounted?"),
        (1, "", errors.JobFailed.usual_remedy),
        (11, "", errors.JobFailed.usual_remedy),
        (28, "", errors.RepositoryFailed.usual_remedy),
    ],
)
def test_a_hint_is_a_sentence(code, hint, remedy):
    job_result = result(outcome="failed", exit_code=code, error="it broke", hint=hint)

    with pytest.raises(errors.DeployError) as raised:
        job_errors.require(tasks.drill("latest"), job_result)

    assert raised.value.remedy == remedy


WORDS = [
    (
        {"command": "Backup", "action": "create", "snapshot": "S1", "runs": 1200, "deleted_runs": 3, "models": 1,
         "rows": 5, "artifacts": 3, "artifact_bytes": 1_500_000, "new_objects": 4, "stored_bytes": 700},
        "snapshot S1 created: 1,200 runs, 3 deleted runs, 1 model, 3 artifacts (1.5 MB), 700 bytes new",
    ),
    (
        {"command": "Backup", "action": "verify", "snapshot": "S1", "checked_objects": 1, "of_objects": 1,
         "checked_bytes": 700},
        "snapshot S1 verified: 1 object intact (700 bytes uncompressed)",
    ),
    ({"command": "Backup", "action": "verify", "snapshot": "S1", "checked_objects": 1, "of_objects": 9},
     "snapshot S1 sampled: 1 of 9 objects read and intact"),
    ({"command": "Backup", "action": "list", "snapshots": [{}], "unfinished": []}, "1 snapshot"),
    ({"command": "Backup", "action": "prune", "outcome": "dry-run", "would_remove": ["a"], "kept": ["b", "c"]},
     "would delete 1 of 3 snapshots"),
    ({"command": "Backup", "action": "prune", "outcome": "dry-run", "would_remove": [], "kept": ["a"]},
     "would delete 0 of 1 snapshot"),
    (
        {"command": "Restore", "outcome": "done", "snapshot": "S1", "rows": 5, "tables": 2, "artifacts": 3,
         "artifact_bytes": 10, "dialect": {"source": "sqlite", "target": "postgresql"}, "database_identical": True,
         "artifacts_identical": True, "saved_copy": "K", "upgraded": {"revision": "a", "new_revision": "b"}},
        "restored snapshot S1: 5 rows, 3 artifacts (10 bytes), from sqlite to postgresql; database and "
        "artifacts identical to the snapshot; schema upgraded from a to b; the replaced data is saved as K",
    ),
    ({"command": "DatabaseUpgrade", "outcome": "rehearsed", "revision": "a", "expected_revision": "a",
      "migrations": []}, "the schema does not change (a)"),
    ({"command": "DatabaseUpgrade", "outcome": "unchanged", "new_revision": "a"}, "the schema is current (a)"),
    ({"command": "DatabaseUpgrade", "outcome": "upgraded", "revision": "a", "new_revision": "b"},
     "schema upgraded from a to b"),
    ({"command": "Something", "outcome": "done"}, "done"),
]  # fmt: skip


@pytest.mark.parametrize(("report", "message"), WORDS, ids=[row[1][:30] for row in WORDS])
def test_a_report_has_a_sentence(report, message):
    assert sentence(read(REPORTS.get(report["command"], Report), report)) == message


@pytest.mark.parametrize("form", REPORTS.values())
@pytest.mark.parametrize("action", ["create", "verify", "list", "show", "prune", "drop-saved", "unheard-of"])
@pytest.mark.parametrize("outcome", ["done", "dry-run", "rehearsed", "unchanged", "skipped"])
def test_a_sentence_needs_no_field(form, action, outcome):
    assert sentence(read(form, {"action": action, "outcome": outcome}))


@pytest.mark.parametrize(
    ("task", "variables"),
    [
        (tasks.backup("create"), {"MLFLOW_TRACKING_BACKUP_ARGUMENTS": "create"}),
        (tasks.restore("--snapshot", "a b"), {"MLFLOW_TRACKING_RESTORE_ARGUMENTS": "--snapshot 'a b'"}),
        (tasks.drill("latest"), {"MLFLOW_TRACKING_DRILL_ARGUMENTS": "--snapshot latest"}),
        (tasks.rehearsal(), {"MLFLOW_TRACKING_UPGRADE_REHEARSE": "true"}),
        (tasks.database_upgrade(), {}),
    ],
)
def test_a_request_becomes_variables(task, variables):
    assert dict(task.all_variables()) == variables


def test_sizes_and_durations_are_shown_in_units():
    assert [size(value) for value in (0, 999, 1000, 2_500_000_000, None, True)] == [
        "0 bytes", "999 bytes", "1.0 kB", "2.5 GB", "an unknown size", "an unknown size",
    ]  # fmt: skip
    assert [lasting(value) for value in (0.25, 99, 600, None)] == ["0.2 s", "99.0 s", "10 min", "an unknown time"]


class Vanishing:
    """A platform on which a run is active at the first read, and gone at the second."""

    def __init__(self):
        self.reads = 0

    def run(self, _run_id):
        self.reads += 1
        return run("running") if self.reads == 1 else None

    def run_log(self, _run_id):
        return "working\n"


def test_a_followed_run_that_disappears_was_deleted_by_somebody(tmp_path):
    followed = context(tmp_path, doors=Doors(platform_=Vanishing()))
    with pytest.raises(errors.NotFound, match="somebody deleted it or its job") as caught:
        follow_run(followed, "a2-1", lambda _line: None, seconds=600)
    assert "another administrator" in caught.value.remedy
