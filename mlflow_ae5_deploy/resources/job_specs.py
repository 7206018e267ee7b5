"""The specs of the scheduled jobs: garbage collection, backup and drill."""

from __future__ import annotations

import shlex

from mlflow_ae5_deploy.common.cron import parse_cron
from mlflow_ae5_deploy.config.settings import BackupSettings, Settings
from mlflow_ae5_deploy.jobs.contract import ARGUMENTS
from mlflow_ae5_deploy.jobs.runner import command_of
from mlflow_ae5_deploy.jobs.spec import JobSpec

BACKUP, DRILL = "Backup", "Drill"


def gc_job(settings: Settings) -> JobSpec:
    gc = settings.gc
    schedule, variables = parse_cron(gc.schedule).expression, tuple(sorted(gc.variables.items()))
    return JobSpec(gc.name, gc.command, schedule, variables, gc.resource_profile)


def backup_job(settings: Settings, command: str, schedule: str) -> JobSpec:
    """Of a backup or a drill. By default they create a snapshot, and test the latest one."""
    backup = settings.backup
    keep = retention(backup) if command == BACKUP else ()
    return JobSpec(
        backup.name if command == BACKUP else backup.drill_name,
        command_of(settings, command),
        parse_cron(schedule).expression if schedule else "",
        ((ARGUMENTS[command], shlex.join(("create", *keep))),) if keep else (),
        backup.resource_profile,
        purpose=command.lower(),
        section="backup",
        alone=False,
    )


def retention(backup: BackupSettings) -> tuple[str, ...]:
    """The configured retention, as options of the command Backup; empty where everything is kept."""
    keep = (("last", backup.keep_last), ("daily", backup.keep_daily), ("weekly", backup.keep_weekly))
    return tuple(word for rule, number in keep if number for word in (f"--keep-{rule}", str(number)))


def scheduled_jobs(settings: Settings) -> list[JobSpec]:
    """All that `install` schedules."""
    pairs = ((BACKUP, settings.backup.schedule), (DRILL, settings.backup.drill_schedule))
    configured = [backup_job(settings, command, schedule) for command, schedule in pairs if schedule]
    return [gc_job(settings), *configured]
