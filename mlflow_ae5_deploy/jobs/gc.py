"""Run the garbage collection job, or a dry run of it."""

from __future__ import annotations

from dataclasses import replace

from mlflow_ae5_deploy.ae5.models import Job, Project, Run
from mlflow_ae5_deploy.common.errors import ReleaseRefused
from mlflow_ae5_deploy.common.files import write_private
from mlflow_ae5_deploy.common.variable_names import GC_DRY_RUN
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.jobs import text
from mlflow_ae5_deploy.jobs.logs import OnLine, follow_run, job_log
from mlflow_ae5_deploy.jobs.one_off import run_once
from mlflow_ae5_deploy.jobs.other_machines import ONCE
from mlflow_ae5_deploy.jobs.reports import GcReport
from mlflow_ae5_deploy.jobs.result import JobResult, read_result
from mlflow_ae5_deploy.jobs.spec import JobSpec
from mlflow_ae5_deploy.release.archive import read_project_archive


def run_now(context: Context, job: Job, show: OnLine, *, seconds: float) -> JobResult[GcReport]:
    """Start a run of this job and follow it to its end."""
    run = context.platform.run_job(job.id)
    context.journal.effect("run", "job", job.name, id=run.id)
    return _result(context, *follow_run(context, run.id, job_log(context, show), seconds=seconds))


def cannot_dry_run(context: Context, project: Project, desired: JobSpec) -> str | None:
    """Why this release must run no dry run: without the variable it would collect."""
    if desired.command not in {command.id for command in context.cached.revisions(project)[0].commands}:
        return f"the release has no command `{desired.command}`"
    archive = context.folders.scratch / "stored-project.tar.gz"
    write_private(archive, context.cached.archive(project))
    try:
        variables = read_project_archive(archive, called=f"project {project.name}").variables
    except ReleaseRefused as error:
        return f"the stored release cannot be read ({error.what.rstrip('.')})"
    return None if GC_DRY_RUN in variables else f"the release does not know {GC_DRY_RUN}"


def dry_run(
    context: Context, project: Project, desired: JobSpec, show: OnLine, *, seconds: float
) -> JobResult[GcReport]:
    """Run one dry run, as a temporary job. Ask `cannot_dry_run` first."""
    variables = (*desired.variables, (GC_DRY_RUN, "true"))
    once = replace(desired, name=dry_run_name(desired.name), schedule="", variables=variables)
    return _result(context, *run_once(context, project, once, job_log(context, show), seconds=seconds))


def dry_run_name(name: str) -> str:
    """name: of the scheduled job."""
    return f"{ONCE}{name} dry run"


def _result(context: Context, run: Run, log: str) -> JobResult[GcReport]:
    result = read_result(GcReport, run, log)
    context.warn(text.warnings(result.report))
    return result
