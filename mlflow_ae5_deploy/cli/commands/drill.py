"""drill: restore a snapshot into a scratch place on the platform, prove it there, remove it."""

from __future__ import annotations

from mlflow_ae5_deploy.cli import options
from mlflow_ae5_deploy.cli.context import SharedOptions, reporter_for
from mlflow_ae5_deploy.cli.job_run import look_after_schedule, run_task
from mlflow_ae5_deploy.cli.locked_run import LockWait
from mlflow_ae5_deploy.cli.snapshot_options import RemoveSchedule, Schedule, Snapshot, Wait, checked_snapshot
from mlflow_ae5_deploy.common.errors import Usage
from mlflow_ae5_deploy.jobs import tasks

NAME = "drill"
HELP = "Prove a snapshot: restore it into a scratch place, serve it, verify it, read models back, remove it all."


def command(
    config: options.Config = None,
    profile: options.Profile = None,
    sandbox: options.Sandbox = False,
    snapshot: Snapshot = None,
    schedule: Schedule = None,
    remove_schedule: RemoveSchedule = False,
    wait: Wait = 3600.0,
    hostname: options.Hostname = None,
    username: options.Username = None,
    session: options.SessionKind = None,
    lock_wait: LockWait = 0.0,
    json: options.Json = False,
    traceback: options.Traceback = False,
) -> int:
    """The real database and artifacts are not touched."""

    if sum((snapshot is not None, schedule is not None, remove_schedule)) > 1:
        raise Usage("--snapshot, --schedule and --remove-schedule exclude each other.", remedy="Leave all but one out.")
    task = tasks.drill(checked_snapshot(snapshot))
    choices = SharedOptions(config, profile, sandbox, json, hostname, username, session, traceback=traceback)
    reporter = reporter_for(choices)
    try:
        if schedule is not None or remove_schedule:
            return look_after_schedule(
                NAME, "Drill", "backup.drill_schedule", schedule, choices, reporter, lock_wait=lock_wait
            )
        return run_task(NAME, task, choices, reporter, wait=wait, lock_wait=lock_wait)
    finally:
        reporter.close()
