"""Stage 14: exactly one job, whatever was there before."""

from __future__ import annotations

import pytest
from runbook_support import OTHER, Lists, context, job

from mlflow_ae5_deploy.config.settings import BackupSettings
from mlflow_ae5_deploy.engine.records import PendingJobChange
from mlflow_ae5_deploy.resources.scheduled_job import CreateJob, DeleteJob, PauseJob, paused_by_somebody
from mlflow_ae5_deploy.runbook.stages.s14_gc_schedule import GcScheduleStage

SECOND = "a2-" + "c" * 32
ROWS = [
    ("none", [], [CreateJob]),
    ("the right one", [job()], []),
    ("white space in the cron", [job(schedule="*/10  * * * *")], []),
    ("another cron", [job(schedule="0 * * * *")], [DeleteJob, CreateJob]),
    ("another command", [job(command="DatabaseUpgrade")], [DeleteJob, CreateJob]),
    ("another variable", [job(variables={"MLFLOW_TRACKING_GC_TTL": "1d"})], [DeleteJob, CreateJob]),
    ("another profile", [job(resource_profile="large")], [DeleteJob, CreateJob]),
    ("the same work under another name", [job(name="old gc")], [DeleteJob, CreateJob]),
    ("two right ones", [job(), job(id=SECOND)], [DeleteJob]),
    ("a wrong and a right one", [job(schedule="0 * * * *"), job(id=SECOND)], [DeleteJob]),
    (
        "a run-once job of the same command is not a schedule",
        [job(), job(id=SECOND, name="by hand", schedule=None)],
        [],
    ),
    ("a job of another project", [job(project_id=OTHER.id)], [CreateJob]),
    ("paused", [job(state="paused")], []),
    ("paused, with another cron", [job(state="paused", schedule="0 * * * *")], [DeleteJob, CreateJob]),
]


def diff_of(where):
    stage = GcScheduleStage()
    return stage.diff(stage.observe(where))


@pytest.mark.parametrize(("case", "jobs", "changes"), ROWS, ids=[row[0] for row in ROWS])
def test_what_follows_from_the_jobs_there(tmp_path, case, jobs, changes):
    diff = diff_of(context(tmp_path, lists=Lists(jobs_=jobs)))

    assert [type(change) for change in diff.changes] == changes


def test_the_schedule_is_shown_in_words_with_the_next_time(tmp_path):
    where = context(tmp_path, lists=Lists(jobs_=[job()]))

    reason = diff_of(where).reason

    assert "every 10 minutes" in reason.lower()
    assert "next 2026-01-01 00:10 UTC (in 10 min)" in reason


def test_a_paused_job_is_left_alone_and_warned_of(tmp_path):
    diff = diff_of(context(tmp_path, lists=Lists(jobs_=[job(state="paused")])))

    assert "paused" in diff.warnings[0]


def test_a_recreated_job_stays_paused_and_the_plan_shows_it(tmp_path):
    diff = diff_of(context(tmp_path, lists=Lists(jobs_=[job(state="paused", schedule="0 * * * *")])))

    assert "stays paused" in diff.changes[-1].reason
    assert "no garbage collection runs until" in diff.warnings[0]


PAUSED, RUNS, SECOND_PAUSED = job(state="paused"), job(), job(id=SECOND, state="paused")
PAUSED_BY_SOMEBODY = [
    ("none", [], None, False),
    ("it runs", [RUNS], None, False),
    ("somebody paused it", [PAUSED], None, True),
    ("one of two runs", [RUNS, SECOND_PAUSED], None, False),
    ("paused by an interrupted run of ours", [PAUSED], PendingJobChange(False, (PAUSED.id,)), False),
    ("gone, and it was paused", [], PendingJobChange(True, (PAUSED.id,)), True),
    ("recreated and not paused yet", [job(id=SECOND)], PendingJobChange(True, (PAUSED.id,)), True),
    ("recreated, then paused by somebody", [SECOND_PAUSED], PendingJobChange(False, (PAUSED.id,)), True),
]


@pytest.mark.parametrize(
    ("case", "jobs", "change", "by_somebody"), PAUSED_BY_SOMEBODY, ids=[row[0] for row in PAUSED_BY_SOMEBODY]
)
def test_a_pause_counts_unless_it_is_this_tools_own(case, jobs, change, by_somebody):
    assert paused_by_somebody(jobs, change) is by_somebody


