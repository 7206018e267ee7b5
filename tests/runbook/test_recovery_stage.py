"""Stage 7: what follows from the wish, the servers there, and what is remembered of an earlier restore."""

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
from mlflow_ae5_deploy.config.secret_values import SecretResolver
from mlflow_ae5_deploy.engine.context import RestoreRequest
from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.engine.records import RestoreRecord
from mlflow_ae5_deploy.engine.stage import compare
from mlflow_ae5_deploy.resources import backup_destination, server_secrets
from mlflow_ae5_deploy.resources.deployment import StopDeployment
from mlflow_ae5_deploy.resources.interrupted import end_started_restore
from mlflow_ae5_deploy.resources.restore import CheckRestore, RestoreSnapshot, UndoRestore, learn, require_repository
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
    ("nothing asked", None, False, None, "no restore requested"),
    ("empty place", RestoreRequest("S1"), False, None, RESTORES),
    ("done by a run that was cut off", RestoreRequest("S1"), False, DONE, "resuming"),
    ("the same, by another word", RestoreRequest("latest"), False, DONE, "resuming"),
    ("the same, and stage 8 was reached", RestoreRequest("S1"), RUNS, DONE, "resuming"),
    ("begun, not done", RestoreRequest("S1"), False, replace(DONE, status="started"), RESTORES),
    ("another snapshot was restored", RestoreRequest("S2"), False, DONE, RESTORES),
    (
        "into a project that is gone",
        RestoreRequest("S1"),
        False,
        replace(DONE, project_id=OTHER.id),
        RESTORES,
    ),
    ("over and done", RestoreRequest("S1"), RUNS, VERIFIED, "a server has run since"),
    (
        "over, and the server is gone",
        RestoreRequest("S1"),
        False,
        VERIFIED,
        RESTORES,
    ),
    (
        "over, and wanted again",
        REPLACES,
        RUNS,
        VERIFIED,
        [*STOPS_FIRST, *RESTORES],
    ),
    ("undo", UNDOES, RUNS, VERIFIED, [*STOPS_FIRST, SetSecrets, UndoRestore]),
    ("undone by a run that was cut off", UNDOES, False, replace(DONE, requested="--undo"), "resuming"),
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


def asked(tmp_path, desired, *, runs=False, known=None, **settings):
    lists = Lists(deployments_=[deployment()] if runs else [])
    where = context(tmp_path, lists=lists, **settings)
    where.options = replace(where.options, recovery=desired)
    where.state.restore = known
    return where


@pytest.mark.parametrize(("case", "desired", "runs", "known", "follows"), ROWS, ids=[row[0] for row in ROWS])
def test_what_follows(tmp_path, case, desired, runs, known, follows):
    where, stage = asked(tmp_path, desired, runs=runs, known=known), RecoveryStage()
    if isinstance(follows, type):
        with pytest.raises(follows):
            compare(stage, where)
        return

    _, diff = compare(stage, where)

    if isinstance(follows, str):
        assert follows in diff.reason
    else:
        assert [type(change) for change in diff.changes] == follows


# One that was begun, and is not asked for now -------------------------------------------------------------------------

STARTED = replace(DONE, status="started")
REPORTED = "a restore of the snapshot S1 has not ended"
HALF = {"outcome": "failed", "exit_code": 24, "interrupted_restore": REPORTED}
REFUSED = {**HALF, "interrupted_restore": None}
RESTORED = {"outcome": "done", "exit_code": 0, "interrupted_restore": None}
UNASKED = [
    ("nothing known", None, None, False, None),
    ("restored once", VERIFIED, None, False, None),
    (
        "begun",
        STARTED,
        None,
        False,
        "started at 2026-03-01 11:00 UTC was interrupted; its result",
    ),
    (
        "begun into a project that was replaced since",
        replace(STARTED, project_id=OTHER.id),
        None,
        False,
        "its result is unknown",
    ),
    ("begun, and a server runs", STARTED, None, RUNS, None),
    ("a job has told of it", replace(STARTED, message=REPORTED), None, False, f"are incomplete: {REPORTED}."),
    ("at work", STARTED, ("running", None), False, "is still running on the platform"),
    ("at work for another machine", None, ("running", None), False, "A restore is still running"),
    ("killed", STARTED, ("failed", None), False, "was interrupted: the run is failed, and its log has no report"),
    ("broke off half way", STARTED, ("completed", HALF), False, f"are incomplete: {REPORTED}."),
    ("refused", STARTED, ("completed", REFUSED), False, None),
    ("restored while nobody watched", STARTED, ("completed", RESTORED), False, None),
]


class Records:
    """A platform with one run of one job. deleted: what was taken away."""

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


@pytest.mark.parametrize(("case", "known", "left", "runs", "message"), UNASKED, ids=[row[0] for row in UNASKED])
def test_no_server_is_started_on_what_is_known_as_interrupted_restore(tmp_path, case, known, left, runs, message):
    where, stage = with_records(asked(tmp_path, None, runs=runs, known=known), left), RecoveryStage()
    if message is None:
        assert "no restore requested" in compare(stage, where)[1].reason
        return
    with pytest.raises(StageFailed, match=re.escape(message)) as refused:
        compare(stage, where)
    assert "`restore`" in refused.value.remedy


