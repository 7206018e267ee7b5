"""Status decisions as rows of data: problems, warnings, drift."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from mlflow_ae5_deploy.ae5.models import Run
from mlflow_ae5_deploy.cli.verbs import VERBS
from mlflow_ae5_deploy.common.errors import Denied
from mlflow_ae5_deploy.common.mlflow_api import Health
from mlflow_ae5_deploy.common.redaction import Secret, scrub
from mlflow_ae5_deploy.engine.records import Outcome, ScheduledJobRecord, SnapshotRecord, StoredToken
from mlflow_ae5_deploy.engine.stage import Changes, NoChange
from mlflow_ae5_deploy.jobs import tasks
from mlflow_ae5_deploy.jobs.interrupted_run import interrupted_run
from mlflow_ae5_deploy.jobs.latest_outcomes import BACKUP, CHECK, DRILL, PRUNE, REPOSITORY
from mlflow_ae5_deploy.jobs.runner import one_off_spec
from mlflow_ae5_deploy.operations.health_problem import CODES, ERROR, WARNING
from mlflow_ae5_deploy.operations.missed import Missed, missed
from mlflow_ae5_deploy.operations.status.backups import BackupStatus, observe_backups
from mlflow_ae5_deploy.operations.status.drift import (
    DIFFERS,
    SAME,
    UNKNOWN,
    StageDrift,
    compare_stages,
    drift_of,
)
from mlflow_ae5_deploy.operations.status.observe import in_order, read_version
from mlflow_ae5_deploy.operations.status.problems import drift_problems, problems
from mlflow_ae5_deploy.operations.status.run import Status
from mlflow_ae5_deploy.operations.status.state import (
    GcStatus,
    InstallationState,
    LastRun,
    TokenStatus,
    UnfinishedOperation,
)
from mlflow_ae5_deploy.release.provenance import BuildRecord
from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.status import nagios, show
from mlflow_ae5_deploy.render.status_backups import data, last, unsaved, words
from mlflow_ae5_deploy.resources.deployment import AwaitDeployment, StartDeployment
from mlflow_ae5_deploy.resources.interrupted import InterruptedRestore
from mlflow_ae5_deploy.resources.project import CompareProject, ReplaceProject
from mlflow_ae5_deploy.resources.scheduled_job import DeleteJob, paused_words
from mlflow_ae5_deploy.resources.secrets import SecretState, SetSecrets, setting
from mlflow_ae5_deploy.resources.sharing import ShareWith
from mlflow_ae5_deploy.resources.token import IssueToken, StoreToken, digest, store_token, used_by_job
from mlflow_ae5_deploy.runbook.stages.s04_release import DownloadRelease
from mlflow_ae5_deploy.runbook.stages.s05_slip_stream import BuildArchive
from tests.manual_clock import ManualClock
from tests.runbook.runbook_support import OURS, Doors, Lists, context, deployment, job

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
RAN = LastRun("a2-1", "completed", NOW - HOUR, "done", True, "deleted 3 runs")
BROKEN = replace(RAN, passed=False, message="no token")
FOREIGN = replace(RAN, own_token=False)
UNREPORTED = replace(RAN, passed=None, message="no report")
STORED = StoredToken("mlflow-service", deployment().id, NOW - HOUR, None, NOW - HOUR)
LATE = Missed("garbage collection", NOW - 3 * HOUR, False)
COLLECTION = GcStatus(1, "gc", "*/10 * * * *", "every 10 minutes", next=NOW, last=RAN)
WELL = InstallationState(
    project=OURS,
    deployment=deployment(),
    duplicates=(),
    rival=None,
    health=Health("healthy", "it answers"),
    newest_revision="0.0.1",
    build=BuildRecord("bundled release 0.1.0", "tool", "d" * 64, (), ()),
    build_unknown="",
    version="3.17.2",
    version_unknown="",
    token=TokenStatus(True, (STORED,)),
    gc=COLLECTION,
    secrets=frozenset({"A", "B"}),
    desired_secrets=("A", "B"),
    new_secrets=(),
    shared=(("group", "everyone"),),
    desired_shared=(("group", "everyone"),),
    backups=BackupStatus(newest=SnapshotRecord("S1", NOW - HOUR, protected=NOW - HOUR), schedule="0 2 * * *"),
)

OTHER = ReplaceProject(name="p", id="a0-1", reason="", release="0.1.1 → bundled 0.1.0", differences=("package x",))
EDITED_JOB = DeleteJob(
    name="gc", id="j1", purpose="garbage collection", reason="", differences=("schedule: 0 0 1 1 * → 30 3 * * *",)
)


def errors(*observed):
    return [problem for problem in problems(*observed) if problem.severity == ERROR]


def warnings(*observed):
    return [problem for problem in problems(*observed) if problem.severity == WARNING]


def stored(**changes):
    return {"token": TokenStatus(True, (replace(STORED, **changes),))}


def collected(**changes):
    return {"gc": replace(COLLECTION, **changes)}


def backed_up(**changes):
    return {"backups": replace(WELL.backups, newest=replace(WELL.backups.newest, **changes))}


def before(**span):
    when = NOW - timedelta(**span)
    return {"finished": when, "protected": when}


def not_scheduled(**span):
    return {"backups": BackupStatus(newest=SnapshotRecord("S1", **before(**span)))}


def failed(kind, message, hint="", snapshot="", *, ran=True, reported=True):
    outcome = Outcome(kind, NOW, False, message, hint, snapshot, ran=ran, reported=reported)
    return {"backups": replace(WELL.backups, outcomes=(outcome,))}


def running(verb, **unfinished):
    return UnfinishedOperation(running=f"{verb} of bob", verb=verb, **unfinished)


PROBLEMS = [
    ("nothing", {"project": None, "deployment": None}, "the account has no such project"),
    ("no account", {"project": None, "deployment": None, "account_exists": False}, "the account does not exist"),
    ("no server", {"deployment": None, "health": None}, "No server runs"),
    ("failed", {"deployment": deployment(state="failed", status_text="App failed"), "health": None}, "(App failed)"),
    (
        "starting",
        {"deployment": deployment(state="starting", status_text=""), "health": None},
        "The server is starting. Wait",
    ),
    ("no url", {"deployment": deployment(url=None), "health": None}, "reports no URL"),
    ("public", {"deployment": deployment(public=True)}, "anyone can read and delete"),
    ("a second server", {"duplicates": (deployment(id="a2-2", name="two"),)}, "same data: deployment two"),
    (
        "a rival",
        {"rival": deployment(name="theirs", owner="jdoe")},
        "theirs of another project uses the endpoint (owner jdoe)",
    ),
    ("database gone", {"health": Health("unhealthy", "503 no database")}, "API is not healthy: 503 no database"),
    ("login rejected", {"health": Health("unauthorised", "302")}, "API was not checked: the endpoint rejected"),
    ("a secret gone", {"secrets": frozenset({"A"})}, "Secrets of the account are missing: B."),
    ("not shared", {"shared": ()}, "Not shared with group everyone"),
    ("lost file", {"token": TokenStatus(True, (STORED,), lost={"/x": "is empty"})}, "The token file /x is empty."),
    ("expired token", stored(expires=NOW - HOUR), "mlflow-service has expired"),
    ("no gc", {"gc": GcStatus(jobs=0)}, "no garbage collection job"),
    ("no run for long", collected(missed=replace(LATE, again=True)), "nor the next one"),
    (
        "no drill for long",
        {"backups": replace(WELL.backups, missed=(replace(LATE, what="drill", again=True),))},
        "The drill due at 2026-03-01 09:00 UTC has not started, nor the next one.",
    ),
    ("two gc", collected(jobs=2), "There are 2 garbage collection jobs"),
    (
        "restart interrupted",
        {"unfinished": UnfinishedOperation(restart_since=NOW - HOUR)},
        "started 2026-03-01 11:00 UTC (60 min ago)",
    ),
    (
        "upgrade interrupted",
        {"interrupted_upgrade": "3.18.0"},
        "An upgrade to 3.18.0 was interrupted. Run the same `upgrade` again",
    ),
    (
        "restore interrupted",
        {"interrupted_restore": InterruptedRestore("It is not whole.", "Resume it.")},
        "It is not whole. Resume it.",
    ),
    (
        "backup failed",
        failed(BACKUP, "no room", "make room"),
        "failed on 2026-03-01 12:00 UTC (0 s ago): no room. Make room. Then",
    ),
    ("backup was killed", failed(BACKUP, "it was killed"), "it was killed. Fix the cause, then run `backup`."),
    ("damaged snapshot", failed(CHECK, "a bit", snapshot="S1"), "check of snapshot S1 failed"),
    ("damaged, which one is not told", failed(CHECK, "a bit"), "a bit. Make another snapshot with `backup`"),
    (
        "a check that could not be made",
        failed(CHECK, "no answer", "wait", snapshot="S1", ran=False),
        "check of snapshot S1 did not finish on 2026-03-01 12:00 UTC (0 s ago): no answer. Wait. Then",
    ),
    (
        "prune failed",
        failed(PRUNE, "no list", "bring it back"),
        "The last prune of backups failed",
    ),
    ("a hint that asks", failed(BACKUP, "no bucket", "does it exist?"), "no bucket. Does it exist? Then run `backup`."),
    ("drill failed", failed(DRILL, "no model"), "no model. Fix the cause, then run `drill`."),
    ("backups gone", failed(REPOSITORY, "nothing is there"), "backup repository was not found"),
    (
        "new repository",
        {"backups": replace(WELL.backups, recreated="There is a new backup repository in X.")},
        "repository in X.",
    ),
    (
        "rollback failed",
        {"interrupted_upgrade": "3.18.0", "rollback_failed": "no room."},
        "failed (no room), and its rollback has not finished. Run `upgrade --roll-back`.",
    ),
    (
        "upgrading now",
        {"interrupted_upgrade": "3.18.0", "unfinished": running("upgrade")},
        "3.18.0 has not finished: upgrade of bob. Wait until it ends.",
    ),
    (
        "one left",
        {"unfinished": UnfinishedOperation(accounts_remaining=("ann",), gc_untested=True)},
        "no new token for ann yet",
    ),
    ("gc untested", {"unfinished": UnfinishedOperation(gc_untested=True)}, "the gc job was not tested"),
    ("gc failed after the rotation", collected(last=BROKEN, renewed=NOW - 2 * HOUR), "failed: no token."),
    ("gc failed", collected(last=BROKEN), "collection, started 2026-03-01 11:00 UTC (60 min ago), failed: no token."),
    (
        "gc incomplete",
        collected(last=replace(RAN, passed=False, outcome="incomplete", message="deleted 1 of 2 runs")),
        "is incomplete: deleted 1 of 2 runs.",
    ),
]


@pytest.mark.parametrize(("case", "changes", "message"), PROBLEMS, ids=[row[0] for row in PROBLEMS])
def test_each_problem_alone_makes_it_unhealthy(case, changes, message):
    (problem,) = errors(replace(WELL, **changes), [], NOW)
    assert message in f"{problem.message} {problem.remedy}"
    assert (problem.severity, problem.data()["code"]) == (ERROR, problem.code)


@pytest.mark.parametrize(("case", "changes", "message"), PROBLEMS, ids=[row[0] for row in PROBLEMS])
def test_a_problem_is_recognized_later(case, changes, message):
    """Its message may have a time."""
    (before,), (after,) = (errors(replace(WELL, **changes), [], when) for when in (NOW, NOW + 9 * HOUR))
    assert before.key == after.key


TWO_OF_A_KIND = [
    ("servers", {"duplicates": (deployment(id="a2-2", name="two"), deployment(id="a2-3", name="two"))}),
    (
        "jobs overdue",
        {
            **collected(missed=replace(LATE, again=True)),
            "backups": replace(WELL.backups, missed=(replace(LATE, what="drill", again=True),)),
        },
    ),
]


@pytest.mark.parametrize(("case", "changes"), TWO_OF_A_KIND, ids=[row[0] for row in TWO_OF_A_KIND])
def test_two_problems_with_one_code_are_distinguished(case, changes):
    first, second = errors(replace(WELL, **changes), [], NOW)
    assert first.code == second.code
    assert first.key != second.key


HEALTHY = [
    ("a new secret", {"desired_secrets": ("A", "B", "C"), "new_secrets": ("C",)}),
    ("as it should be", {}),
    ("stored from another machine", {"token": TokenStatus(True, ())}),
    ("never collected yet", collected(last=None)),
    ("collecting now", collected(running=replace(RAN, passed=None))),
    ("paused", collected(paused=True, next=None)),
    ("shared with more", {"shared": (("group", "everyone"), ("user", "jdoe"))}),
    ("token that ends", stored(expires=NOW + HOUR)),
    ("token replaced by another machine", {**stored(expires=NOW - HOUR), **collected(last=FOREIGN)}),
    ("version unknown", {"version": None}),
    ("restarted by somebody else", stored(deployment_id="a2-old")),
    ("not on record any more", {"token": TokenStatus(True, (), (STORED,))}),
    (
        "a rotation in progress",
        {"unfinished": running("rotate-token", accounts_remaining=("ann",))},
    ),
    ("gc failed before the rotation", collected(last=BROKEN, renewed=NOW)),
    ("gc left no report", collected(last=UNREPORTED)),  # a warning
]


USED = [
    ("the one of this machine", "the-token", 2 * HOUR, True),
    ("another", "newer-token", 2 * HOUR, False),
    ("perhaps not mounted yet", "newer-token", HOUR - timedelta(minutes=1), None),
    ("not reported", "", 2 * HOUR, None),
]


class SeesSecrets(Lists):
    def saw_secrets(self, names):
        self.secrets_.update(names)


@pytest.mark.parametrize(("case", "token", "later", "known"), USED, ids=[row[0] for row in USED])
def test_which_token_a_job_used(tmp_path, case, token, later, known):
    run = context(tmp_path, lists=SeesSecrets())
    run.outputs.token, run.outputs.token_deployment = Secret("the-token"), deployment().id
    store_token(run, run.account, deployment(), SimpleNamespace(put_secret=lambda *_: None))

    assert used_by_job(run, digest(Secret(token)) if token else "", run.clock.now() + later) == known
    state = (tmp_path / "state.json").read_text()
    assert not any(form in state for form in ("the-token", digest(Secret("the-token"))))


@pytest.mark.parametrize(("case", "changes"), HEALTHY, ids=[row[0] for row in HEALTHY])
def test_healthy_all_the_same(case, changes):
    assert errors(replace(WELL, **changes), [], NOW) == []


WARNINGS = [
    ("nothing to say", {}, None),
    ("token from elsewhere", {"token": TokenStatus(True, ())}, "not visible from here"),
    (
        "file from elsewhere",
        {"token": TokenStatus(True, (STORED,), (), ("/x",))},
        "wrote the token file /x; which token",
    ),
    ("no token at all", {"token": TokenStatus(False, ())}, None),
    (
        "token replaced by another machine",
        {**stored(expires=NOW + HOUR, deployment_id="a2-old"), **collected(last=FOREIGN)},
        "Another machine stored a newer token for mlflow-service: the garbage collection that started 2026-03-01 11:00",
    ),
    ("token ends soon", stored(expires=NOW + 3 * HOUR), "(in 3 h)"),
    ("token ends later", stored(expires=NOW + timedelta(days=90)), None),
    ("token has expired", stored(expires=NOW - HOUR), None),  # a problem, reported once
    ("no run for long", collected(missed=LATE), "garbage collection due at 2026-03-01 09:00 UTC has not started."),
    (
        "no backup for long",
        {"backups": replace(WELL.backups, missed=(replace(LATE, what="backup"),))},
        "The backup due at",
    ),
    *(
        (
            f"{kind} left no report",
            failed(kind, "no report", reported=False, ran=kind != CHECK),
            f"The last {name} finished on 2026-03-01 12:00 UTC (0 s ago), result unknown: no report.",
        )
        for kind, name in ((BACKUP, "backup"), (CHECK, "backup check"), (DRILL, "drill"), (PRUNE, "prune of backups"))
    ),
    (
        "a scheduled job was deleted",
        {"backups": replace(WELL.backups, missing=(ScheduledJobRecord("b", "Drill", "0 6 * * 0", {}, "drill"),))},
        "The drill job scheduled from this machine (0 6 * * 0) does not exist any more.",
    ),
    ("no backup", {"backups": BackupStatus()}, "No backup recorded on this machine"),
    ("old, and not due", backed_up(**before(days=25)), None),  # as it may be on a monthly schedule
    ("due", {"backups": replace(WELL.backups, overdue=True)}, "Data since 2026-03-01 11:00 UTC (60 min ago) is in no"),
    ("old, no schedule", not_scheduled(days=8), "Data since 2026-02-21 12:00 UTC (8 days ago) is in no complete"),
    ("young, no schedule", not_scheduled(days=7), None),
    ("incomplete backup", backed_up(complete=False), "outside the store"),
    ("many artifacts gone", backed_up(gone="25 of the 30 artifacts"), "25 of the 30 artifacts."),
    (
        "log gone",
        {"backups": replace(WELL.backups, unreadable=("drill",))},
        "The result of the last scheduled drill is unknown",
    ),
    (
        "install interrupted",
        {"unfinished": UnfinishedOperation(install_since=NOW)},
        "An `install` was interrupted 2026-03-01 12:00 UTC (0 s ago).",
    ),
    ("gc paused", collected(paused=True), "is paused"),
    ("backup paused", {"backups": replace(WELL.backups, paused=(BACKUP,))}, "is paused"),
    ("check paused", {"backups": replace(WELL.backups, paused=(CHECK,))}, "The scheduled backup check is paused"),
    ("drill paused", {"backups": replace(WELL.backups, paused=(DRILL,))}, "is paused"),
    (
        "restarted by somebody else",
        stored(deployment_id="a2-old"),
        "of an earlier deployment; whether it was replaced is not visible",
    ),
    (
        "before a change of ours",
        {"token": TokenStatus(True, (), (STORED,))},
        "this machine stored for mlflow-service is older than the last change",
    ),
    (
        "another run in progress",
        {"unfinished": running("backup")},
        "in progress: backup of bob.",
    ),
    ("gc failed before the rotation", collected(last=BROKEN, renewed=NOW), "before the token was renewed"),
    (
        "gc left no report",
        collected(last=UNREPORTED),
        "The last garbage collection finished, result unknown: no report.",
    ),
    ("edited", {"build": replace(WELL.build, edited=("app.py was edited",))}, "app.py was edited"),
]


DOWN = Health("unhealthy", "502")
HEADLINES = [
    ("healthy", {}, "✓ Healthy: MLflow 3.17.2 at https://"),
    ("down", {"health": DOWN}, "✗ Not healthy, 1 problem: MLflow 3.17.2 at https://"),
    ("a job failed", collected(last=BROKEN), "✗ Not healthy, 1 problem. The server works: MLflow 3.17.2 at https://"),
    ("starting", {"deployment": deployment(state="starting"), "health": None}, "! Starting: MLflow 3.17.2 at https://"),
    (
        "starting, and more",
        {"deployment": deployment(state="starting"), "health": None, "secrets": frozenset("A")},
        "✗ Not healthy, 2 problems: MLflow",
    ),
]


@pytest.mark.parametrize(("case", "changes", "first"), HEADLINES, ids=[row[0] for row in HEADLINES])
def test_the_headline_says_whether_the_server_works(case, changes, first):
    state, out = replace(WELL, **changes), io.StringIO()
    seen = Status(NOW, "host", "mlflow-service", "p", state, tuple(problems(state, [], NOW)), (), 1, 0.1)

    show(Reporter(out=out), seen)

    assert out.getvalue().startswith(first)
    assert seen.healthy is (case == "healthy")


def test_the_same_remedy_is_shown_once():
    drift = [StageDrift(number, "stage", SAME, "", (), (f"Warning {number}.",)) for number in (7, 8)]
    state, out = replace(WELL, shared=(), unfinished=running("install")), io.StringIO()
    seen = Status(NOW, "host", "mlflow-service", "p", state, tuple(problems(state, drift, NOW)), (), 1, 0.1)

    show(Reporter(out=out), seen)

    assert out.getvalue().splitlines()[1:8] == [
        "! Another run is in progress: install of bob.",
        "  Wait until it ends, then look again. (run-in-progress)",
        "✗ Not shared with group everyone, although configured.",
        "  Wait until that run ends. (not-shared)",
        "! Warning 7.",
        "! Warning 8.",
        "  Run `mlflow-ae5-deploy plan` for the details. (configuration)",
    ]
    assert "although configured (not-shared)" in nagios(seen)[1]


def test_a_job_without_a_result_has_a_code_of_its_own():
    unknown = failed(DRILL, "no report", reported=False)
    (problem,) = problems(replace(WELL, **unknown), [], NOW)
    assert (problem.code, problem.remedy) == ("result-unknown", "Read its log. Then run `drill`.")


RUNNING = [
    ("restart-interrupted", {"restart_since": NOW}, {}, {"install", "restore", "rotate-token", "uninstall", "upgrade"}),
    (
        "rotation-interrupted",
        {"gc_untested": True},
        {},
        {"install", "restore", "rotate-token", "uninstall", "upgrade"},
    ),
    (
        "restore-interrupted",
        {},
        {"interrupted_restore": InterruptedRestore("It is not whole.", "Resume it.")},
        {"restore", "uninstall", "upgrade"},
    ),
]


@pytest.mark.parametrize(("code", "unfinished", "changes", "finish"), RUNNING, ids=[row[0] for row in RUNNING])
def test_what_is_unfinished_is_reported_unless_the_run_in_progress_finishes_it(code, unfinished, changes, finish):
    hidden = set()
    for verb in (*VERBS, "backup prune", ""):
        state = replace(WELL, unfinished=running(verb, **unfinished), **changes)
        codes = [problem.code for problem in problems(state, [], NOW)]
        assert codes in (["run-in-progress", code], ["run-in-progress"])
        if code not in codes:
            hidden.add(verb)
    assert hidden == finish


# verb of the run in progress, whether it ends these problems by itself
@pytest.mark.parametrize(("verb", "explains"), [("install", True), ("upgrade", True), ("backup", False), ("", False)])
def test_a_run_in_progress_comes_first_and_remedies_do_not_need_its_lock(verb, explains):
    state = replace(
        WELL, shared=(), secrets=frozenset(), gc=GcStatus(0), token=TokenStatus(True), unfinished=running(verb)
    )
    first, *others = problems(state, [], NOW)

    assert first.code == "run-in-progress"
    assert {problem.code for problem in others} == {"not-shared", "secrets-missing", "gc-missing", "token-not-known"}
    assert {problem.remedy == "Wait until that run ends." for problem in others} == {explains}


def test_an_interrupted_upgrade_is_not_the_unrelated_run_in_progress():
    (problem,) = errors(replace(WELL, interrupted_upgrade="3.18.0", unfinished=running("backup list")), [], NOW)
    assert problem.message == "An upgrade to 3.18.0 was interrupted."


def test_an_interrupted_upgrade_is_one_problem_with_its_ways_out():
    drift = [StageDrift(6, "upload", DIFFERS, "", (OTHER,), ("An upgrade to 3.18.0 was interrupted; ...",))]
    ways_out = "Run `upgrade --release bundled` to finish it, or `upgrade --roll-back` to undo it."
    state = replace(WELL, deployment=None, interrupted_upgrade="3.18.0", upgrade_ways_out=ways_out)

    (problem,) = problems(state, drift, NOW)

    assert (problem.code, problem.remedy) == ("upgrade-interrupted", ways_out)


@pytest.mark.parametrize(("case", "changes", "message"), WARNINGS, ids=[row[0] for row in WARNINGS])
def test_warnings(case, changes, message):
    found = warnings(replace(WELL, **changes), [], NOW)
    assert [message in problem.message for problem in found] == ([True] if message else [])


def test_every_code_is_that_of_a_case_with_its_severity():
    cases = [changes for _, changes, _ in (*PROBLEMS, *WARNINGS)]
    drift = [
        StageDrift(1, "x", SAME, "", (), ("look out",)),
        StageDrift(6, "y", DIFFERS, "", (OTHER, EDITED_JOB)),
    ]
    found = [problem for changes in cases for problem in problems(replace(WELL, **changes), drift, NOW)]
    assert {problem.code for problem in found} == set(CODES)
    assert all(problem.remedy for problem in found)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (OTHER, "release-differs", ("0.1.1 → bundled 0.1.0", "release.source", "`upgrade`")),
        (replace(OTHER, release="", differences=("package boto3: 1.2 → 1.3",)), None, ()),
        (EDITED_JOB, "job-differs", ("schedule: 0 0 1 1 * → 30 3 * * *", "`schedule-gc`")),
        (replace(EDITED_JOB, purpose="backup"), "job-differs", ("The backup job", "`install`")),
        (replace(EDITED_JOB, differences=(), reason="a duplicate"), None, ()),
    ],
)
def test_drift_that_the_next_install_would_revert_is_a_warning(change, code, words):
    found = drift_problems([StageDrift(6, "x", DIFFERS, "", (change,))])
    assert [(problem.code, problem.severity) for problem in found] == ([(code, WARNING)] if code else [])
    assert all(word in f"{found[0].message} {found[0].remedy}" for word in words)


PAUSED = [
    ("garbage collection", collected(paused=True), "gc-paused", "`schedule-gc --resume`"),
    ("backup", {"backups": replace(WELL.backups, paused=(BACKUP,))}, "backup-paused", "on the platform"),
    ("drill", {"backups": replace(WELL.backups, paused=(DRILL,))}, "drill-paused", "on the platform"),
]


@pytest.mark.parametrize(("purpose", "changes", "code", "remedy"), PAUSED, ids=[row[0] for row in PAUSED])
def test_a_paused_job_is_one_problem_although_stage_14_warns_of_it_too(purpose, changes, code, remedy):
    drift = [StageDrift(14, "gc-schedule", SAME, "", (), (paused_words(purpose),))]
    (problem,) = warnings(replace(WELL, **changes), drift, NOW)
    assert (problem.code, remedy in problem.remedy) == (code, True)


@pytest.mark.parametrize(("changes", "reset"), [((), False), ((EDITED_JOB,), True)])
def test_a_failed_collection_of_a_job_that_is_not_as_configured_is_reset_first(changes, reset):
    (problem, *_) = problems(replace(WELL, **collected(last=BROKEN)), [StageDrift(14, "x", DIFFERS, "", changes)], NOW)
    assert problem.code == "gc-failed"
    assert f"`logs --run {BROKEN.id}`" in problem.remedy
    assert ("Run `schedule-gc`, which resets" in problem.remedy) is reset
    assert ("deletes the logs of its runs" in problem.remedy) is reset


def test_equal_warnings_of_stages_are_reported_once():
    stages = [StageDrift(n, "x", SAME, "", (), ("look out",)) for n in (1, 2)]
    assert [problem.message for problem in warnings(WELL, stages, NOW)] == ["look out"]


def setting_of(*states):
    return setting([SecretState(f"S{number}", state) for number, state in enumerate(states)])


SHARE = ShareWith.of(("group", "everyone"), "a2-1", "it is not")
START = StartDeployment(name="it", reason="because")
DRIFT = [
    ("nothing to do", [], SAME),
    ("something to do", [SHARE], DIFFERS),
    ("only to be waited for", [AwaitDeployment(name="it", reason="502")], SAME),
    ("to be waited for, and more", [AwaitDeployment(name="it", reason="502"), SHARE], DIFFERS),
    ("archive only not saved here", [BuildArchive(reason="not built before")], SAME),
    ("archive not built", [BuildArchive(reason="possible later", guess=True)], UNKNOWN),
    ("release not at hand", [DownloadRelease(name="1.0.0", reason="it is not in the cache")], UNKNOWN),
    ("content not compared", [CompareProject(name="p", reason="later")], UNKNOWN),
    ("values not known here", setting_of("same", "unknown"), UNKNOWN),
    ("one value known to differ", setting_of("different", "unknown"), DIFFERS),
    ("not known, and not running", [*setting_of("unknown"), START], DIFFERS),
    ("token not known here", [StoreToken(name="a", reason="no token of this", guess=True)], UNKNOWN),
    ("token known to be invalid", [StoreToken(name="a", reason="no token of this")], DIFFERS),
]


@pytest.mark.parametrize(("case", "changes", "state"), DRIFT, ids=[row[0] for row in DRIFT])
def test_only_what_is_seen_to_differ_is_drift(case, changes, state):
    diff = Changes(tuple(changes)) if changes else NoChange("fine")
    assert drift_of(8, "stage", diff).state == state


@pytest.mark.parametrize(
    "why",
    [
        "not possible before the deployment runs",
        "none stored for this deployment",
        "the stored one expired 2026-01-01 00:00 UTC",
        "none recorded here for this deployment",
        "the file has another token than this machine wrote",
        "the restart requires it",
        "none recorded here for this consumer",
        "the token file does not exist",
        "the new one may invalidate the stored one",
    ],
)
@pytest.mark.parametrize(
    "change",
    [IssueToken(reason=""), StoreToken(name="a", reason=""), SetSecrets(names=("AWS_SECRET_ACCESS_KEY",), reason="")],
    ids=lambda change: change.kind(),
)
def test_what_an_install_would_do_about_secrets_is_not_masked(change, why):
    """`issue a token: possible` would look like a credential to the scrubber; the reasons begin with other words."""
    text = replace(change, reason=why).sentence
    assert scrub(text) == text


@pytest.mark.parametrize("state", ["new", "missing", "different", "unknown", "unset"])
def test_why_a_secret_is_set_is_not_masked(state):
    report = [SecretState("MLFLOW_TRACKING_URI", "new"), SecretState("MLFLOW_TRACKING_TOKEN", state)]
    (change,) = setting(report)
    for text in (change.reason, change.sentence):
        assert scrub(text) == text


class Failing:
    name = "stage"

    def __init__(self, number):
        self.number = number

    def observe(self, context):
        raise Denied("not allowed")


def test_an_error_ends_the_sign_in_stages_and_makes_a_later_one_unknown(tmp_path):
    with pytest.raises(Denied):
        compare_stages([Failing(3)], context(tmp_path))
    (seen,) = compare_stages([Failing(13)], context(tmp_path))
    assert (seen.state, seen.message) == (UNKNOWN, "not allowed")


@pytest.mark.parametrize(
    ("status", "text", "version"),
    [
        (200, "3.17.2", "3.17.2"),
        (200, "2.6.0\n", "2.6.0"),
        (200, "3.18.0rc1", "3.18.0rc1"),
        (200, '<form id="kc-form-login">', None),
        (404, "3.17.2", None),
        (200, "OK", None),
    ],
)
def test_a_version_is_what_looks_like_one(status, text, version):
    found, why = read_version(status, text, "what was seen")
    assert (found, bool(why)) == (version, version is None)


def run(minutes_ago, **changes):
    created = None if minutes_ago is None else NOW - timedelta(minutes=minutes_ago)
    return Run(**{"id": f"r{minutes_ago}", "name": "gc", "owner": "x", "project_id": "p", "state": "completed",
                  "created": created, **changes})  # fmt: skip


def test_runs_are_sorted_only_if_all_have_a_time():
    assert [r.id for r in in_order([run(1), run(3), run(2)])] == ["r3", "r2", "r1"]
    assert [r.id for r in in_order([run(1), run(None), run(3)])] == ["r1", "rNone", "r3"]


MINUTE = timedelta(minutes=1)
MISSED = [
    ("in time", "*/10 * * * *", [run(5)], 600, None),
    ("a little late", "*/10 * * * *", [run(60)], 600, None),
    ("one is late", "0 9 * * *", [run(25 * 60)], 6000, (NOW - 180 * MINUTE, False)),
    ("two are late", "*/10 * * * *", [run(125)], 600, (NOW - 120 * MINUTE, True)),
    ("one of two is late", "*/10 * * * *", [run(80)], 600, (NOW - 70 * MINUTE, False)),
    ("one is running", "*/10 * * * *", [run(125, state="running")], 600, None),
    ("never ran, and made long ago", "0 * * * *", [], 600, (NOW - 540 * MINUTE, True)),
    ("never ran, and made just now", "0 * * * *", [], 10, None),
    ("daily, ran yesterday", "0 11 * * *", [run(25 * 60)], 6000, None),
    ("monthly, ran two weeks ago", "0 2 15 * *", [run(14 * 24 * 60 + 600)], 60 * 24 * 90, None),
    ("run once", None, [], 600, None),
    ("not understood", "@daily", [], 6000, None),
]


@pytest.mark.parametrize(("case", "schedule", "runs", "made", "expected"), MISSED, ids=[row[0] for row in MISSED])
def test_a_scheduled_run_that_never_begins_is_noticed(case, schedule, runs, made, expected):
    scheduled = job(schedule=schedule, created=NOW - timedelta(minutes=made))
    assert missed("backup", scheduled, runs, NOW) == (Missed("backup", *expected) if expected else None)
    assert missed("backup", replace(scheduled, state="paused"), runs, NOW) is None
    assert missed("backup", scheduled, runs, NOW, done=[None, NOW - 5 * MINUTE]) is None


class Runs:
    """Stands where the platform stands: the newest run of each job, by its id."""

    def __init__(self, **newest):
        self.newest = newest

    def runs(self, job_id):
        began = self.newest.get(job_id)
        return [Run(f"run of {job_id}", "x", "x", OURS.id, "completed", job_id, created=began)] if began else []

    def run_log(self, _run_id):
        raise Denied("no log", where="x")


def test_every_scheduled_job_of_the_project_is_observed(tmp_path):
    made, now = NOW - timedelta(days=90), ManualClock().now()
    daily = {"schedule": "0 2 * * *", "created": made}
    jobs = (
        job(id="backup", command="Backup", **daily),
        job(id="check", command="Backup", variables={"MLFLOW_TRACKING_BACKUP_ARGUMENTS": "verify --all"}, **daily),
        job(id="drill", command="Drill", **daily),
        job(id="paused", command="Drill", state="paused", **daily),
        job(id="other", command="Drill", project_id="a0-other", **daily),
        job(id="single", command="Drill", schedule=None),
        job(id="unknown", command="Check", **daily),
    )
    platform = Runs(backup=now - timedelta(days=1, hours=12), check=now, drill=now - timedelta(days=9))
    run = context(tmp_path, lists=Lists(jobs_=jobs), doors=Doors(platform_=platform))

    found = observe_backups(run, OURS).missed

    assert [(item.what, item.again) for item in found] == [("backup", False), ("drill", True)]


def test_a_paused_backup_and_drill_are_observed(tmp_path):
    backup = context(tmp_path).settings.backup
    names = (("Backup", backup.name), ("Backup", backup.verify_name), ("Drill", backup.drill_name))
    jobs = tuple(job(id=name, name=name, command=command, state="paused") for command, name in names)
    run = context(tmp_path, lists=Lists(jobs_=jobs), doors=Doors(platform_=Runs()))
    assert observe_backups(run, OURS).paused == (BACKUP, CHECK, DRILL)


EDITED = [
    ("create --keep-last '3", ("create", "--keep-last", "'3")),  # the job refuses it
    ("create --keep-last '3'", ("create", "--keep-last", "3")),
    ("", ("create",)),
]


@pytest.mark.parametrize(("arguments", "words"), EDITED)
def test_a_job_whose_arguments_were_edited_on_the_platform_is_observed(tmp_path, arguments, words):
    """AE5 takes any text for a variable."""
    variables = {"MLFLOW_TRACKING_BACKUP_ARGUMENTS": arguments}
    name = one_off_spec(context(tmp_path), tasks.backup("create")).name
    one_off = job(id="b", name=name, command="Backup", schedule=None, variables=variables)
    where = context(tmp_path, lists=Lists(jobs_=[one_off]), doors=Doors(platform_=Logs(b=[WHOLE])))
    assert [outcome.of for outcome in observe_backups(where, OURS).outcomes] == [BACKUP, REPOSITORY]
    assert interrupted_run(where, OURS, tasks.backup("create")).task.words == words


class Logs:
    """Stands where the platform stands: runs of the job `backup` and of others, newest first, each with its report."""

    def __init__(self, **runs):
        self.reports = {
            f"{job_id}-{number}": fields for job_id, all_ in runs.items() for number, fields in enumerate(all_)
        }

    def runs(self, job_id):
        return [
            Run(name, "x", "x", OURS.id, fields.get("state", "completed"), job_id, created=fields["began"])
            for name, fields in self.reports.items()
            if name.rpartition("-")[0] == job_id
        ]

    def run_log(self, run_id):
        fields = {key: value for key, value in self.reports[run_id].items() if key not in ("began", "state")}
        return json.dumps({"outcome": "done", "exit_code": 0, "seconds": 60, "action": "create", **fields})


TODAY = ManualClock().now()  # midnight
DAY = timedelta(days=1)
WHOLE = {"began": TODAY - DAY, "snapshot": f"{TODAY - DAY:%Y%m%dT%H%M%SZ}-1a2b3c"}
OLDER = {"began": TODAY - 3 * DAY, "snapshot": f"{TODAY - 3 * DAY:%Y%m%dT%H%M%SZ}-2b3c4d"}
NO = {"began": TODAY - HOUR, "outcome": "failed", "exit_code": 28, "error": "no room"}
LACKS = {**WHOLE, "outcome": "incomplete", "exit_code": 23, "unreadable": ["a: no permission"]}
PROTECTED = [
    ("no run", "0 2 * * *", [], None, False),
    ("in time", "0 0 * * *", [WHOLE], TODAY - DAY, False),
    ("failed since", "0 22 * * *", [NO, WHOLE], TODAY - DAY, True),
    ("failed, and not due yet", "30 23 * * *", [NO, WHOLE], TODAY - DAY, False),
    ("due, and running", "0 22 * * *", [{"began": TODAY - HOUR, "state": "running"}, WHOLE], TODAY - DAY, False),
    ("the newest is incomplete", "0 0 * * *", [LACKS, OLDER], TODAY - 3 * DAY, True),
    ("only external ones lack", "0 0 * * *", [{**WHOLE, "external": ["s3://b"]}], TODAY - DAY, False),
    ("none is complete", "0 0 * * *", [LACKS], None, False),
]


@pytest.mark.parametrize(("case", "cron", "runs", "protected", "overdue"), PROTECTED, ids=[row[0] for row in PROTECTED])
def test_since_when_data_is_in_no_snapshot_is_observed(tmp_path, case, cron, runs, protected, overdue):
    scheduled = job(id="b", name=context(tmp_path).settings.backup.name, command="Backup", schedule=cron,
                    created=TODAY - 9 * DAY)  # fmt: skip
    where = context(tmp_path, lists=Lists(jobs_=[scheduled]), doors=Doors(platform_=Logs(b=runs)))

    found = observe_backups(where, OURS)

    assert (found.newest.protected if found.newest else None, found.overdue) == (protected, overdue)
    since = (
        "no snapshot" if not found.newest else f"data since {protected:%Y-%m-%d %H:%M}" if protected else "unknown time"
    )
    assert since in unsaved(found, TODAY)
    assert data(found)["protected"] == (protected.isoformat() if protected else None)


def test_a_scheduled_check_verifies_the_newest_snapshot_and_its_result_is_shown(tmp_path):
    backup = context(tmp_path).settings.backup
    rows = (("b", backup.name, "Backup"), ("c", backup.verify_name, "Backup"), ("d", backup.drill_name, "Drill"))
    daily = {"schedule": "0 0 * * *", "created": TODAY - 9 * DAY}
    jobs = [job(id=id_, name=name, command=command, **daily) for id_, name, command in rows]
    whole = {"snapshot": WHOLE["snapshot"], "action": "verify", "checked_objects": 5, "of_objects": 5}
    platform = Logs(b=[WHOLE], c=[{**whole, "began": TODAY - HOUR}], d=[{**NO, "exit_code": 1}])

    found = observe_backups(context(tmp_path, lists=Lists(jobs_=jobs), doors=Doors(platform_=platform)), OURS)

    assert ", verified 59 min ago;" in words(found, TODAY)
    assert last(found, CHECK, TODAY).endswith("(59 min ago), passed; scheduled at 00:00 UTC")
    assert last(found, DRILL, TODAY).endswith("(59 min ago), FAILED; scheduled at 00:00 UTC")
    assert (data(found)["check"]["passed"], data(found)["drill"]["passed"]) == (True, False)
    assert last(BackupStatus(), DRILL, TODAY) == "none known; not scheduled"


LAST = [
    ("passed", {"passed": True}),
    ("FAILED", {"passed": False}),
    ("did not finish", {"passed": False, "ran": False}),
    ("result unknown", {"passed": False, "reported": False}),
    ("result unknown", {"passed": False, "ran": False, "reported": False}),
]


@pytest.mark.parametrize(("result", "fields"), LAST)
def test_the_last_result_is_failed_only_if_that_was_reported(result, fields):
    found = BackupStatus(outcomes=(Outcome(CHECK, NOW, **fields),))
    assert last(found, CHECK, NOW) == f"2026-03-01 12:00 UTC (0 s ago), {result}; not scheduled"
