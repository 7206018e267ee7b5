"""A scheduled job: what it must be like, which jobs do its work, and how to get from these to the one.

A job cannot be changed through ae5-tools (its patch is broken), and a leftover run of a deleted job blocks the
name, so a wrong job is deleted, the name freed, and the job made again. Stage 14 and the scheduling verbs share this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from mlflow_ae5_deploy.ae5.models import Job, Project, Run
from mlflow_ae5_deploy.common.clock import Deadline, poll_until
from mlflow_ae5_deploy.common.cron import Schedule, parse_cron
from mlflow_ae5_deploy.common.errors import Conflict, DeadlineExceeded, PlatformError, StageFailed
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.engine.change import Change, Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import PendingJobChange
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange
from mlflow_ae5_deploy.jobs.one_off import shows_up
from mlflow_ae5_deploy.jobs.spec import JobSpec, check_profile
from mlflow_ae5_deploy.resources.deployment import revision_for

STAGE = 14
RUN_DEADLINE = 900.0  # seconds a collection at work is waited for before its job is taken down
_VISIBLE = 60.0  # seconds until a list must show what was just done

RunSource = Callable[[], Sequence[Run]]


@dataclass(frozen=True, kw_only=True)
class JobChange(Change):
    """purpose: see JobSpec. held: see ScheduledJobState."""

    resource = "job"
    purpose: str
    held: bool = False


class CreateJob(JobChange):
    verb = "create"


class DeleteJob(JobChange):
    verb = "delete"


class PauseJob(JobChange):
    verb = "pause"


class ResumeJob(JobChange):
    verb = "resume"


@dataclass(frozen=True, kw_only=True)
class DeleteRuns(Change):
    """The records of runs, and their logs. count is no part of its identity: runs end and begin all the time."""

    verb, resource = "delete", "run records"
    count: int
    consequences: tuple[Consequence, ...] = (Consequence(Impact.DATA, "their logs go with them"),)

    @property
    def target(self) -> str:
        return counted(self.count, self.resource)


@dataclass(frozen=True)
class ScheduledJobState:
    """held: somebody has paused the job, so one that is recreated is paused too. now: when it was observed.
    preview: the change is only shown, so it tells when the job would run."""

    project: Project | None
    desired: JobSpec
    jobs: tuple[Job, ...]
    now: datetime
    held: bool = False
    preview: bool = False

    @property
    def was_paused(self) -> bool:
        return any(is_paused(job) for job in self.jobs)

    @property
    def words(self) -> str:
        """The desired schedule."""
        return in_words(parse_cron(self.desired.schedule), self.now)


def observe(context: Context, desired: JobSpec, *, keep_paused: bool = False) -> ScheduledJobState:
    """keep_paused: what somebody has paused is to stay so."""
    project = context.cached.project(context.settings.project.name)
    jobs = tuple(jobs_for(context.cached.jobs(), project, desired))
    going = project is not None and context.cached.is_going(project)
    before = jobs_for(context.cached.going_jobs(), project, desired) if going else jobs
    held = keep_paused and is_held(before, context.state.job_changes.get(desired.purpose))
    return ScheduledJobState(project, desired, jobs, context.clock.now(), held, context.options.dry)


def is_held(jobs: Sequence[Job], change: PendingJobChange | None) -> bool:
    """Pure: whether somebody has paused the job. change: what a run that was cut off has noted of it."""
    if change is not None and change.paused:
        return True
    told = [job for job in jobs if change is None or job.id not in change.jobs]
    return bool(told) and all(is_paused(job) for job in told)


def diff(state: ScheduledJobState) -> Diff:
    """Pure: which jobs go, and whether one is created or paused."""
    purpose, held, name = state.desired.purpose, state.held, state.desired.name
    right = sorted((job for job in state.jobs if not differences(job, state.desired)), key=is_paused)
    keep = right[0] if right else None
    changes: list[Change] = [
        DeleteJob(
            name=job.name,
            id=job.id,
            purpose=purpose,
            held=held,
            reason="; ".join(differences(job, state.desired)) or "one is enough",
        )
        for job in state.jobs
        if job is not keep
    ]
    if keep is None:
        why = "there is none" if not state.jobs else "a job cannot be changed in place"
        if state.preview:
            why += f"; it would run {state.words}"
        if held:
            why += "; it is paused again at once, as the former was"
        changes.append(CreateJob(name=name, purpose=purpose, held=held, reason=why))
    elif held and not is_paused(keep):
        why = "a run that was cut off has made it anew, and the former was paused"
        changes.append(PauseJob(name=keep.name, id=keep.id, purpose=purpose, reason=why))
    warnings: tuple[str, ...] = ()
    if held or (keep is not None and is_paused(keep)):
        paused = keep.name if keep else name
        warnings = (f"The job `{paused}` is paused: the {purpose} rests until somebody resumes it.",)
    if changes:
        return Changes(tuple(changes), warnings)
    return NoChange(f"job `{name}` exists: {state.words}", warnings)


def check(state: ScheduledJobState, context: Context) -> None:
    """Raise Configuration or NotFound where a job could not be created, before a working one is deleted."""
    if context.access.missing or not any(isinstance(change, CreateJob) for change in diff(state).changes):
        return
    check_profile(context, state.desired.resource_profile, f"{state.desired.section}.resource_profile")
    if state.project is not None and not context.cached.is_going(state.project):
        revision_for(state.project, context.cached.revisions(state.project), "latest", state.desired.command)


def apply(change: Change, state: ScheduledJobState, context: Context, *, wait: float = RUN_DEADLINE) -> None:
    """wait: seconds that a run at work is waited for."""
    purpose = state.desired.purpose
    job = next((job for job in state.jobs if job.id == change.id), None)
    match change:
        case DeleteJob() if job is not None:
            context.state.record_job_change(purpose, paused=change.held, jobs=[job.id])
            delete(job, context, wait=wait, purpose=purpose)
        case PauseJob() if job is not None:
            pause(job, context, purpose)
        case CreateJob() if state.project is not None:
            made = create(state.project, state.desired, context, wait=wait)
            if change.held:
                pause(made, context, purpose)  # AE5 cannot create a paused one; a run can begin only in between
        case _:
            raise StageFailed("There is no project to schedule a job of.", stage=STAGE)


def pause(job: Job, context: Context, purpose: str) -> None:
    context.platform.pause_job(job.id)
    context.journal.effect("pause", "job", job.name, id=job.id)
    context.state.end_job_change(purpose)  # the platform tells it from here on; somebody may resume it there
    context.cached.forget("jobs")


def resume(job: Job, context: Context) -> None:
    context.platform.unpause_job(job.id)
    context.journal.effect("resume", "job", job.name, id=job.id)
    context.cached.forget("jobs")


def confirm(context: Context, desired: JobSpec) -> str:
    """Wait until the platform lists exactly the desired job, and say so. StageFailed when it does not."""
    seen: list[ScheduledJobState] = []

    def probe() -> bool | None:
        context.cached.forget("jobs")
        seen[:] = [observe(context, desired)]
        jobs = seen[0].jobs
        return True if len(jobs) == 1 and not differences(jobs[0], desired) else None

    try:
        poll_until(
            probe,
            waiting_for=f"the platform to list exactly one {desired.purpose} job",
            deadline=Deadline(context.clock, _VISIBLE),
            on_wait=context.progress.waiting,
        )
    except DeadlineExceeded:
        jobs = seen[0].jobs
        wrong = [job.name for job in jobs if differences(job, desired)]
        raise StageFailed(
            f"The platform lists {len(jobs)} {desired.purpose} jobs, "
            f"{len(wrong)} of them not as wanted; there must be one.",
            stage=STAGE,
        ) from None
    context.state.end_job_change(desired.purpose)
    return f"job `{desired.name}`: {seen[0].words}" + ("; PAUSED" if is_paused(seen[0].jobs[0]) else "")


def create(project: Project, desired: JobSpec, context: Context, *, wait: float = RUN_DEADLINE) -> Job:
    """Make the scheduled job. Leftover runs that block its name are removed, those at work waited for."""
    _free_name(desired, context, wait)
    job: Job | None = None
    clash: Conflict | None = None
    try:
        job = context.platform.create_job(
            project=project,
            revision=context.cached.revisions(project)[0],
            revision_name="latest",
            name=desired.name,
            command=desired.command,
            schedule=desired.schedule,
            variables=desired.revealed(),
            resource_profile=desired.resource_profile,
        )
    except Conflict as error:
        clash = error
    if clash is not None:
        # A run that was cut off may have made it a moment ago, and the list not have shown it.
        job = shows_up(desired.name, project, context)
        if job is None or differences(job, desired):
            raise clash
    if job is None:
        raise AssertionError
    context.journal.effect("create", "job", job.name, id=job.id)
    context.cached.forget("jobs")
    return job


def delete(job: Job, context: Context, *, wait: float = RUN_DEADLINE, purpose: str = "garbage collection") -> None:
    """Pause it, wait until no run of it is at work (the platform refuses to delete it before), delete it.

    When the wait is in vain, the job is let go on as before.
    """
    if job.schedule is not None:  # only those can be paused
        context.platform.pause_job(job.id)
    try:
        await_idle(lambda: context.platform.runs(job.id), f"job {job.name}", context, wait, purpose)
    except DeadlineExceeded:
        if job.schedule is not None and not is_paused(job):
            with contextlib.suppress(PlatformError):
                context.platform.unpause_job(job.id)
        raise
    context.platform.delete_job(job.id)
    context.journal.effect("delete", "job", job.name, id=job.id)
    context.cached.forget("jobs")


def jobs_for(jobs: Sequence[Job], project: Project | None, desired: JobSpec) -> list[Job]:
    """The jobs that do what the wanted one does: scheduled with its command, or of its name."""
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
    found = [f"its {what} is {has}, wanted is {requirement}" for what, has, requirement in rows if has != requirement]
    names = sorted(
        name
        for name in {*job.variables, *desired.revealed()}
        if job.variables.get(name) != desired.revealed().get(name)
    )
    if names:  # values are not shown: a variable may hold a password
        found.append(f"its variables differ ({', '.join(names)})")
    return found


def is_paused(job: Job) -> bool:
    return "pause" in job.state.lower()


def in_words(schedule: Schedule, now: datetime) -> str:
    times = ", ".join(f"{when:%Y-%m-%d %H:%M}" for when in schedule.next_times(now, 3))
    return f"{schedule.expression}, {schedule.words[:1].lower()}{schedule.words[1:]}; next {times} UTC"


def await_idle(runs: RunSource, what: str, context: Context, wait: float, purpose: str = "garbage collection") -> None:
    """Wait until none of these runs is at work. DeadlineExceeded after `wait` seconds."""

    def idle() -> bool | None:
        return None if any(run.is_active for run in runs()) else True

    poll_until(
        idle,
        waiting_for=f"the running {purpose} of {what}",
        deadline=Deadline(context.clock, wait),
        on_wait=context.progress.waiting,
        remedy="Stop the run on the platform if it hangs, then run this again.",
    )


def _free_name(desired: JobSpec, context: Context, wait: float) -> None:
    name = desired.name

    def leftover() -> list[Run]:
        return [run for run in context.platform.runs() if run.name == name and run.owner == context.account]

    found = leftover()
    if not found:
        return
    if any(run.is_active for run in found):
        await_idle(leftover, f"a deleted job {name}", context, wait, desired.purpose)
    removed = context.platform.free_job_name(name)
    if removed:
        context.journal.effect("delete", f"{removed} runs that block the name {name}")
