"""Stage 7: what follows from the options, the servers and the record of an earlier restore."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from runbook_support import ACCOUNT, OTHER, OURS, Lists, context, deployment, job

from mlflow_ae5_deploy.ae5.models import Run
from mlflow_ae5_deploy.common.errors import Configuration, ReleaseRefused, StageFailed, TargetInUse, TargetNotEmpty
from mlflow_ae5_deploy.common.redaction import MASK, Secret, scrub
from mlflow_ae5_deploy.config.secret_refs import SecretResolver
from mlflow_ae5_deploy.engine.context import RestoreRequest
from mlflow_ae5_deploy.engine.records import RestoreRecord
from mlflow_ae5_deploy.engine.stage import compare
from mlflow_ae5_deploy.jobs.contract import read
from mlflow_ae5_deploy.jobs.reports import RestoreReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.resources import backup_destination, server_secrets
from mlflow_ae5_deploy.resources.deployment import StopDeployment
from mlflow_ae5_deploy.resources.interrupted import end_started_restore
from mlflow_ae5_deploy.resources.restore import (
    CheckRestore,
    RestoreSnapshot,
    UndoRestore,
    note_interrupted,
    require_database,
)
from mlflow_ae5_deploy.resources.secrets import SetSecrets
from mlflow_ae5_deploy.runbook.stages.s07_recovery import RecoveryStage

NOON = datetime(2026, 3, 1, 11, tzinfo=UTC)
DONE = RestoreRecord("S1", OURS.id, NOON, "done", "S1")
VERIFIED = replace(DONE, verified=True)
STOPS = RestoreRequest("S1", stop_server=True)
REPLACES = replace(STOPS, replace=True)
UNDOES = RestoreRequest(undo=True, stop_server=True)
RUNS = True
RESTORES, STOPS_FIRST = [SetSecrets, RestoreSnapshot], [CheckRestore, StopDeployment]
ROWS = [
    ("nothing requested", None, False, None, "no restore requested"),
    ("empty target", RestoreRequest("S1"), False, None, RESTORES),
    ("done by an interrupted run", RestoreRequest("S1"), False, DONE, "resuming"),
    ("the same, by another word", RestoreRequest("latest"), False, DONE, "resuming"),
    ("the same, and stage 8 was reached", RestoreRequest("S1"), RUNS, DONE, "resuming"),
    ("started, not done", RestoreRequest("S1"), False, replace(DONE, status="started"), RESTORES),
    ("another snapshot was restored", RestoreRequest("S2"), False, DONE, RESTORES),
    (
        "into a project that is gone",
        RestoreRequest("S1"),
        False,
        replace(DONE, project_id=OTHER.id),
        RESTORES,
    ),
    ("verified", RestoreRequest("S1"), RUNS, VERIFIED, "a server has run since"),
    (
        "over, and the server is gone",
        RestoreRequest("S1"),
        False,
        VERIFIED,
        RESTORES,
    ),
    (
        "over, and requested again",
        REPLACES,
        RUNS,
        VERIFIED,
        [*STOPS_FIRST, *RESTORES],
    ),
    ("undo", UNDOES, RUNS, VERIFIED, [*STOPS_FIRST, SetSecrets, UndoRestore]),
    ("undone by an interrupted run", UNDOES, False, replace(DONE, requested="--undo"), "resuming"),
    (
        "an undo is no restore of that snapshot",
        RestoreRequest("S1"),
        False,
        replace(DONE, requested="--undo"),
        RESTORES,
    ),
    ("a server runs", RestoreRequest("S1"), RUNS, None, TargetInUse),
    (
        "a server may be stopped, its database is another",
        STOPS,
        RUNS,
        None,
        [*STOPS_FIRST, *RESTORES],
    ),
]


def context_for(tmp_path, desired, *, runs=False, record=None, **settings):
    lists = Lists(deployments_=[deployment()] if runs else [])
    where = context(tmp_path, lists=lists, **settings)
    where.options = replace(where.options, restore=desired)
    where.state.restore = record
    return where


@pytest.mark.parametrize(("case", "desired", "runs", "record", "follows"), ROWS, ids=[row[0] for row in ROWS])
def test_what_follows(tmp_path, case, desired, runs, record, follows):
    where, stage = context_for(tmp_path, desired, runs=runs, record=record), RecoveryStage()
    if isinstance(follows, type):
        with pytest.raises(follows):
            compare(stage, where)
        return

    _, diff = compare(stage, where)

    if isinstance(follows, str):
        assert follows in diff.reason
    else:
        assert [type(change) for change in diff.changes] == follows


# A started one that is not requested now -----------------------------------------------------------------------------

STARTED = replace(DONE, status="started", options="--snapshot S1 --replace")
REPORTED = "a restore of the snapshot S1 has not ended"
HALF = {"outcome": "failed", "exit_code": 24, "interrupted_restore": REPORTED}
REFUSED = {**HALF, "interrupted_restore": None}
RESTORED = {"outcome": "done", "exit_code": 0, "interrupted_restore": None}
LATER = [
    ("nothing known", None, None, False, None),
    ("restored once", VERIFIED, None, False, None),
    (
        "started",
        STARTED,
        None,
        False,
        "started at 2026-03-01 11:00 UTC was interrupted; its result",
    ),
    (
        "started in a project that was replaced since",
        replace(STARTED, project_id=OTHER.id),
        None,
        False,
        "its result is unknown",
    ),
    ("started, and a server runs", STARTED, None, RUNS, None),
    ("a job has reported it", replace(STARTED, message=REPORTED), None, False, f"are incomplete: {REPORTED}."),
    ("running", STARTED, ("running", None), False, "is still running on the platform"),
    ("running for another machine", None, ("running", None), False, "A restore is still running"),
    ("killed", STARTED, ("failed", None), False, "was interrupted: the run is failed, and its log has no report"),
    ("interrupted half way", STARTED, ("completed", HALF), False, f"are incomplete: {REPORTED}."),
    ("refused", STARTED, ("completed", REFUSED), False, None),
    ("restored while nobody watched", STARTED, ("completed", RESTORED), False, None),
]


class Records:
    """A platform with one run of one job. deleted: ids."""

    def __init__(self, state, report):
        self.found = Run("a2-r", "mlflow-ae5-deploy restore", ACCOUNT, OURS.id, state, "a2-j")
        self.log = json.dumps(report) if report else "working"
        self.deleted = []

    def runs(self, job_id=None):
        return [self.found]

    def jobs(self):
        return [job(id="a2-j", name=self.found.name, command="Restore", schedule=None)]

    def run_log(self, run_id):
        return self.log

    def delete_job(self, job_id):
        self.deleted.append(job_id)

    delete_run = delete_job


def with_records(where, left):
    if left is not None:
        where.access.platform_ = Records(*left)
        where.cached.jobs_ = where.access.platform_.jobs()
    return where


@pytest.mark.parametrize(("case", "record", "left", "runs", "message"), LATER, ids=[row[0] for row in LATER])
def test_no_server_is_started_on_a_partly_restored_database(tmp_path, case, record, left, runs, message):
    where, stage = with_records(context_for(tmp_path, None, runs=runs, record=record), left), RecoveryStage()
    if message is None:
        assert "no restore requested" in compare(stage, where)[1].reason
        return
    with pytest.raises(StageFailed, match=re.escape(message)) as refused:
        compare(stage, where)
    assert ("`restore --snapshot S1 --replace` again" in refused.value.remedy) == (record is not None)
    assert ("`restore --undo`" in refused.value.remedy) == ("are incomplete" in message)  # else nothing may be saved


RUNS_SEEN = [  # the record before, the report of the job, an earlier run: status of the record then, deleted ids
    ("complete", STARTED, REFUSED, None, None, []),
    ("partly done, started elsewhere", None, HALF, None, "started", []),
    ("partly done, started here", STARTED, HALF, None, "started", []),
    ("killed", STARTED, None, None, "started", []),
    ("complete, and the one before was killed", STARTED, REFUSED, ("failed", None), None, ["a2-j", "a2-r"]),
    ("complete yet", STARTED, REFUSED, ("running", None), "started", []),
    ("complete, for it has ended", STARTED, REFUSED, ("completed", RESTORED), "started", []),
]


@pytest.mark.parametrize(
    ("case", "record", "report", "left", "state", "gone"), RUNS_SEEN, ids=[r[0] for r in RUNS_SEEN]
)
def test_the_report_of_a_job_is_recorded(tmp_path, case, record, report, left, state, gone):
    where = with_records(context_for(tmp_path, None, record=record), left)
    line = {"outcome": "failed", "exit_code": 24, **(report or {})}
    note_interrupted(where, OURS, JobResult("a2-1", "completed", read(RestoreReport, line)))
    now = where.state.restore
    assert (now and now.status) == state
    assert ((now and now.message) or None) == (REPORTED if report is HALF else None)
    assert (left is None) or where.access.platform_.deleted == gone


def test_a_running_server_ends_a_started_restore(tmp_path):
    for note, after in ((STARTED, None), (DONE, DONE)):
        state = context_for(tmp_path, None, record=note).state
        end_started_restore(state)
        assert state.restore == after


def record_secrets(where):
    secrets = server_secrets.desired(where)
    where.state.record_secrets(ACCOUNT, secrets, where.clock.now())
    where.cached.secrets_ |= set(secrets)


def test_a_served_database_is_not_empty_and_the_server_is_not_stopped_for_it(tmp_path):
    where, stage = context_for(tmp_path, STOPS, runs=True), RecoveryStage()
    record_secrets(where)

    with pytest.raises(TargetNotEmpty, match="not empty"):
        compare(stage, where)
    where.options = replace(where.options, restore=REPLACES)
    assert [type(change) for change in compare(stage, where)[1].changes] == [
        CheckRestore,
        StopDeployment,
        RestoreSnapshot,
    ]


def test_stopping_and_replacing_need_consent_and_restoring_into_nothing_does_not(tmp_path):
    for desired, runs, needs in (
        (RestoreRequest("S1"), False, []),
        (REPLACES, True, [StopDeployment, RestoreSnapshot]),
    ):
        where, stage = context_for(tmp_path, desired, runs=runs), RecoveryStage()
        changes = compare(stage, where)[1].changes
        assert [type(change) for change in changes if change.needs_consent] == needs


def test_a_release_without_the_command_is_refused(tmp_path):
    where = context_for(tmp_path, RestoreRequest("S1"), deployment={"command": "MinimumTrackingServer"})

    with pytest.raises(ReleaseRefused, match="MinimumRestore"):
        compare(RecoveryStage(), where)


@pytest.mark.parametrize(("used", "wrong"), [("sqlite", False), ("postgresql", True), (None, False)])
def test_a_job_that_still_had_the_previous_secret_is_detected(tmp_path, used, wrong):
    where = context_for(tmp_path, RestoreRequest("S1"))
    job_result = JobResult("a2-1", "completed", read(RestoreReport, {"dialect": {"source": "sqlite", "target": used}}))
    if not wrong:
        require_database(where, job_result)
        return
    with pytest.raises(StageFailed, match="restored into postgresql, but sqlite is configured"):
        require_database(where, job_result)


# the backup destination ---------------------------------------------------------------------------------------------

URI = "az://container/prefix?sig=planted-backup-password"


def context_with(tmp_path, destination="env:BACKUPS", secrets=(), uri=URI):
    where = context(tmp_path, lists=Lists(secrets_=set(secrets)), backup={"destination": destination})
    where.values = SecretResolver({"BACKUPS": uri}, None)
    return where


def test_the_default_destination_needs_no_secret_and_another_does(tmp_path):
    assert backup_destination.observe(context_with(tmp_path, backup_destination.DEFAULT)) is None
    assert backup_destination.observe(context_with(tmp_path, "s3://bucket")).state == "new"
    left = context_with(tmp_path, backup_destination.DEFAULT, [backup_destination.VARIABLE])
    assert backup_destination.observe(left).state == "unknown", "an earlier place must not stay"


def test_a_destination_with_a_login_is_refused_and_never_printed(tmp_path):
    with pytest.raises(Configuration, match="contains credentials") as refused:
        backup_destination.destination(context_with(tmp_path, uri="s3://AKIAPLANTED:planted/pass@bucket/prefix"))
    assert "planted" not in f"{refused.value.what} {refused.value.where} {refused.value.remedy}".lower()
    assert scrub("GET http://host/AKIAPLANTED and planted/pass of it") == f"GET http://host/{MASK} and {MASK} of it"


def test_credentials_go_into_the_secret_and_the_destination_is_shown_without_them(tmp_path):
    where = context_with(tmp_path)

    assert backup_destination.destination(where).reveal() == URI
    assert isinstance(backup_destination.destination(where), Secret)
    assert backup_destination.shown(where) == "the destination in env:BACKUPS"
    assert not backup_destination.observe(where).is_news_to_the_server
