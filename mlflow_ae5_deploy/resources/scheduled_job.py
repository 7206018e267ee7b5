"""A scheduled job as a resource: garbage collection, backup, check and drill, for stage 14 and the scheduling verbs.

A job cannot be changed through ae5-tools (its patch is broken), and a leftover run of a deleted job blocks the
name. So a wrong job is deleted, the name freed, and the job created again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mlflow_ae5_deploy.ae5.models import Job, Project, Run
from mlflow_ae5_deploy.ae5.resource_api import VISIBLE
from mlflow_ae5_deploy.common.cron import Schedule, parse_cron
from mlflow_ae5_deploy.common.durations import moment
from mlflow_ae5_deploy.common.errors import DeadlineExceeded, DeployError, StageFailed
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.engine.change import Change, Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import PendingJobChange
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange
from mlflow_ae5_deploy.jobs.one_off import create_or_adopt, own_runs
from mlflow_ae5_deploy.jobs.spec import JobSpec, check_profile
from mlflow_ae5_deploy.resources import earlier_deletion
from mlflow_ae5_deploy.resources.deployment import revision_for

STAGE = 14
_RECORDS = Consequence(
    Impact.DATA, "the records and logs of the job's runs are deleted: AE5 cannot change a job in place"
)
_RESUMES = Consequence(Impact.JOBS, "the job is paused, the new one is not")
RUN_DEADLINE = 900.0  # seconds to wait for an active run before its job is deleted


@dataclass(frozen=True, kw_only=True)
class JobChange(Change):
    """purpose: see JobSpec. stays_paused: see ScheduledJobState."""

    resource = "job"
    purpose: str
    stays_paused: bool = False

    @property
    def target(self) -> str:
        return f"the {self.purpose} job" if self.purpose else super().target

    @property
    def details(self) -> tuple[str, ...]:
        return (f"job: {self.name}",) if self.purpose else ()


@dataclass(frozen=True, kw_only=True)
class CreateJob(JobChange):
    """schedule: for people."""

    verb = "create"
    of_project = True
    schedule: str = ""

    @property
    def details(self) -> tuple[str, ...]:
        return (*super().details, f"schedule: {self.schedule}")


class DeleteJob(JobChange):
    verb = "delete"


class RecreateJob(JobChange):
    """Delete and create, as a person confirms it."""

    verb = "recreate"


class PauseJob(JobChange):
    verb = "pause"


class ResumeJob(JobChange):
    verb = "resume"


@dataclass(frozen=True, kw_only=True)
class DeleteRuns(Change):
    """The records of runs, and their logs."""

    verb, resource = "delete", "job run records"
    count: int  # no part of its identity: runs start and end all the time
    consequences: tuple[Consequence, ...] = (Consequence(Impact.DATA, "the logs of all job runs are deleted"),)

    @property
    def target(self) -> str:
        return counted(self.count, self.resource)


@dataclass(frozen=True)
class ScheduledJobState:
    project: Project | None
    desired: JobSpec
    jobs: tuple[Job, ...]  # all that do the work of the desired one
    now: datetime  # when it was observed
    stays_paused: bool = False  # somebody has paused the job, so a recreated one is paused too
    inherited: Mapping[str, str | None] = field(default_factory=dict)
    """Values of variables that a job has where its own record has none; None for one that is not known here."""

    @property
    def was_paused(self) -> bool:
        return any(is_paused(job) for job in self.jobs)

    @property
    def schedule(self) -> str:
        """The desired schedule, for people."""
        return in_words(parse_cron(self.desired.schedule), self.now)


def observe(context: Context, desired: JobSpec, *, keep_paused: bool = False) -> ScheduledJobState:
    """keep_paused: a job that somebody has paused stays paused."""
    project = context.cached.project(context.settings.project.name)
    jobs = tuple(jobs_for(context.cached.jobs(), project, desired))
    hidden = project is not None and context.cached.is_hidden(project)
    before = jobs_for(context.cached.jobs_of_hidden(), project, desired) if hidden else jobs
    stays_paused = keep_paused and paused_by_somebody(before, context.state.job_changes.get(desired.purpose))
    secrets = context.settings.server_secrets if desired.section == "gc" else {}
    inherited = {name: value if isinstance(value, str) else None for name, value in secrets.items()}
    return ScheduledJobState(project, desired, jobs, context.clock.now(), stays_paused, inherited)


def paused_by_somebody(jobs: Sequence[Job], change: PendingJobChange | None) -> bool:
    """Pure: and not by an interrupted run, which pauses a job before it deletes it."""
    if change is not None and change.paused:
        return True
    others = [job for job in jobs if change is None or job.id not in change.jobs]
    return bool(others) and all(is_paused(job) for job in others)


def diff(state: ScheduledJobState) -> Diff:
    """Pure: which jobs to delete, and whether to create or pause one."""
    desired, stays_paused = state.desired, state.stays_paused
    purpose, name = desired.purpose, desired.name
    compared = [(job, tuple(differences(job, desired))) for job in state.jobs]
    right = sorted((job for job, different in compared if not different), key=is_paused)
    keep = right[0] if right else None
    changes: list[Change] = [
        DeleteJob(
            name=job.name,
            id=job.id,
            purpose=purpose,
            stays_paused=stays_paused,
            reason="" if different else "a duplicate",
            differences=different,
            consequences=_earlier_deletions(job, state) if keep is None else (),
        )
        for job, different in compared
        if job is not keep
    ]
    if keep is None:
        reason = "AE5 cannot change a job in place" if state.jobs else "it does not exist"
        if stays_paused:
            reason += "; stays paused"
        schedule = state.schedule
        changes.append(
            CreateJob(name=name, purpose=purpose, stays_paused=stays_paused, reason=reason, schedule=schedule)
        )
    elif stays_paused and not is_paused(keep):
        reason = "the previous one was paused"
        changes.append(PauseJob(name=keep.name, id=keep.id, purpose=purpose, reason=reason))
    warnings: tuple[str, ...] = ()
    if stays_paused or (keep is not None and is_paused(keep)):
        warnings = (paused_words(purpose),)
    if changes:
        return Changes(tuple(changes), warnings)
    return NoChange(f"{purpose} {state.schedule}", warnings)


def paused_words(purpose: str) -> str:
    return f"The {purpose} job is paused: no {purpose} runs until somebody resumes it."


def _earlier_deletions(job: Job, state: ScheduledJobState) -> tuple[Consequence, ...]:
    """What the desired job deletes and this one keeps."""
    before, after = job.variables, state.desired.revealed()
    found = []
    for name in sorted(n for n in {*before, *after} if before.get(n) != after.get(n)):
        default = state.inherited.get(name, earlier_deletion.DEFAULTS.get(name))
        found.append(earlier_deletion.consequence_of(name, before.get(name, default), after.get(name, default)))
    return tuple(item for item in found if item is not None)


def recreations(state: ScheduledJobState, *, named: bool) -> list[RecreateJob]:
    """The jobs that are not as desired, each with what recreating it means. named: somebody has asked for just that."""
    return [
        RecreateJob(
            name=job.name,
            id=job.id,
            purpose=state.desired.purpose,
            reason="",
            differences=tuple(different),
            consequences=(
                *(() if named else (_RECORDS, *((_RESUMES,) if is_paused(job) else ()))),
                *_earlier_deletions(job, state),
            ),
        )
        for job in state.jobs
        if (different := differences(job, state.desired))
    ]


def check(state: ScheduledJobState, context: Context) -> None:
    """Raise an error if the job cannot be created, before a working one is deleted."""
    if context.access.account_missing or not any(isinstance(change, CreateJob) for change in diff(state).changes):
        return
    check_profile(context, state.desired.resource_profile, f"{state.desired.section}.resource_profile")
    if state.project is not None and not context.cached.is_hidden(state.project):
        revision_for(state.project, context.cached.revisions(state.project), "latest", state.desired.command)


def apply(change: Change, state: ScheduledJobState, context: Context, *, wait: float = RUN_DEADLINE) -> None:
    """wait: seconds to wait for an active run."""
    purpose = state.desired.purpose
    job = next((job for job in state.jobs if job.id == change.id), None)
    match change:
        case DeleteJob() if job is not None:
            context.state.record_job_change(purpose, paused=change.stays_paused, jobs=[job.id])
            delete(job, context, wait=wait, purpose=purpose)
        case PauseJob() if job is not None:
            pause(job, context, purpose)
        case CreateJob():
            if state.project is None:
                raise StageFailed("There is no project to schedule a job of.", stage=STAGE)
            created = create(state.project, state.desired, context, wait=wait)
            if change.stays_paused:
                pause(created, context, purpose)  # AE5 cannot create a paused one; a run can start only in between
        case _:
            raise AssertionError(change)


def pause(job: Job, context: Context, purpose: str) -> None:
    context.platform.pause_job(job.id)
    context.journal.effect("pause", "job", job.name, id=job.id)
    context.state.end_job_change(purpose)  # from here on the platform shows it, and somebody may resume it there
    context.cached.forget("jobs")


def resume(job: Job, context: Context) -> None:
    context.platform.unpause_job(job.id)
    context.journal.effect("resume", "job", job.name, id=job.id)
    context.cached.forget("jobs")


def confirm(context: Context, desired: JobSpec) -> str:
    """Wait until the platform lists exactly the desired job; or raise StageFailed."""
    seen: list[ScheduledJobState] = []

    def probe() -> bool | None:
        context.cached.forget("jobs")
        seen[:] = [observe(context, desired)]
        jobs = seen[0].jobs
        return True if len(jobs) == 1 and not differences(jobs[0], desired) else None

    try:
        context.poll(probe, f"the platform to list exactly one {desired.purpose} job", VISIBLE)
    except DeadlineExceeded:
        jobs = seen[0].jobs
        wrong = [job.name for job in jobs if differences(job, desired)]
        raise StageFailed(
            f"The platform lists {counted(len(jobs), f'{desired.purpose} jobs')} instead of one, {len(wrong)} of them "
            "not as configured.",
            stage=STAGE,
        ) from None
    context.state.end_job_change(desired.purpose)
    return f"{desired.purpose} {seen[0].schedule}" + ("; paused" if is_paused(seen[0].jobs[0]) else "")


def create(project: Project, desired: JobSpec, context: Context, *, wait: float = RUN_DEADLINE) -> Job:
    """Create the scheduled job, or adopt the one of an interrupted run.

    Leftover runs that block its name are deleted, after those still active have ended.
    """
    _free_name(desired, context, wait)
    job = create_or_adopt(context, project, desired, lambda job: None if differences(job, desired) else job)
    context.journal.effect("create", "job", job.name, id=job.id)
    context.cached.forget("jobs")
    return job


def delete(job: Job, context: Context, *, wait: float, purpose: str) -> None:
    """Pause it, wait until no run of it is active, delete it.

    The platform deletes no job with an active run. After a timeout the job is resumed, unless it was paused before.
    """
    if job.schedule is not None:  # only those can be paused
        context.platform.pause_job(job.id)
    try:
        await_idle(lambda: context.platform.runs(job.id), f"job {job.name}", context, wait, purpose)
    except DeadlineExceeded:
        if job.schedule is not None and not is_paused(job):
            with contextlib.suppress(DeployError):
                context.platform.unpause_job(job.id)
        raise
    context.platform.delete_job(job.id)
    context.journal.effect("delete", "job", job.name, id=job.id)
    context.cached.forget("jobs")


def jobs_for(jobs: Sequence[Job], project: Project | None, desired: JobSpec) -> list[Job]:
    """The jobs that do the same work: scheduled with its command, or of its name."""
    if project is None:
        return []
    return [
        job
        for job in jobs
        if job.project_id == project.id
        and (job.name == desired.name or (desired.alone and job.schedule and job.command == desired.command))
    ]


def differences(job: Job, desired: JobSpec) -> list[str]:
    rows = (
        ("name", job.name, desired.name),
        ("command", job.command, desired.command),
        ("schedule", " ".join((job.schedule or "run once").split()), desired.schedule),
        ("resource profile", job.resource_profile, desired.resource_profile),
    )
    different = [f"{what}: {has} → {requirement}" for what, has, requirement in rows if has != requirement]
    variables = desired.revealed()
    names = sorted(n for n in {*job.variables, *variables} if job.variables.get(n) != variables.get(n))
    shown = {name: earlier_deletion.values_of(name, job.variables.get(name), variables.get(name)) for name in names}
    different += [line for lines in shown.values() for line in lines]
    if hidden := [name for name, lines in shown.items() if not lines]:  # a variable may hold a password
        different.append(f"variables differ: {', '.join(hidden)}")
    return different


def is_paused(job: Job) -> bool:
    return "pause" in job.state.lower()


def in_words(schedule: Schedule, now: datetime) -> str:
    (following,) = schedule.next_times(now, 1)
    return f"{schedule.phrase} ({schedule.expression}), next {moment(following, now)}"


def await_idle(runs: Callable[[], Sequence[Run]], what: str, context: Context, wait: float, purpose: str) -> None:
    """Wait until none of these runs is active, at most `wait` seconds."""
    context.poll(
        lambda: None if any(run.is_active for run in runs()) else True,
        f"the running {purpose} of {what}",
        wait,
        "Stop the run on the platform if it hangs, then run this again.",
    )


def _free_name(desired: JobSpec, context: Context, wait: float) -> None:
    name = desired.name
    runs = own_runs(context, name)
    if not runs:
        return
    if any(run.is_active for run in runs):
        await_idle(lambda: own_runs(context, name), f"a deleted job {name}", context, wait, desired.purpose)
    removed = context.platform.free_job_name(name)
    if removed:
        context.journal.effect("delete", f"{counted(removed, 'run records')} of earlier jobs named {name}")
