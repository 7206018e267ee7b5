"""The specs of the scheduled jobs: garbage collection, backup, check of a snapshot, and drill."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mlflow_ae5_deploy.common.cron import parse_cron
from mlflow_ae5_deploy.config.settings import BackupSettings, Settings
from mlflow_ae5_deploy.jobs import tasks
from mlflow_ae5_deploy.jobs.latest_outcomes import BACKUP, CHECK, DRILL
from mlflow_ae5_deploy.jobs.runner import command_of
from mlflow_ae5_deploy.jobs.spec import JobSpec
from mlflow_ae5_deploy.jobs.tasks import JobRequest


@dataclass(frozen=True)
class ScheduledTask:
    """What a scheduled job does. schedule, name: fields of the settings `backup`. verb: that schedules it."""

    request: JobRequest[Any]
    schedule: str
    name: str
    verb: str


# kind of outcome -> what a job of this kind does
TASKS = {
    BACKUP: ScheduledTask(tasks.backup("create"), "schedule", "name", "backup schedule"),
    CHECK: ScheduledTask(tasks.backup("verify"), "verify_schedule", "verify_name", "backup schedule --verify"),
    DRILL: ScheduledTask(tasks.drill("latest"), "drill_schedule", "drill_name", "drill schedule"),
}
_DEFAULTS = tuple(TASKS[kind].request for kind in (BACKUP, DRILL))  # what a command without arguments does


def gc_job(settings: Settings) -> JobSpec:
    gc = settings.gc
    schedule, variables = parse_cron(gc.schedule).expression, tuple(sorted(gc.variables.items()))
    return JobSpec(gc.name, gc.command, schedule, variables, gc.resource_profile)


def backup_job(settings: Settings, kind: str, schedule: str) -> JobSpec:
    """kind: of TASKS."""
    backup, task = settings.backup, TASKS[kind]
    request = task.request
    if kind == BACKUP:
        request = replace(request, words=(*request.words, *retention(backup)))
    return JobSpec(
        getattr(backup, task.name),
        command_of(settings, request.command),
        parse_cron(schedule).expression if schedule else "",
        () if request in _DEFAULTS else request.all_variables(),
        backup.resource_profile,
        purpose=request.purpose,
        section="backup",
        alone=False,
    )


def retention(backup: BackupSettings) -> tuple[str, ...]:
    """The configured retention, as options of the command Backup; empty where everything is kept."""
    keep = (("last", backup.keep_last), ("daily", backup.keep_daily), ("weekly", backup.keep_weekly))
    return tuple(word for rule, number in keep if number for word in (f"--keep-{rule}", str(number)))


def scheduled_jobs(settings: Settings) -> list[JobSpec]:
    """All that `install` schedules."""
    schedules = {kind: getattr(settings.backup, task.schedule) for kind, task in TASKS.items()}
    configured = [backup_job(settings, kind, schedule) for kind, schedule in schedules.items() if schedule]
    return [gc_job(settings), *configured]
