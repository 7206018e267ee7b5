"""Single runs that are on the platform still: the call that began them was cut off, or did not wait for their end."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from mlflow_ae5_deploy.ae5.models import Job, Project, Run
from mlflow_ae5_deploy.common.errors import PlatformError
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.job_result import Verdict
from mlflow_ae5_deploy.jobs import runner, tasks
from mlflow_ae5_deploy.jobs.tasks import Task


@dataclass(frozen=True)
class Left:
    """The newest run of such a job. verdict: None while it is at work, and where its log cannot be read."""

    task: Task
    run: Run
    verdict: Verdict | None


def left(context: Context, project: Project | None, task: Task) -> Left | None:
    """What is left of runs for this purpose, whatever their words were. Costs requests only where there is a job."""
    wanted = runner.wanted_once(context, task)
    for job in context.look.jobs():
        if project is not None and (job.name, job.project_id) == (wanted.name, project.id):
            runs = context.platform.runs(job.id)
            if runs:
                run = max(runs, key=lambda item: (item.created.timestamp() if item.created else 0.0, item.id))
                return Left(_asked(task, job), run, verdict_of(context, run))
    return None


def verdict_of(context: Context, run: Run) -> Verdict | None:
    """None while it is at work, and where its log cannot be read."""
    if run.is_active:
        return None
    try:
        return runner.judge(run, context.platform.run_log(run.id))
    except PlatformError:
        return None


def ended(run: Run, verdict: Verdict) -> datetime | None:
    """As near as the platform and the job tell it."""
    seconds = verdict.facts.get("seconds")
    return run.created and run.created + timedelta(seconds=seconds if isinstance(seconds, int | float) else 0)


def _asked(task: Task, job: Job) -> Task:
    words = job.variables.get(tasks.ARGUMENTS[task.command], "")
    return replace(task, words=tuple(shlex.split(words))) if words else task
