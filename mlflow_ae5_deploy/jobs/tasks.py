"""One call of a command of the project: its name, arguments and variables."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

ARGUMENTS = {
    "Backup": "MLFLOW_TRACKING_BACKUP_ARGUMENTS",
    "Restore": "MLFLOW_TRACKING_RESTORE_ARGUMENTS",
    "Drill": "MLFLOW_TRACKING_DRILL_ARGUMENTS",
}
REHEARSE = "MLFLOW_TRACKING_UPGRADE_REHEARSE"


@dataclass(frozen=True)
class JobRequest:
    """One call of a command. command: its name without `Minimum`. words: its arguments. purpose: for people."""

    command: str
    words: tuple[str, ...]
    purpose: str
    variables: tuple[tuple[str, str], ...] = ()

    def all_variables(self) -> tuple[tuple[str, str], ...]:
        given = ((ARGUMENTS[self.command], shlex.join(self.words)),) if self.words else ()
        return tuple(sorted((*given, *self.variables)))


def backup(action: str, *words: str) -> JobRequest:
    return JobRequest("Backup", (action, *words), "backup" if action == "create" else f"backup {action}")


def restore(*words: str) -> JobRequest:
    return JobRequest("Restore", words, "restore dry run" if "--dry-run" in words else "restore")


def list_saved() -> JobRequest:
    return JobRequest("Restore", ("--list-saved",), "list of what restores kept aside")


def drop_saved(name: str, *, act: bool) -> JobRequest:
    """Without `act` it only says what would go."""
    words = ("--drop-saved", name)
    if act:
        return JobRequest("Restore", words, "removal of what a restore kept aside")
    return JobRequest("Restore", (*words, "--dry-run"), "look at what a restore kept aside")


def drill(snapshot: str) -> JobRequest:
    return JobRequest("Drill", ("--snapshot", snapshot), "drill")


def database_upgrade() -> JobRequest:
    return JobRequest("DatabaseUpgrade", (), "upgrade of the database schema")


def rehearsal() -> JobRequest:
    return JobRequest("DatabaseUpgrade", (), "rehearsal of the upgrade", ((REHEARSE, "true"),))
