"""Schedule a job: exactly one, or none."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_ae5_deploy.ae5.models import Job
from mlflow_ae5_deploy.common.text import deleted
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import execute, require_consent
from mlflow_ae5_deploy.engine.stage import NoChange
from mlflow_ae5_deploy.jobs import one_off, runner
from mlflow_ae5_deploy.jobs.spec import JobSpec
from mlflow_ae5_deploy.resources import backup_destination, current_deployment, other_schedules, scheduled_job
from mlflow_ae5_deploy.resources.job_specs import TASKS, backup_job
from mlflow_ae5_deploy.resources.scheduled_job import RUN_DEADLINE, CreateJob, DeleteJob


@dataclass(frozen=True)
class ScheduleResult:
    outcome: str  # changed | unchanged | paused | resumed | removed
    message: str
    job: Job | None = None  # the present one; None after its removal
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()


def scheduled(context: Context, kind: str) -> list[Job]:
    """The present jobs of this kind: one, unless somebody changed that on the platform."""
    project = current_deployment.required_installation(context)
    return scheduled_job.jobs_for(context.cached.jobs(), project, backup_job(context.settings, kind, ""))


def schedule(context: Context, kind: str, cron: str) -> ScheduleResult:
    """Exactly one job of this kind, with this cron."""
    runner.require_command(context, current_deployment.required_installation(context), TASKS[kind].request.command)
    backup_destination.store(context)
    desired = backup_job(context.settings, kind, cron)
    context.state.schedules[desired.name] = other_schedules.record_of(desired)
    context.state.save()
    return converge(context, desired, wait=RUN_DEADLINE)


def unschedule(context: Context, kind: str) -> ScheduleResult:
    desired = backup_job(context.settings, kind, "")
    removed = remove(context, desired, wait=RUN_DEADLINE)
    context.state.schedules.pop(desired.name, None)
    context.state.save()
    return removed


def converge(
    context: Context, desired: JobSpec, *, wait: float, to_pause: str = "", named: bool = True
) -> ScheduleResult:
    """Exactly this one job, whatever was there before. to_pause: a sentence on how to pause it.

    named: somebody has asked for just this job, so only what lets data be deleted earlier needs consent.
    """
    state = scheduled_job.observe(context, desired)
    scheduled_job.check(state, context)
    require_consent(context, scheduled_job.recreations(state, named=named), where=f"job {desired.name}")
    diff = scheduled_job.diff(state)
    execute(diff.changes, lambda one: scheduled_job.apply(one, state, context, wait=wait), context.journal)
    if isinstance(diff, NoChange):
        context.state.end_job_change(desired.purpose)  # of an interrupted run
        return ScheduleResult("unchanged", diff.reason, _current(context, desired), warnings=diff.warnings)
    message, warnings = scheduled_job.confirm(context, desired), diff.warnings
    if state.was_paused and any(isinstance(change, CreateJob) for change in diff.changes):
        warnings = (*warnings, f"The previous job was paused; the new one is not. {to_pause}".rstrip())
    return ScheduleResult("changed", message, _current(context, desired), diff.changes, warnings)


def remove(context: Context, desired: JobSpec, *, wait: float) -> ScheduleResult:
    """Delete every job that does this work, after its active run has ended, and the records of its runs."""
    jobs = scheduled_job.jobs_for(context.cached.jobs(), runner.required_project(context), desired)
    by_id = {job.id: job for job in jobs}
    changes = tuple(DeleteJob(name=job.name, id=job.id, purpose=desired.purpose, reason="requested") for job in jobs)
    execute(
        changes,
        lambda one: scheduled_job.delete(by_id[one.id], context, wait=wait, purpose=desired.purpose),
        context.journal,
    )
    context.state.end_job_change(desired.purpose)
    pruned = sum(
        one_off.delete_old_runs(context, name, keep=0) for name in sorted({desired.name, *(job.name for job in jobs)})
    )
    if not jobs and not pruned:
        return ScheduleResult("unchanged", f"there is no scheduled {desired.purpose}")
    return ScheduleResult("removed", deleted(len(jobs), pruned), None, changes)


def _current(context: Context, desired: JobSpec) -> Job | None:
    right = [job for job in scheduled_job.observe(context, desired).jobs if not scheduled_job.differences(job, desired)]
    return min(right, key=scheduled_job.is_paused, default=None)
