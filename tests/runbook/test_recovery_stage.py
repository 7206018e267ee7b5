"""Stage 7: what follows from the wish, the servers there, and what is remembered of an earlier restore."""

from __future__ import annotations

from dataclasses import replace

import pytest
from runbook_support import ACCOUNT, OTHER, OURS, Lists, context, deployment

from mlflow_ae5_deploy.errors import ReleaseRefused, StageFailed, TargetInUse, TargetNotEmpty
from mlflow_ae5_deploy.redaction import Secret
from mlflow_ae5_deploy.runbook import backup_place, server_secrets
from mlflow_ae5_deploy.runbook.context import Recovery
from mlflow_ae5_deploy.runbook.job_run import Verdict
from mlflow_ae5_deploy.runbook.recovering import require_place
from mlflow_ae5_deploy.runbook.stages.s07_recovery import RecoveryStage
from mlflow_ae5_deploy.runbook.values import Values

DONE = {"asked": "S1", "snapshot": "S1", "project_id": OURS.id, "state": "done", "ended": False, "when": "then"}
STOPS = Recovery("S1", stop_server=True)
REPLACES = replace(STOPS, replace=True)
UNDOES = Recovery(undo=True, stop_server=True)
RUNS = True
ROWS = [
    ("nothing asked", None, False, None, "no restore was asked for"),
    ("empty place", Recovery("S1"), False, None, ["set", "restore"]),
    ("done by a run that was cut off", Recovery("S1"), False, DONE, "going on"),
    ("the same, by another word", Recovery("latest"), False, DONE, "going on"),
    ("the same, and stage 8 was reached", Recovery("S1"), RUNS, DONE, "going on"),
    ("begun, not done", Recovery("S1"), False, {**DONE, "state": "begun"}, ["set", "restore"]),
    ("another snapshot was restored", Recovery("S2"), False, DONE, ["set", "restore"]),
    ("into a project that is gone", Recovery("S1"), False, {**DONE, "project_id": OTHER.id}, ["set", "restore"]),
    ("over and done", Recovery("S1"), RUNS, {**DONE, "ended": True}, "a server has run on it since"),
    ("over, and the server is gone", Recovery("S1"), False, {**DONE, "ended": True}, ["set", "restore"]),
    ("over, and wanted again", REPLACES, RUNS, {**DONE, "ended": True}, ["check", "stop", "set", "restore"]),
    ("undo", UNDOES, RUNS, {**DONE, "ended": True}, ["check", "stop", "set", "restore"]),
    ("undone by a run that was cut off", UNDOES, False, {**DONE, "asked": "--undo"}, "going on"),
    ("an undo is no restore of that snapshot", Recovery("S1"), False, {**DONE, "asked": "--undo"}, ["set", "restore"]),
    ("a server runs", Recovery("S1"), RUNS, None, TargetInUse),
    ("a server may be stopped, its database is another", STOPS, RUNS, None, ["check", "stop", "set", "restore"]),
]


def asked(tmp_path, wanted, *, runs=False, known=None, **settings):
    lists = Lists(deployments_=[deployment()] if runs else [])
    where = context(tmp_path, lists=lists, **settings)
    where.wishes = replace(where.wishes, recovery=wanted)
    where.memory.note_recovery(known)
    return where


@pytest.mark.parametrize(("case", "wanted", "runs", "known", "follows"), ROWS, ids=[row[0] for row in ROWS])
def test_what_follows(tmp_path, case, wanted, runs, known, follows):
    where, stage = asked(tmp_path, wanted, runs=runs, known=known), RecoveryStage()
    if isinstance(follows, type):
        with pytest.raises(follows):
            stage.plan(stage.observe(where), where)
        return

    decision = stage.plan(stage.observe(where), where)

    if isinstance(follows, str):
        assert follows in decision.no_change.reason
    else:
        assert [action.verb for action in decision.actions] == follows


def remembered(where):
    for name, value in server_secrets.wanted(where).items():
        where.memory.remember_secret(ACCOUNT, name, value, where.clock.now())
        where.look.secrets_.add(name)


def test_a_database_that_is_served_is_known_to_hold_something_before_the_server_is_stopped(tmp_path):
    where, stage = asked(tmp_path, STOPS, runs=True), RecoveryStage()
    remembered(where)

    with pytest.raises(TargetNotEmpty, match="not empty"):
        stage.plan(stage.observe(where), where)
    where.wishes = replace(where.wishes, recovery=REPLACES)
    assert [a.verb for a in stage.plan(stage.observe(where), where).actions] == ["check", "stop", "restore"]


def test_stopping_and_replacing_need_consent_and_restoring_into_nothing_does_not(tmp_path):
    for wanted, runs, needs in ((Recovery("S1"), False, []), (REPLACES, True, ["stop", "restore"])):
        where, stage = asked(tmp_path, wanted, runs=runs), RecoveryStage()
        actions = stage.plan(stage.observe(where), where).actions
        assert [action.verb for action in actions if action.needs_consent] == needs


def test_a_release_without_the_command_is_refused(tmp_path):
    where = asked(tmp_path, Recovery("S1"), deployment={"command": "MinimumTrackingServer"})

    with pytest.raises(ReleaseRefused, match="MinimumRestore"):
        RecoveryStage().plan(RecoveryStage().observe(where), where)


@pytest.mark.parametrize(("used", "wrong"), [("sqlite", False), ("postgresql", True), (None, False)])
def test_a_job_that_still_had_the_former_secret_is_found_out(tmp_path, used, wrong):
    where = asked(tmp_path, Recovery("S1"))
    verdict = Verdict("a2-1", "completed", "done", 0, "", {"dialect": {"from": "sqlite", "to": used}})
    if not wrong:
        require_place(where, verdict)
        return
    with pytest.raises(StageFailed, match="restored into postgresql, and sqlite is configured"):
        require_place(where, verdict)


# where snapshots are kept --------------------------------------------------------------------------------------------

URI = "s3://key:planted-backup-password@bucket/prefix"


def placed(tmp_path, place="env:BACKUPS", secrets=()):
    where = context(tmp_path, lists=Lists(secrets_=set(secrets)), backup={"destination": place})
    where.values = Values({"BACKUPS": URI}, None)
    return where


def test_the_default_place_needs_no_secret_and_another_does(tmp_path):
    assert backup_place.observe(placed(tmp_path, backup_place.DEFAULT)) is None
    assert backup_place.observe(placed(tmp_path, "s3://bucket")).state == "new"
    left = placed(tmp_path, backup_place.DEFAULT, [backup_place.VARIABLE])
    assert backup_place.observe(left).state == "unknown", "an earlier place must not stay"


def test_credentials_go_into_the_secret_and_their_place_is_shown_without_them(tmp_path):
    where = placed(tmp_path)

    assert backup_place.destination(where).reveal() == URI
    assert isinstance(backup_place.destination(where), Secret)
    assert backup_place.shown(where) == "the place that env:BACKUPS says"
    assert not backup_place.observe(where).is_news_to_the_server
