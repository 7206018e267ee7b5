"""The scheduled backup and the scheduled drill, as the configuration or a command line wants them."""

from __future__ import annotations

from mlflow_ae5_deploy.common.cron import parse_cron
from mlflow_ae5_deploy.config.settings import Settings
from mlflow_ae5_deploy.jobs.runner import command_of
from mlflow_ae5_deploy.jobs.spec import JobSpec
from mlflow_ae5_deploy.resources import gc_job

BACKUP, DRILL = "Backup", "Drill"


def desired_job(settings: Settings, command: str, schedule: str) -> JobSpec:
    """Without variables: the project's defaults are to make a snapshot, and to try the newest one."""
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
    """All that `install` makes sure of: the garbage collection, and what is configured of the others."""
    return [gc_job.desired_job(settings), *configured_jobs(settings)]


def configured_jobs(settings: Settings) -> list[JobSpec]:
    pairs = ((BACKUP, settings.backup.schedule), (DRILL, settings.backup.drill_schedule))
    return [desired_job(settings, command, schedule) for command, schedule in pairs if schedule]
