"""Single runs that are on the platform still: the call that began them was cut off, or did not wait for their end."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from mlflow_ae5_deploy.ae5.models import Job, Project, Run
from mlflow_ae5_deploy.common.errors import PlatformError
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.jobs import runner, tasks
from mlflow_ae5_deploy.jobs.tasks import JobRequest


@dataclass(frozen=True)
class InterruptedRun:
    """The newest run of such a job. job_result: None while it is at work, and where its log cannot be read."""

    task: JobRequest
    run: Run
    job_result: JobResult | None


def left(context: Context, project: Project | None, task: JobRequest) -> InterruptedRun | None:
    """What is left of runs for this purpose, whatever their words were. Costs requests only where there is a job."""
    desired = runner.one_off_spec(context, task)
    for job in context.cached.jobs():
        if project is not None and (job.name, job.project_id) == (desired.name, project.id):
            runs = context.platform.runs(job.id)
            if runs:
                run = max(runs, key=lambda item: (item.created.timestamp() if item.created else 0.0, item.id))
                return InterruptedRun(_asked(task, job), run, job_result_of(context, run))
    return None


def job_result_of(context: Context, run: Run) -> JobResult | None:
    """None while it is at work, and where its log cannot be read."""
    if run.is_active:
        return None
    try:
        return runner.judge(run, context.platform.run_log(run.id))
    except PlatformError:
        return None


def ended(run: Run, job_result: JobResult) -> datetime | None:
    """As near as the platform and the job tell it."""
    seconds = job_result.report.get("seconds")
    return run.created and run.created + timedelta(seconds=seconds if isinstance(seconds, int | float) else 0)


def _asked(task: JobRequest, job: Job) -> JobRequest:
    words = job.variables.get(tasks.ARGUMENTS[task.command], "")
    return replace(task, words=tuple(shlex.split(words))) if words else task
