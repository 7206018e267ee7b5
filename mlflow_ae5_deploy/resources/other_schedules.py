"""Schedules of backup, check and drill that a verb has set, and the configuration does not have.

Their jobs are deleted with the project, as AE5 cannot change its content. So each is recorded on this machine before,
and stage 14 creates it again as it was. Other jobs of the project are lost, as the question says.
"""

from __future__ import annotations

from dataclasses import replace

from mlflow_ae5_deploy.ae5.models import Job, Project
from mlflow_ae5_deploy.common.cron import parse_cron
from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.engine.change import Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import ScheduledJobRecord
from mlflow_ae5_deploy.jobs.contract import ARGUMENTS
from mlflow_ae5_deploy.jobs.spec import JobSpec
from mlflow_ae5_deploy.resources import scheduled_job
from mlflow_ae5_deploy.resources.job_specs import TASKS, backup_job, scheduled_jobs
from mlflow_ae5_deploy.resources.scheduled_job import RecreateJob


def record_of(desired: JobSpec) -> ScheduledJobRecord:
    return ScheduledJobRecord(desired.name, desired.command, desired.schedule, dict(desired.variables), desired.purpose)


def record_deletion(context: Context, project: Project) -> None:
    """Before the project is deleted; also which jobs somebody has paused, as they stay paused."""
    others = kept(context, project)
    for desired in others:
        context.state.schedules[desired.name] = replace(record_of(desired), deleted_with=project.id)
    context.state.save()
    for desired in (*scheduled_jobs(context.settings), *others):
        state = scheduled_job.observe(context, desired, keep_paused=True)
        if state.stays_paused and state.jobs:
            context.state.record_job_change(desired.purpose, paused=True, jobs=[job.id for job in state.jobs])


def kept(context: Context, project: Project) -> list[JobSpec]:
    """What a replacement of this project creates again."""
    return [spec for job in _unconfigured(context, project) if isinstance(spec := _kept(context, job), JobSpec)]


def to_recreate(context: Context, project: Project | None) -> list[JobSpec]:
    """Of a project that was replaced, or that a forecast takes for deleted. project: the present one."""
    hidden = project is not None and context.cached.is_hidden(project)
    found = {desired.name: desired for desired in (kept(context, project) if project is not None and hidden else ())}
    for name, record in context.state.schedules.items():
        if record.deleted_with and (project is None or record.deleted_with != project.id):
            found[name] = _spec(context, record)
    configured = {job.name for job in scheduled_jobs(context.settings)}
    return [desired for name, desired in found.items() if name not in configured]


def end_recreation(context: Context, desired: JobSpec) -> None:
    """It exists again. `status` goes on to look for it."""
    record = context.state.schedules.get(desired.name)
    if record is not None and record.deleted_with:
        context.state.schedules[desired.name] = replace(record, deleted_with="")
        context.state.save()


def consequences(context: Context, project: Project) -> tuple[Consequence, ...]:
    """Which scheduled jobs a replacement of the project loses or changes."""
    texts = []
    for desired in scheduled_jobs(context.settings):
        for change in scheduled_job.recreations(scheduled_job.observe(context, desired), named=False):
            texts.append(f"{change.target} is recreated as configured: {'; '.join(change.differences)}")
    for job in _unconfigured(context, project):
        if isinstance(why := _kept(context, job), str):
            texts.append(f"job {job.name} ({job.schedule}) is lost: {why}")
    earlier = (item for job in earlier_deletions(context) for item in job.consequences)
    return (*(Consequence(Impact.JOBS, text) for text in texts), *dict.fromkeys(earlier))


def earlier_deletions(context: Context) -> list[RecreateJob]:
    """The configured jobs that let data be deleted earlier than the present ones."""
    states = [scheduled_job.observe(context, desired) for desired in scheduled_jobs(context.settings)]
    return [job for state in states for job in scheduled_job.recreations(state, named=True) if job.needs_consent]


def missing(context: Context, project: Project) -> list[ScheduledJobRecord]:
    """Of the recorded ones."""
    names = {job.name for job in context.cached.jobs() if job.project_id == project.id}
    return [record for name, record in context.state.schedules.items() if name not in names]


def _unconfigured(context: Context, project: Project) -> list[Job]:
    """Its other scheduled jobs, also where a forecast takes them for deleted."""
    configured = scheduled_jobs(context.settings)
    return [
        job
        for job in (*context.cached.jobs(), *context.cached.jobs_of_hidden())
        if job.project_id == project.id
        and job.schedule
        and not any(scheduled_job.jobs_for([job], project, desired) for desired in configured)
    ]


def _kept(context: Context, job: Job) -> JobSpec | str:
    """The job as it is to be created again, or why it is not: only what a verb can have set is repeated."""
    settings, built = context.settings, context.outputs.built
    ours = {(spec := backup_job(settings, kind, "")).name: (spec, task.request) for kind, task in TASKS.items()}
    if job.name not in ours:
        return "it was not set by this tool"
    spec, request = ours[job.name]
    if job.command.removeprefix("Minimum") != request.command or {*job.variables} - {ARGUMENTS[request.command]}:
        return "its command or variables are not those that this tool sets"
    try:
        schedule = parse_cron(job.schedule or "").expression
    except Configuration:
        return "its schedule is not one that this tool sets"
    if built is not None and spec.command not in built.commands:
        return f"the new release has no command {spec.command}"
    return replace(spec, schedule=schedule, variables=tuple(sorted(job.variables.items())))


def _spec(context: Context, record: ScheduledJobRecord) -> JobSpec:
    return JobSpec(
        record.name,
        record.command,
        record.schedule,
        tuple(sorted(record.variables.items())),
        context.settings.backup.resource_profile,
        purpose=record.purpose,
        section="backup",
        alone=False,
    )
