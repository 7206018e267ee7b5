"""One-off job runs whose starting command exited before they finished."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Generic

from mlflow_ae5_deploy.ae5.models import Project, Run
from mlflow_ae5_deploy.common.errors import PlatformError
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.jobs import runner
from mlflow_ae5_deploy.jobs.contract import ARGUMENTS
from mlflow_ae5_deploy.jobs.reports import R, R_co, Report
from mlflow_ae5_deploy.jobs.result import JobResult, read_result
from mlflow_ae5_deploy.jobs.tasks import JobRequest, words_of


@dataclass(frozen=True)
class InterruptedRun(Generic[R_co]):
    """The newest run of such a job."""

    task: JobRequest[R_co]
    run: Run
    job_result: JobResult[R_co] | None  # None while it runs, and where its log cannot be read


def interrupted_run(context: Context, project: Project | None, task: JobRequest[R]) -> InterruptedRun[R] | None:
    """The newest one-off run for this purpose. Sends requests only if there is a job."""
    desired = runner.one_off_spec(context, task)
    for job in context.cached.jobs():
        if project is not None and (job.name, job.project_id) == (desired.name, project.id):
            runs = context.platform.runs(job.id)
            if runs:
                run = max(runs, key=lambda run: run.age_key)
                words = words_of(job.variables.get(ARGUMENTS[task.command], "")) or task.words
                return InterruptedRun(replace(task, words=words), run, result_of(context, task.report, run))
    return None


def result_of(context: Context, form: type[R], run: Run) -> JobResult[R] | None:
    """None while it runs, and where its log cannot be read."""
    if run.is_active:
        return None
    try:
        return read_result(form, run, context.platform.run_log(run.id))
    except PlatformError:
        return None


def ended(run: Run, job_result: JobResult[Report]) -> datetime | None:
    """As exactly as platform and job tell."""
    return run.created and run.created + timedelta(seconds=job_result.report.seconds or 0)
