"""drill: test a snapshot on the platform, by restoring it to a temporary location."""

from __future__ import annotations

from mlflow_ae5_deploy.cli.jobs import run_task
from mlflow_ae5_deploy.cli.options import Snapshot, Wait, WriteOptions, examples
from mlflow_ae5_deploy.cli.schedule import DRILLS, Cron, RemoveSchedule, schedule_job
from mlflow_ae5_deploy.cli.snapshot_values import checked_snapshot
from mlflow_ae5_deploy.jobs import tasks

ABOUT = "Without a verb: `drill run`, with its options. The server and its data are not touched."
EXAMPLES = {
    "drill": "Test the latest snapshot now",
    "drill schedule '0 6 * * 0'": "Test the latest one every Sunday at 06:00 UTC",
}


@examples(
    {
        "drill": "Test the latest snapshot",
        "drill --snapshot 20261129T140500Z-1a2b3c": "Test another one",
    }
)
def run(options: WriteOptions, snapshot: Snapshot = None, wait: Wait = 3600.0) -> int:
    """Restores it, starts a server on it, checks that it serves the data, and cleans up."""
    return run_task("drill", tasks.drill(checked_snapshot(snapshot)), options, wait=wait)


@examples(
    {
        "drill schedule '0 6 * * 0'": "Every Sunday at 06:00 UTC",
        "drill schedule": "Show the current schedule",
        "drill schedule --remove": "Stop scheduled drills",
    }
)
def schedule(options: WriteOptions, cron: Cron = None, remove: RemoveSchedule = False) -> int:
    """With CRON: exactly one job that tests the latest snapshot. Safe to re-run."""
    return schedule_job(DRILLS, options, cron, remove=remove)


COMMANDS = {"run": run, "schedule": schedule}
