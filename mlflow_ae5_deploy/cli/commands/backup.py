"""backup: snapshots of database and artifacts, by jobs on the platform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_ae5_deploy.cli.context import load_settings
from mlflow_ae5_deploy.cli.jobs import run_task
from mlflow_ae5_deploy.cli.options import Snapshot, Wait, WriteOptions, examples
from mlflow_ae5_deploy.cli.schedule import BACKUPS, CHECKS, Cron, RemoveSchedule, schedule_job
from mlflow_ae5_deploy.cli.snapshot_values import checked_damaged, checked_share, checked_snapshot
from mlflow_ae5_deploy.common.errors import Usage
from mlflow_ae5_deploy.jobs import tasks

if TYPE_CHECKING:
    from mlflow_ae5_deploy.config.settings import BackupSettings

ABOUT = "Without a verb: `backup create`, with its options. Jobs on the platform do the work."
EXAMPLES = {
    "backup": "Create a snapshot now",
    "backup schedule '30 2 * * *'": "Create one every night at 02:30 UTC",
    "backup list": "List the snapshots",
}

Rehash = Annotated[bool, typer.Option("--rehash", help="Read every artifact again, also those that seem unchanged.")]
AllowExternal = Annotated[
    bool, typer.Option("--allow-external", help="Succeed although artifacts outside the store are not backed up.")
]
AllowEmpty = Annotated[bool, typer.Option("--allow-empty", help="Accept that all artifacts, or all runs, are missing.")]
NewRepository = Annotated[bool, typer.Option("--new-repository", help="Accept the destination as a new repository.")]
Sample = Annotated[
    str | None, typer.Option("--sample", metavar="PERCENT", help="Read only a share of the objects, such as 1%.")
]
All = Annotated[bool, typer.Option("--all", help="Read every object. This is the default.")]
KeepLast = Annotated[
    int | None, typer.Option("--keep-last", metavar="N", min=1, help="Keep the N most recent snapshots.")
]
KeepDaily = Annotated[
    int | None, typer.Option("--keep-daily", metavar="N", min=1, help="Keep one snapshot per day for N days.")
]
KeepWeekly = Annotated[
    int | None, typer.Option("--keep-weekly", metavar="N", min=1, help="Keep one snapshot per week for N weeks.")
]
ScheduleVerify = Annotated[
    bool, typer.Option("--verify", help="The schedule of `backup verify`, instead of that of `backup`.")
]
DropDamaged = Annotated[
    str | None,
    typer.Option(
        "--drop-damaged",
        metavar="SNAPSHOT",
        help="Also remove this damaged snapshot; without --keep options, only this one.",
    ),
]


@examples(
    {
        "backup": "Create a snapshot now",
        "backup create --rehash": "Read every artifact again, also unchanged ones",
    }
)
def create(
    options: WriteOptions,
    rehash: Rehash = False,
    allow_external: AllowExternal = False,
    allow_empty: AllowEmpty = False,
    new_repository: NewRepository = False,
    wait: Wait = 3600.0,
) -> int:
    """The server keeps running. Only new and changed artifacts are stored."""
    given = {"--rehash": rehash, "--allow-external": allow_external, "--allow-empty": allow_empty}
    task = tasks.backup("create", *(option for option, chosen in given.items() if chosen))
    return run_task("backup", task, options, wait=wait, new_repository=new_repository)


@examples({"backup list": "List the snapshots", "backup list --json": "The same for a program"})
def list_(options: WriteOptions, new_repository: NewRepository = False, wait: Wait = 3600.0) -> int:
    """Queries the backup destination with a job on the platform."""
    return run_task("backup list", tasks.backup("list"), options, wait=wait, new_repository=new_repository)


@examples(
    {
        "backup show": "Show the latest snapshot",
        "backup show --snapshot 20261129T140500Z-1a2b3c": "Show another one",
    }
)
def show(options: WriteOptions, snapshot: Snapshot = None, wait: Wait = 3600.0) -> int:
    """Prints its manifest: MLflow version, database, counts and sizes."""
    task = tasks.backup("show", "--snapshot", checked_snapshot(snapshot))
    return run_task("backup show", task, options, wait=wait)


@examples(
    {
        "backup verify": "Verify the latest snapshot completely",
        "backup verify --sample 5%": "Verify a random share, which is faster",
    }
)
def verify(
    options: WriteOptions, snapshot: Snapshot = None, sample: Sample = None, all_: All = False, wait: Wait = 3600.0
) -> int:
    """Finds objects that are missing or damaged. Exits 25 if there are any."""
    if sample is not None and all_:
        raise Usage("--sample and --all exclude each other.", remedy="Leave one out.")
    words = ["--snapshot", checked_snapshot(snapshot)]
    if sample is not None:
        words += ["--sample", checked_share(sample)]
    if all_:
        words.append("--all")
    return run_task("backup verify", tasks.backup("verify", *words), options, wait=wait)


@examples(
    {
        "backup prune --keep-daily 7 --keep-weekly 4": "Preview what would be removed",
        "backup prune --keep-daily 7 --keep-weekly 4 --yes": "Remove it",
    }
)
def prune(
    options: WriteOptions,
    keep_last: KeepLast = None,
    keep_daily: KeepDaily = None,
    keep_weekly: KeepWeekly = None,
    drop_damaged: DropDamaged = None,
    wait: Wait = 3600.0,
) -> int:
    """A snapshot stays if any --keep option selects it. Without options: the retention of the configuration.

    The newest snapshot always stays, and the newest that is undamaged, verified in part, and verified in full.
    """
    keeps = {"--keep-last": keep_last, "--keep-daily": keep_daily, "--keep-weekly": keep_weekly}
    words = [word for option, value in keeps.items() if value is not None for word in (option, str(value))]
    if not words and drop_damaged is None:
        words += _configured(load_settings(options).settings.backup)
    if drop_damaged is not None:
        words += ["--drop-damaged", checked_damaged(drop_damaged)]
    task = tasks.backup("prune", *words, *(["--yes"] if options.yes else []))
    return run_task("backup prune", task, options, wait=wait, recorded_as="backup prune --yes" if options.yes else "")


@examples(
    {
        "backup schedule '30 2 * * *'": "Back up every night at 02:30 UTC",
        "backup schedule --verify '0 4 * * 6'": "Verify the latest one every Saturday at 04:00 UTC",
        "backup schedule --remove": "Stop scheduled backups",
    }
)
def schedule(
    options: WriteOptions, cron: Cron = None, verify_: ScheduleVerify = False, remove: RemoveSchedule = False
) -> int:
    """With CRON: exactly one job that creates snapshots, and deletes older ones as configured. Safe to re-run.

    With --verify: exactly one job that verifies the latest snapshot.
    """
    return schedule_job(CHECKS if verify_ else BACKUPS, options, cron, remove=remove)


COMMANDS = {
    "create": create,
    "list": list_,
    "show": show,
    "verify": verify,
    "prune": prune,
    "schedule": schedule,
}


def _configured(settings: BackupSettings) -> tuple[str, ...]:
    """The retention of the configuration, as options of a prune."""
    from mlflow_ae5_deploy.resources.job_specs import retention

    configured = retention(settings)
    if not configured:
        raise Usage(
            "No retention is given.",
            where="backup prune",
            remedy="Add --keep-last, --keep-daily or --keep-weekly, or set backup.keep_last and the like.",
        )
    return configured
