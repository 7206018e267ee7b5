"""Scheduled jobs that the configuration does not have, set by `backup schedule` or on the platform.

They are deleted with their project, as AE5 cannot change its content. So each is recorded on this machine before, and
stage 14 creates it again as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlflow_ae5_deploy.ae5.models import Job, Project
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.engine.change import Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import ScheduledJobRecord
from mlflow_ae5_deploy.jobs.spec import JobSpec
from mlflow_ae5_deploy.resources import scheduled_job
from mlflow_ae5_deploy.resources.job_specs import TASKS, backup_job, scheduled_jobs


def record_of(desired: JobSpec) -> ScheduledJobRecord:
    return ScheduledJobRecord(
        desired.name,
        desired.command,
        desired.schedule,
        dict(desired.variables),
        desired.resource_profile,
        desired.purpose,
    )


def record_deletion(context: Context, project: Project) -> None:
    """Before the project is deleted; also which jobs somebody has paused, as they stay paused."""
    context.state.schedules |= {
        job.name: replace(_record(context, job), deleted=True)
        for job in _unconfigured(context, context.cached.jobs(), project)
        if not _credentials(job)
    }
    context.state.save()
    for desired in (*scheduled_jobs(context.settings), *map(_spec, context.state.schedules.values())):
        state = scheduled_job.observe(context, desired, keep_paused=True)
        if state.stays_paused and state.jobs:
            context.state.record_job_change(desired.purpose, paused=True, jobs=[job.id for job in state.jobs])


def to_recreate(context: Context, project: Project | None, *, replaced: bool) -> list[JobSpec]:
    """replaced: also those of the project, which is going to be."""
    found = {name: record for name, record in context.state.schedules.items() if record.deleted}
    if replaced and project is not None:
        jobs = _unconfigured(context, [*context.cached.jobs(), *context.cached.jobs_of_hidden()], project)
        found |= {job.name: _record(context, job) for job in jobs if not _credentials(job)}
    configured = {job.name for job in scheduled_jobs(context.settings)}
    return [_spec(record) for name, record in found.items() if name not in configured]


def without_command(context: Context, project: Project | None, jobs: Sequence[JobSpec]) -> list[JobSpec]:
    """Jobs whose command the release does not have. They stay recorded."""
    if not jobs:
        return []
    built = context.outputs.built
    if project is not None and not context.cached.is_hidden(project):
        commands = [command.id for command in context.cached.revisions(project)[0].commands]
    elif built is not None:
        commands = list(built.commands)
    else:
        return []
    return [job for job in jobs if job.command not in commands]


def end_recreation(context: Context, jobs: Sequence[JobSpec]) -> None:
    """These exist again. `status` goes on to look for those that a verb has scheduled."""
    of_verbs = {task.request.purpose for task in TASKS.values()}
    for job in jobs:
        record = context.state.schedules.pop(job.name, None)
        if record is not None and record.purpose in of_verbs:
            context.state.schedules[job.name] = replace(record, deleted=False)
    context.state.save()


def consequences(context: Context, project: Project) -> tuple[Consequence, ...]:
    """Which scheduled jobs a replacement of the project loses or changes."""
    texts = []
    for desired in scheduled_jobs(context.settings):
        for change in scheduled_job.recreations(scheduled_job.observe(context, desired), named=False):
            texts.append(f"{change.target} is recreated as configured: {'; '.join(change.differences)}")
    built = context.outputs.built
    for job in _unconfigured(context, context.cached.jobs(), project):
        if names := _credentials(job):
            why = f"its variables {', '.join(names)} look like credentials, which are not saved"
        elif built is not None and job.command not in built.commands:
            why = f"the new release has no command {job.command}"
        else:
            continue
        texts.append(f"job {job.name} ({job.schedule}) is lost: {why}")
    return tuple(Consequence(Impact.JOBS, text) for text in texts)


def missing(context: Context, project: Project) -> list[ScheduledJobRecord]:
    """Of the recorded ones."""
    names = {job.name for job in context.cached.jobs() if job.project_id == project.id}
    return [record for name, record in context.state.schedules.items() if name not in names]


def _unconfigured(context: Context, jobs: Sequence[Job], project: Project) -> list[Job]:
    configured = scheduled_jobs(context.settings)
    return [
        job
        for job in jobs
        if job.project_id == project.id
        and job.schedule
        and not any(scheduled_job.jobs_for([job], project, desired) for desired in configured)
    ]


def _record(context: Context, job: Job) -> ScheduledJobRecord:
    by_verb = {(spec := backup_job(context.settings, kind, "")).name: spec.purpose for kind in TASKS}
    purpose = by_verb.get(job.name, job.name)
    return ScheduledJobRecord(job.name, job.command, job.schedule or "", job.variables, job.resource_profile, purpose)


def _spec(record: ScheduledJobRecord) -> JobSpec:
    return JobSpec(
        record.name,
        record.command,
        record.schedule,
        tuple(sorted(record.variables.items())),
        record.resource_profile,
        purpose=record.purpose,
        section="backup",
        alone=False,
    )


def _credentials(job: Job) -> list[str]:
    """Names of the variables that look like some."""
    return sorted(name for name, value in job.variables.items() if scrub(f"{name}={value}") != f"{name}={value}")
