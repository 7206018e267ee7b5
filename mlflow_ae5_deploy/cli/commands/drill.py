"""drill: test a snapshot on the platform, by restoring it to a temporary location."""

from __future__ import annotations

from mlflow_ae5_deploy.cli.jobs import run_task, set_schedule
from mlflow_ae5_deploy.cli.options import RemoveSchedule, Schedule, Snapshot, Wait, WriteOptions
from mlflow_ae5_deploy.cli.snapshot_values import checked_snapshot
from mlflow_ae5_deploy.common.errors import Usage
from mlflow_ae5_deploy.jobs import tasks

NAME = "drill"


def command(
    options: WriteOptions,
    snapshot: Snapshot = None,
    schedule: Schedule = None,
    remove_schedule: RemoveSchedule = False,
    wait: Wait = 3600.0,
) -> int:
    """The real database and artifacts are not touched."""

    if sum((snapshot is not None, schedule is not None, remove_schedule)) > 1:
        raise Usage("--snapshot, --schedule and --remove-schedule exclude each other.", remedy="Leave all but one out.")
    task = tasks.drill(checked_snapshot(snapshot))
    if schedule is not None or remove_schedule:
        return set_schedule(NAME, "Drill", "backup.drill_schedule", schedule, options)
    return run_task(NAME, task, options, wait=wait)
