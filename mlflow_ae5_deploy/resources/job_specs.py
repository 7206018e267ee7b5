"""The specs of the scheduled jobs: garbage collection, backup and drill."""

from __future__ import annotations

from mlflow_ae5_deploy.common.cron import parse_cron
from mlflow_ae5_deploy.config.settings import Settings
from mlflow_ae5_deploy.jobs.runner import command_of
from mlflow_ae5_deploy.jobs.spec import JobSpec

BACKUP, DRILL = "Backup", "Drill"


def gc_job(settings: Settings) -> JobSpec:
    gc = settings.gc
    schedule, variables = parse_cron(gc.schedule).expression, tuple(sorted(gc.variables.items()))
    return JobSpec(gc.name, gc.command, schedule, variables, gc.resource_profile)


def backup_job(settings: Settings, command: str, schedule: str) -> JobSpec:
    """Of a backup or a drill, without variables: by default they create a snapshot, and test the latest one."""
    backup = settings.backup
    return JobSpec(
        backup.name if command == BACKUP else backup.drill_name,
        command_of(settings, command),
        parse_cron(schedule).expression if schedule else "",
        (),
        backup.resource_profile,
        purpose=command.lower(),
        section="backup",
        alone=False,
    )


def scheduled_jobs(settings: Settings) -> list[JobSpec]:
    """All that `install` schedules."""
    pairs = ((BACKUP, settings.backup.schedule), (DRILL, settings.backup.drill_schedule))
    configured = [backup_job(settings, command, schedule) for command, schedule in pairs if schedule]
    return [gc_job(settings), *configured]
