"""`backup schedule` and `drill schedule`: show, set or remove the schedule of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from mlflow_ae5_deploy.cli.context import reading, writing
from mlflow_ae5_deploy.cli.options import WriteOptions
from mlflow_ae5_deploy.common.errors import EXIT_DONE, Usage

Cron = Annotated[
    str | None,
    typer.Argument(metavar="CRON", help="Minute, hour, day, month and weekday in UTC, in quotes: '30 2 * * *'."),
]
RemoveSchedule = Annotated[bool, typer.Option("--remove", help="Delete the job and the records of its runs.")]


@dataclass(frozen=True)
class Schedulable:
    """A job that a verb schedules. kind: of job_specs.TASKS. option: of the verb."""

    verb: str
    kind: str
    option: str = ""


BACKUPS = Schedulable("backup schedule", "backup")
CHECKS = Schedulable("backup schedule", "check", "--verify")
DRILLS = Schedulable("drill schedule", "drill")


def schedule_job(job: Schedulable, options: WriteOptions, cron: str | None, *, remove: bool) -> int:
    """cron: None with `remove` deletes the job, and without it shows the current schedule."""
    from mlflow_ae5_deploy.common.cron import parse_cron
    from mlflow_ae5_deploy.operations import schedule
    from mlflow_ae5_deploy.render.backup import scheduled_data, show_schedule, show_scheduled
    from mlflow_ae5_deploy.resources.job_specs import TASKS

    if cron is not None and remove:
        raise Usage("CRON and --remove exclude each other.", remedy="Leave one out.")
    reporter, field = options.reporter, TASKS[job.kind].schedule
    setting = f"backup.{field}"
    desired = parse_cron(cron).expression if cron is not None else None
    if desired is None and not remove:
        with reading(options, job.verb) as context:
            reporter.doing(job.verb)
            found = schedule.scheduled(context, job.kind)
            configured, now = getattr(context.settings.backup, field), context.clock.now()
        show_schedule(reporter, job.verb, found, setting, configured, options.profile, now, option=job.option)
        return EXIT_DONE
    with writing(options, job.verb) as context:
        reporter.doing(job.verb)
        done = schedule.schedule(context, job.kind, desired) if desired else schedule.unschedule(context, job.kind)
        configured = getattr(context.settings.backup, field)
    show_scheduled(reporter, done, setting, desired, configured, options.profile)
    if options.json:
        reporter.data(scheduled_data(job.verb, done))
    return EXIT_DONE