LEARNT = [  # what was known, what the job says, what is left of an earlier one: what is known then, what is taken away
    ("not half done", STARTED, REFUSED, None, None, []),
    ("half done, begun elsewhere", None, HALF, None, "started", []),
    ("half done, begun here", STARTED, HALF, None, "started", []),
    ("killed", STARTED, None, None, "started", []),
    ("not half done, and the one before was killed", STARTED, REFUSED, ("failed", None), None, ["a2-j", "a2-r"]),
    ("not half done yet", STARTED, REFUSED, ("running", None), "started", []),
    ("not half done, for it has ended", STARTED, REFUSED, ("completed", RESTORED), "started", []),
]


@pytest.mark.parametrize(("case", "known", "report", "left", "state", "gone"), LEARNT, ids=[row[0] for row in LEARNT])
def test_what_a_job_says_of_the_data_is_remembered(tmp_path, case, known, report, left, state, gone):
    where = with_records(asked(tmp_path, None, known=known), left)
    learn(where, OURS, JobResult("a2-1", "completed", "failed", 24, "", report or {}))
    now = where.state.restore
    assert (now and now.status) == state
    assert ((now and now.message) or None) == (REPORTED if report is HALF else None)
    assert (left is None) or where.access.platform_.deleted == gone


def test_a_server_that_answers_puts_an_end_to_it(tmp_path):
    for note, after in ((STARTED, None), (DONE, DONE)):
        state = asked(tmp_path, None, known=note).state
        end_started_restore(state)
        assert state.restore == after


def remembered(where):
    secrets = server_secrets.desired(where)
    where.state.record_secrets(ACCOUNT, secrets, where.clock.now())
    where.cached.secrets_ |= set(secrets)


def test_a_database_that_is_served_is_known_to_hold_something_before_the_server_is_stopped(tmp_path):
    where, stage = asked(tmp_path, STOPS, runs=True), RecoveryStage()
    remembered(where)

    with pytest.raises(TargetNotEmpty, match="not empty"):
        compare(stage, where)
    where.options = replace(where.options, recovery=REPLACES)
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
        where, stage = asked(tmp_path, desired, runs=runs), RecoveryStage()
        changes = compare(stage, where)[1].changes
        assert [type(change) for change in changes if change.needs_consent] == needs


def test_a_release_without_the_command_is_refused(tmp_path):
    where = asked(tmp_path, RestoreRequest("S1"), deployment={"command": "MinimumTrackingServer"})

    with pytest.raises(ReleaseRefused, match="MinimumRestore"):
        compare(RecoveryStage(), where)


@pytest.mark.parametrize(("used", "wrong"), [("sqlite", False), ("postgresql", True), (None, False)])
def test_a_job_that_still_had_the_former_secret_is_found_out(tmp_path, used, wrong):
    where = asked(tmp_path, RestoreRequest("S1"))
    job_result = JobResult("a2-1", "completed", "done", 0, "", {"dialect": {"source": "sqlite", "target": used}})
    if not wrong:
        require_repository(where, job_result)
        return
    with pytest.raises(StageFailed, match="restored into postgresql, and sqlite is configured"):
        require_repository(where, job_result)


# where snapshots are kept --------------------------------------------------------------------------------------------

URI = "az://container/prefix?sig=planted-backup-password"


def placed(tmp_path, place="env:BACKUPS", secrets=(), uri=URI):
    where = context(tmp_path, lists=Lists(secrets_=set(secrets)), backup={"destination": place})
    where.values = SecretResolver({"BACKUPS": uri}, None)
    return where


def test_the_default_place_needs_no_secret_and_another_does(tmp_path):
    assert backup_destination.observe(placed(tmp_path, backup_destination.DEFAULT)) is None
    assert backup_destination.observe(placed(tmp_path, "s3://bucket")).state == "new"
    left = placed(tmp_path, backup_destination.DEFAULT, [backup_destination.VARIABLE])
    assert backup_destination.observe(left).state == "unknown", "an earlier place must not stay"


def test_a_place_with_a_login_in_it_is_refused_and_never_told(tmp_path):
    with pytest.raises(Configuration, match="has a user or a password in it") as refused:
        backup_destination.destination(placed(tmp_path, uri="s3://AKIAPLANTED:planted/pass@bucket/prefix"))
    assert "planted" not in f"{refused.value.what} {refused.value.where} {refused.value.remedy}".lower()
    assert scrub("GET http://host/AKIAPLANTED and planted/pass of it") == f"GET http://host/{MASK} and {MASK} of it"


def test_credentials_go_into_the_secret_and_their_place_is_shown_without_them(tmp_path):
    where = placed(tmp_path)

    assert backup_destination.destination(where).reveal() == URI
    assert isinstance(backup_destination.destination(where), Secret)
    assert backup_destination.shown(where) == "the place that env:BACKUPS says"
    assert not backup_destination.observe(where).is_news_to_the_server
