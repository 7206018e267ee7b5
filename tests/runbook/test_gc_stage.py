"""Stage 14: exactly one job, whatever was there before."""

from __future__ import annotations

import pytest
from runbook_support import OTHER, Lists, context, job

from mlflow_ae5_deploy.runbook.stages.s14_gc_schedule import GcSchedule

SECOND = "a2-" + "c" * 32
ROWS = [
    ("none", [], ["create"]),
    ("the right one", [job()], []),
    ("white space in the cron", [job(schedule="*/10  * * * *")], []),
    ("another cron", [job(schedule="0 * * * *")], ["delete", "create"]),
    ("another command", [job(command="DatabaseUpgrade")], ["delete", "create"]),
    ("another variable", [job(variables={"MLFLOW_TRACKING_GC_TTL": "1d"})], ["delete", "create"]),
    ("another profile", [job(resource_profile="large")], ["delete", "create"]),
    ("the same work under another name", [job(name="old gc")], ["delete", "create"]),
    ("two right ones", [job(), job(id=SECOND)], ["delete"]),
    ("a wrong and a right one", [job(schedule="0 * * * *"), job(id=SECOND)], ["delete"]),
    (
        "a run-once job of the same command is not a schedule",
        [job(), job(id=SECOND, name="by hand", schedule=None)],
        [],
    ),
    ("a job of another project", [job(project_id=OTHER.id)], ["create"]),
    ("paused", [job(state="paused")], []),
]


@pytest.mark.parametrize(("case", "jobs", "verbs"), ROWS, ids=[row[0] for row in ROWS])
def test_what_follows_from_the_jobs_there(tmp_path, case, jobs, verbs):
    where = context(tmp_path, lists=Lists(jobs_=jobs))

    decision = GcSchedule().plan(GcSchedule().observe(where), where)

    assert [action.verb for action in decision.actions] == verbs


def test_the_schedule_is_told_in_words_with_the_next_three_times(tmp_path):
    where = context(tmp_path, lists=Lists(jobs_=[job()]))

    reason = GcSchedule().plan(GcSchedule().observe(where), where).no_change.reason

    assert "every 10 minutes" in reason.lower()
    assert "2026-01-01 00:10, 2026-01-01 00:20, 2026-01-01 00:30 UTC" in reason


def test_a_paused_job_is_left_alone_and_warned_of(tmp_path):
    where = context(tmp_path, lists=Lists(jobs_=[job(state="paused")]))

    decision = GcSchedule().plan(GcSchedule().observe(where), where)

    assert "paused" in decision.warnings[0]


def test_values_of_variables_are_not_shown(tmp_path):
    where = context(tmp_path, lists=Lists(jobs_=[job(variables={"MLFLOW_BACKEND_STORE_URI": "postgresql://u:pw@h/d"})]))

    decision = GcSchedule().plan(GcSchedule().observe(where), where)

    assert "pw" not in repr(decision)
