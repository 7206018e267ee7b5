"""What a job is asked: one call of a command of the project, with its options and variables."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Generic

from mlflow_ae5_deploy.jobs.contract import ARGUMENTS, REHEARSE
from mlflow_ae5_deploy.jobs.reports import BackupReport, DrillReport, R_co, RestoreReport, UpgradeReport


@dataclass(frozen=True)
class JobRequest(Generic[R_co]):
    command: str  # the command's name without `Minimum`
    report: type[R_co]
    words: tuple[str, ...]  # action and options, as on the command's command line
    purpose: str  # for people; part of the job's name
    variables: tuple[tuple[str, str], ...] = ()

    def all_variables(self) -> tuple[tuple[str, str], ...]:
        arguments = ((ARGUMENTS[self.command], shlex.join(self.words)),) if self.words else ()
        return tuple(sorted((*arguments, *self.variables)))


def words_of(arguments: str) -> tuple[str, ...]:
    """The words of a job's variable. It may have been edited on the platform, with quotes that the job refuses."""
    try:
        return tuple(shlex.split(arguments))
    except ValueError:
        return tuple(arguments.split())


def backup(action: str, *words: str) -> JobRequest[BackupReport]:
    purpose = "backup" if action == "create" else f"backup {action}"
    return JobRequest("Backup", BackupReport, (action, *words), purpose)


def restore(*words: str) -> JobRequest[RestoreReport]:
    return JobRequest("Restore", RestoreReport, words, "restore dry run" if "--dry-run" in words else "restore")


def list_saved() -> JobRequest[RestoreReport]:
    return JobRequest("Restore", RestoreReport, ("--list-saved",), "list of saved copies")


def drop_saved(name: str, *, act: bool) -> JobRequest[RestoreReport]:
    """Delete a saved copy; without `act` only describe it."""
    words = ("--drop-saved", name)
    if act:
        return JobRequest("Restore", RestoreReport, words, "deletion of a saved copy")
    return JobRequest("Restore", RestoreReport, (*words, "--dry-run"), "preview of a saved copy")


def drill(snapshot: str) -> JobRequest[DrillReport]:
    return JobRequest("Drill", DrillReport, ("--snapshot", snapshot), "drill")


def database_upgrade() -> JobRequest[UpgradeReport]:
    return JobRequest("DatabaseUpgrade", UpgradeReport, (), "upgrade of the database schema")


def rehearsal() -> JobRequest[UpgradeReport]:
    return JobRequest("DatabaseUpgrade", UpgradeReport, (), "rehearsal of the upgrade", ((REHEARSE, "true"),))
