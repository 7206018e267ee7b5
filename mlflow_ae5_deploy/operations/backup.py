"""Snapshots: made, checked, listed and thinned out by jobs of the project, and the schedule of that."""

from __future__ import annotations

from mlflow_ae5_deploy.ae5.models import Project
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.engine.records import SnapshotRecord
from mlflow_ae5_deploy.jobs import runner, tasks
from mlflow_ae5_deploy.jobs.tasks import JobRequest
from mlflow_ae5_deploy.jobs.text import gone_since, is_whole
from mlflow_ae5_deploy.operations.schedule import ScheduleResult, converge, remove
from mlflow_ae5_deploy.resources import (
    backup_destination,
    backup_job,
    backup_repository,
    current_deployment,
)
from mlflow_ae5_deploy.resources.scheduled_job import RUN_DEADLINE


def carry_out(
    context: Context, task: JobRequest, *, seconds: float, project: Project | None = None, new_repository: bool = False
) -> JobResult:
    """One backup task or drill, or what is done about things kept aside, its result noted.

    The verdict may be one that `maintenance.require` refuses.

    project: whose command is run, where that is not the installed one. new_repository: the place of the backups that is
    found now is the one to know from now on.
    """
    project = project or runner.required_project(context)
    runner.require_command(context, project, task.command)
    if task.command != "Restore":  # that is about saved copies; snapshots play no part in it
        backup_destination.store(context)
    job_result = runner.attempt(context, project, task, seconds=seconds)
    _note(context, task, job_result)
    if task.command == "Backup":
        backup_repository.note(context, job_result.report, accept=new_repository)
    return job_result


def create(context: Context, *words: str, seconds: float, project: Project | None = None) -> JobResult:
    """A new snapshot; raises what `maintenance.require` raises."""
    task = tasks.backup("create", *words)
    job_result = carry_out(context, task, seconds=seconds, project=project)
    runner.require(task, job_result)
    return job_result


def check(context: Context, snapshot: str, *words: str, seconds: float, project: Project | None = None) -> JobResult:
    """Read a snapshot back; raises SnapshotDamaged when it is not what its manifest says."""
    task = tasks.backup("verify", "--snapshot", snapshot, *words)
    job_result = carry_out(context, task, seconds=seconds, project=project)
    runner.require(task, job_result)
    return job_result


def _note(context: Context, task: JobRequest, job_result: JobResult) -> None:
    report, snapshot = job_result.report, job_result.report.get("snapshot")
    if task.command == "Restore" and runner.succeeded(job_result) and report.get("deleted"):
        context.journal.effect("remove for good", f"what was kept aside as {report['deleted'].get('name')}")
    if task.command != "Backup" or not isinstance(snapshot, str):
        return
    if task.words[0] == "create" and (runner.succeeded(job_result) or job_result.exit_code == runner.INCOMPLETE):
        context.state.snapshot = SnapshotRecord(
            snapshot, context.clock.now(), complete=is_whole(report), gone=gone_since(report)
        )
        context.state.save()
        context.journal.effect("back up", "snapshot", snapshot)


# schedules --------------------------------------------------------------------------------------------------------


def schedule(context: Context, command: str, cron: str, *, wait: float = RUN_DEADLINE) -> ScheduleResult:
    """Exactly one job of this name, with this cron."""
    runner.require_command(context, current_deployment.required_installation(context), command)
    backup_destination.store(context)
    return converge(context, backup_job.desired_job(context.settings, command, cron), wait=wait)


def unschedule(context: Context, command: str, *, wait: float = RUN_DEADLINE) -> ScheduleResult:
    return remove(context, backup_job.desired_job(context.settings, command, ""), wait=wait)
