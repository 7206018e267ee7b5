"""Schedules that are not configured, where the project is replaced: created again as they were, or lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlflow_ae5_deploy.resources import other_schedules
from tests.runbook.runbook_support import OURS, Lists, context, job

BACKUP = {"name": "scheduled mlflow.tracking.server backup", "command": "Backup", "schedule": "30  2 * * *"}
WORDS = {"MLFLOW_TRACKING_BACKUP_ARGUMENTS": "create --keep-last 3"}
# what differs from a job that `backup schedule` sets; why it is lost, empty if it is not
ROWS: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"variables": WORDS}, ""),
    ({"command": "MinimumBackup"}, ""),  # of the other environment
    ({"resource_profile": "removed"}, ""),  # the configured one is used
    ({"name": "mine"}, "it was not set by this tool"),
    ({"name": "backup"}, "it was not set by this tool"),
    ({"command": "Check"}, "its command or variables are not those that this tool sets"),
    ({"variables": WORDS | {"PGPASS": "x"}}, "its command or variables are not those that this tool sets"),
    ({"schedule": "@daily"}, "its schedule is not one that this tool sets"),
    ({"schedule": "0 3 L * *"}, "its schedule is not one that this tool sets"),
]


@pytest.mark.parametrize(("changes", "lost"), ROWS, ids=[str(changes) for changes, _ in ROWS])
def test_only_what_a_verb_can_have_set_is_created_again(tmp_path: Path, changes: dict[str, Any], lost: str) -> None:
    found = job(**BACKUP | changes)
    here = context(tmp_path, lists=Lists(jobs_=(found,)))

    kept = other_schedules.kept(here, OURS)
    named = [one.text for one in other_schedules.consequences(here, OURS)]
    other_schedules.record_deletion(here, OURS)

    if lost:
        assert (kept, here.state.schedules) == ([], {})
        assert named == [f"job {found.name} ({found.schedule}) is lost: {lost}"]
        return
    assert named == []
    (desired,) = kept
    assert (desired.name, desired.command, desired.schedule) == (found.name, "Backup", "30 2 * * *")
    assert (dict(desired.variables), desired.resource_profile) == (found.variables, "default")


def test_a_job_whose_project_was_not_deleted_after_all_is_not_created_again(tmp_path: Path) -> None:
    here = context(tmp_path, lists=Lists(jobs_=(job(**BACKUP),)))
    other_schedules.record_deletion(here, OURS)
    gone = context(tmp_path, lists=Lists(projects_=()))
    kept = context(tmp_path)

    assert [desired.name for desired in other_schedules.to_recreate(gone, None)] == [BACKUP["name"]]
    assert other_schedules.to_recreate(kept, OURS) == []
