"""backup: snapshots of database and artifacts, by a job on the platform."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_ae5_deploy.cli.context import load_settings
from mlflow_ae5_deploy.cli.jobs import run_task, set_schedule
from mlflow_ae5_deploy.cli.options import RemoveSchedule, Schedule, Snapshot, Wait, WriteOptions
from mlflow_ae5_deploy.cli.snapshot_values import checked_damaged, checked_share, checked_snapshot
from mlflow_ae5_deploy.common.errors import Usage
from mlflow_ae5_deploy.jobs import tasks

if TYPE_CHECKING:
    from mlflow_ae5_deploy.config.settings import BackupSettings
    from mlflow_ae5_deploy.jobs.reports import BackupReport
    from mlflow_ae5_deploy.jobs.tasks import JobRequest

NAME = "backup"


class ActionName(StrEnum):
    """What to do."""

    create = "create"
    verify = "verify"
    list = "list"
    show = "show"
    prune = "prune"


# option -> the actions that take it
_ACTIONS = {
    "--rehash": ("create",),
    "--allow-external": ("create",),
    "--allow-empty": ("create",),
    "--new-repository": ("create", "list"),
    "--schedule": ("create",),
    "--remove-schedule": ("create",),
    "--snapshot": ("verify", "show"),
    "--sample": ("verify",),
    "--all": ("verify",),
    "--keep-last": ("prune",),
    "--keep-daily": ("prune",),
    "--keep-weekly": ("prune",),
    "--drop-damaged": ("prune",),
}

Action = Annotated[
    ActionName, typer.Argument(help="create a snapshot, verify, list, show or prune.", show_default=True)
]
Rehash = Annotated[bool, typer.Option("--rehash", help="create: read every artifact again, also unchanged ones.")]
AllowExternal = Annotated[
    bool,
    typer.Option("--allow-external", help="create: succeed although artifacts outside the store are not backed up."),
]
AllowEmpty = Annotated[
    bool, typer.Option("--allow-empty", help="create: accept that all artifacts, or all runs, have disappeared.")
]
NewRepository = Annotated[
    bool, typer.Option("--new-repository", help="create, list: accept the destination as a new repository.")
]
Sample = Annotated[str | None, typer.Option("--sample", help="verify: read a share of the objects, such as 1%.")]
All = Annotated[bool, typer.Option("--all", help="verify: read every object (the default).")]
KeepLast = Annotated[int | None, typer.Option("--keep-last", min=1, help="prune: keep the N most recent snapshots.")]
KeepDaily = Annotated[int | None, typer.Option("--keep-daily", min=1, help="prune: keep one per day for N days.")]
KeepWeekly = Annotated[int | None, typer.Option("--keep-weekly", min=1, help="prune: keep one per week for N weeks.")]
DropDamaged = Annotated[
    str | None,
    typer.Option(
        "--drop-damaged", metavar="ID", help="prune: also remove this damaged snapshot; alone, only this one."
    ),
]


def command(
    options: WriteOptions,
    action: Action = ActionName.create,
    snapshot: Snapshot = None,
    rehash: Rehash = False,
    allow_external: AllowExternal = False,
    allow_empty: AllowEmpty = False,
    new_repository: NewRepository = False,
    sample: Sample = None,
    all_: All = False,
    keep_last: KeepLast = None,
    keep_daily: KeepDaily = None,
    keep_weekly: KeepWeekly = None,
    drop_damaged: DropDamaged = None,
    schedule: Schedule = None,
    remove_schedule: RemoveSchedule = False,
    wait: Wait = 3600.0,
) -> int:
    """Without an action: create a snapshot."""
    given = {
        "--rehash": rehash,
        "--allow-external": allow_external,
        "--allow-empty": allow_empty,
        "--new-repository": new_repository,
        "--schedule": schedule,
        "--remove-schedule": remove_schedule,
        "--snapshot": snapshot,
        "--sample": sample,
        "--all": all_,
        "--keep-last": keep_last,
        "--keep-daily": keep_daily,
        "--keep-weekly": keep_weekly,
        "--drop-damaged": drop_damaged,
    }
    _check(action.value, given)
    if schedule is not None or remove_schedule:
        return set_schedule(NAME, "Backup", "backup.schedule", schedule, options)
    keeps = load_settings(options).settings.backup if action is ActionName.prune else None
    task = _task(action.value, given, keeps, yes=options.yes)
    return run_task(NAME, task, options, wait=wait, new_repository=new_repository)


def _check(action: str, given: Mapping[str, Any]) -> None:
    used = [option for option, value in given.items() if value not in (None, False)]
    for option in used:
        if action not in _ACTIONS[option]:
            actions = " and ".join(f"`backup {name}`" for name in _ACTIONS[option])
            raise Usage(f"{option} is an option of {actions}, not of `backup {action}`.", where=option)
    for one, other in (("--sample", "--all"), ("--schedule", "--remove-schedule")):
        if one in used and other in used:
            raise Usage(f"{one} and {other} exclude each other.", remedy="Leave one out.")
    if "--schedule" in used and len(used) > 1:
        raise Usage("--schedule creates a job for plain backups.", remedy="Leave the other options out.")


def _task(
    action: str, given: Mapping[str, Any], keeps: BackupSettings | None, *, yes: bool
) -> JobRequest[BackupReport]:
    words: list[str] = []
    if action == "create":
        words = [option for option in ("--rehash", "--allow-external", "--allow-empty") if given[option]]
    elif action in ("verify", "show"):
        words = ["--snapshot", checked_snapshot(given["--snapshot"])]
        if given["--sample"]:
            words += ["--sample", checked_share(given["--sample"])]
        if given["--all"]:
            words.append("--all")
    elif action == "prune":
        words = [*_keeps(given, keeps), *(["--yes"] if yes else [])]
    return tasks.backup(action, *words)


def _keeps(given: Mapping[str, Any], keeps: BackupSettings | None) -> list[str]:
    """Options of a prune: the given ones, else those of the configuration."""
    named = ("--keep-last", "--keep-daily", "--keep-weekly")
    desired = {option: given[option] for option in named if given[option] is not None}
    dropped = given["--drop-damaged"]
    if not desired and keeps is not None and dropped is None:
        values = (keeps.keep_last, keeps.keep_daily, keeps.keep_weekly)
        desired = {option: value for option, value in zip(named, values, strict=True) if value is not None}
    if not desired and dropped is None:
        raise Usage(
            "No retention is given.",
            where="backup prune",
            remedy="Add --keep-last, --keep-daily or --keep-weekly, or set backup.keep_last and the like.",
        )
    words = [word for option, value in desired.items() for word in (option, str(value))]
    if dropped is not None:
        words += ["--drop-damaged", checked_damaged(dropped)]
    return words