def test_a_job_recreated_by_an_interrupted_run_is_paused_by_the_next(tmp_path):
    where = context(tmp_path, lists=Lists(jobs_=[job(id=SECOND)]))
    where.state.record_job_change("garbage collection", paused=True, jobs=[job().id])

    diff = diff_of(where)

    assert [type(change) for change in diff.changes] == [PauseJob]


BACKUPS = {"schedule": "0 1 * * *", "verify_schedule": "0 3 * * *", "drill_schedule": "0 2 * * *"}
ARGUMENTS = "MLFLOW_TRACKING_BACKUP_ARGUMENTS"
# purpose -> setting, name, command, variables
SCHEDULED = {
    "backup": ("schedule", BackupSettings().name, "Backup", {}),
    "backup verify": ("verify_schedule", BackupSettings().verify_name, "Backup", {ARGUMENTS: "verify"}),
    "drill": ("drill_schedule", BackupSettings().drill_name, "Drill", {}),
}


def backup_job(purpose, **changes):
    setting, name, command, variables = SCHEDULED[purpose]
    cron = BACKUPS[setting]
    return job(
        **{"id": f"a2-{setting}", "name": name, "command": command, "schedule": cron, "variables": variables, **changes}
    )


@pytest.mark.parametrize("purpose", SCHEDULED)
def test_a_paused_job_stays_paused_and_the_others_do_not_change(tmp_path, purpose):
    others = [backup_job(other) for other in SCHEDULED if other != purpose]
    jobs = [job(), *others, backup_job(purpose, schedule="0 9 * * *", state="paused")]
    where = context(tmp_path, lists=Lists(jobs_=jobs), backup=BACKUPS)

    diff = diff_of(where)

    assert [type(change) for change in diff.changes] == [DeleteJob, CreateJob]
    assert diff.changes[-1].name == SCHEDULED[purpose][1]
    assert "stays paused" in diff.changes[-1].reason
    (warning,) = diff.warnings
    assert f"no {purpose} runs until" in warning


@pytest.mark.parametrize("purpose", ["garbage collection", *SCHEDULED])
def test_the_record_of_one_interrupted_job_change_says_nothing_of_another(tmp_path, purpose):
    jobs = {"garbage collection": job(), **{other: backup_job(other) for other in SCHEDULED}}
    where = context(tmp_path, lists=Lists(jobs_=list(jobs.values())), backup=BACKUPS)
    where.state.record_job_change(purpose, paused=True, jobs=["a2-previous"])

    diff = diff_of(where)

    (change,) = diff.changes
    assert (type(change), change.name, change.id) == (PauseJob, jobs[purpose].name, jobs[purpose].id)


RETENTION = [
    ("none configured, none there", {}, {}, []),
    ("none configured", {}, {ARGUMENTS: "create --keep-last 7"}, [DeleteJob, CreateJob]),
    ("none there", {"keep_last": 7}, {}, [DeleteJob, CreateJob]),
    ("the same", {"keep_last": 7, "keep_weekly": 4}, {ARGUMENTS: "create --keep-last 7 --keep-weekly 4"}, []),
    ("another", {"keep_daily": 7}, {ARGUMENTS: "create --keep-daily 30"}, [DeleteJob, CreateJob]),
]


@pytest.mark.parametrize(("case", "keep", "variables", "changes"), RETENTION, ids=[row[0] for row in RETENTION])
def test_a_scheduled_backup_prunes_by_the_configured_retention(tmp_path, case, keep, variables, changes):
    jobs = [job(), backup_job("backup", variables=variables)]
    where = context(tmp_path, lists=Lists(jobs_=jobs), backup={"schedule": BACKUPS["schedule"], **keep})

    assert [type(change) for change in diff_of(where).changes] == changes


def test_values_of_variables_are_not_shown(tmp_path):
    diff = diff_of(
        context(tmp_path, lists=Lists(jobs_=[job(variables={"MLFLOW_BACKEND_STORE_URI": "postgresql://u:pw@h/d"})]))
    )

    assert "pw" not in repr(diff)
