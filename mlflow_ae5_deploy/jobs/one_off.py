"""Run a command of the project once, as a job that is deleted afterwards; stop and delete runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from mlflow_ae5_deploy.ae5.models import Job, Project, Run
from mlflow_ae5_deploy.ae5.resource_api import VISIBLE
from mlflow_ae5_deploy.common.errors import Conflict, DeadlineExceeded, DeployError
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import applying
from mlflow_ae5_deploy.jobs import other_machines, saved_logs
from mlflow_ae5_deploy.jobs.logs import OnLine, follow_run, read_log
from mlflow_ae5_deploy.jobs.spec import JobSpec

_STOPPED = 120.0  # seconds until a run that was told to stop must have ended

OnEnd = Callable[[Run, str], None]


class CreateOneOff(Change):
    """A job that runs once and is deleted again."""

    verb, resource = "create", "job"


def run_once(
    context: Context,
    project: Project,
    desired: JobSpec,
    show: OnLine,
    *,
    seconds: float,
    resume: bool = False,
    accept_ended: bool = False,
    leave_running: bool = False,
    on_end: OnEnd | None = None,
    on_stop: OnEnd | None = None,
) -> tuple[Run, str]:
    """Create the job, follow its run, delete it; the ended run and its whole log.

    The job's name must be for this purpose alone: any job that has it is deleted, before and after.

    resume: follow a run of just this job that an interrupted call left, instead of a new one.
    accept_ended: also one that has ended meanwhile.
    leave_running: let a run that takes longer than `seconds` continue, instead of stopping it.
    on_end: called with run and log before the job is deleted.
    on_stop: called with them after a failure, or Ctrl-C, has stopped the run.

    Raises what follow_run raises, and Locked where another machine runs it.
    """
    other_machines.refuse_meanwhile(context, project, desired.name)
    job = _interrupted(context, project, desired, ended=accept_ended) if resume else None
    if job is None:
        job = _start(context, project, desired)
    ended = _follow(context, project, desired, job, show, seconds=seconds, leave_running=leave_running, on_stop=on_stop)
    saved_logs.save(context, *ended)
    if on_end is not None:
        on_end(*ended)
    clear(context, project, desired.name, job, [ended[0]])
    return ended


def _start(context: Context, project: Project, desired: JobSpec) -> Job:
    """Create the job; any other of its name is deleted."""
    name = desired.name

    def recreate(_job: Job) -> Job:
        clear(context, project, name)
        return _create(context, project, desired)

    clear(context, project, name)
    with applying(CreateOneOff(name=name, reason=f"to run {desired.command} once"), context.journal):
        job = create_or_adopt(context, project, desired, recreate)
        context.journal.effect("create", "job", name, id=job.id)
    return job


def _follow(
    context: Context,
    project: Project,
    desired: JobSpec,
    job: Job,
    show: OnLine,
    *,
    seconds: float,
    leave_running: bool,
    on_stop: OnEnd | None,
) -> tuple[Run, str]:
    """The ended run of the job and its whole log. A failure deletes both, unless the run may continue."""
    runs = list[Run]()
    try:
        runs = context.poll(
            lambda: context.platform.runs(job.id) or None, f"the run of {desired.name} to be listed", VISIBLE
        )
        return follow_run(context, runs[0].id, show, seconds=seconds)
    except BaseException as error:
        if leave_running and isinstance(error, DeadlineExceeded) and runs:
            raise
        with contextlib.suppress(DeployError):  # report the first error; the next call cleans up
            stopped = _stopped(context, runs or context.platform.runs(job.id)) if on_stop is not None else []
            for run, log in stopped:
                context.outputs.stopped_job = desired.purpose
                if on_stop is not None:
                    on_stop(run, log)  # before the report is deleted: another Ctrl-C may end this here
            clear(context, project, desired.name, job, runs)
            context.outputs.stopped_job = desired.purpose
        raise


def _stopped(context: Context, runs: Sequence[Run]) -> list[tuple[Run, str]]:
    """Stop the runs, and read their logs: a job that is stopped still writes its report."""
    stop(context, runs)
    found = []
    for run in runs:
        with contextlib.suppress(DeployError):
            if (now := context.platform.run(run.id)) is not None:
                found.append((now, read_log(context, now)))
    return found


def _interrupted(context: Context, project: Project, desired: JobSpec, *, ended: bool) -> Job | None:
    """The job of an interrupted call that does this, or with `ended` has done it."""
    for job in context.platform.jobs():
        same = job.name == desired.name and job.project_id == project.id and job.command == desired.command
        if same and job.variables == desired.revealed():
            runs = context.platform.runs(job.id)
            if any(run.is_active or (ended and run.state == "completed") for run in runs):
                return job
    return None


# creating ---------------------------------------------------------------------------------------------------------


def create_or_adopt(context: Context, project: Project, desired: JobSpec, adopt: Callable[[Job], Job | None]) -> Job:
    """Create the job; one without a schedule starts at once.

    An interrupted call may have created it a moment ago, and the list not show it yet. So where the name is taken,
    wait until that job is listed and take what `adopt` makes of it. None: raise the Conflict.
    """
    try:
        return _create(context, project, desired)
    except Conflict as error:
        clash = error

    def probe() -> Job | None:
        jobs = context.platform.jobs()
        return next((job for job in jobs if job.name == desired.name and job.project_id == project.id), None)

    listed = context.shows_up(probe, f"job {desired.name} to be listed")
    job = adopt(listed) if listed is not None else None
    if job is None:
        raise clash
    return job


def _create(context: Context, project: Project, desired: JobSpec) -> Job:
    return context.platform.create_job(
        project=project,
        revision=context.cached.revisions(project)[0],
        revision_name="latest",
        name=desired.name,
        command=desired.command,
        schedule=desired.schedule or None,
        variables=desired.revealed(),
        resource_profile=desired.resource_profile,
        run=not desired.schedule,
    )


# stopping and deleting --------------------------------------------------------------------------------------------


def clear(
    context: Context, project: Project, name: str, created: Job | None = None, started: Sequence[Run] = ()
) -> None:
    """Delete this one-off job and its runs. `created`, `started`: perhaps not listed yet."""
    jobs = {job.id: job for job in context.platform.jobs() if job.name == name and job.project_id == project.id}
    if created is not None:
        jobs[created.id] = created
    for job in jobs.values():
        delete_job(context, job, started if job is created else ())
    for run in {run.id: run for run in (*started, *own_runs(context, name))}.values():
        stop(context, [run])
        context.platform.delete_run(run.id)
    context.cached.forget("jobs")


def delete_job(context: Context, job: Job, started: Sequence[Run] = ()) -> None:
    """Stop its runs and delete it: the platform deletes no job with an active run. started: perhaps not listed yet."""
    stop(context, [*context.platform.runs(job.id), *started])
    context.platform.delete_job(job.id)
    context.journal.effect("delete", "job", job.name, id=job.id)


def delete_runs(context: Context, runs: Sequence[Run]) -> None:
    """Stop runs and delete their records."""
    stop(context, runs)
    for run in runs:
        context.platform.delete_run(run.id)
    if runs:
        context.journal.effect("delete", counted(len(runs), "run records"))


def own_runs(context: Context, name: str) -> list[Run]:
    return [run for run in context.platform.runs() if run.name == name and run.owner == context.account]


def stop(context: Context, runs: Iterable[Run]) -> None:
    """Stop the active ones and wait until they have ended."""

    def ended(run_id: str) -> bool | None:
        now = context.platform.run(run_id)
        return True if now is None or not now.is_active else None

    for run in {r.id: r for r in runs if r.is_active}.values():
        if ended(run.id):  # since it was listed
            continue
        context.platform.stop_run(run.id)
        context.poll(partial(ended, run.id), f"the run of {run.name} to stop", _STOPPED)
        context.journal.effect("stop", f"run of {run.name}", id=run.id)


def surplus(runs: Iterable[Run], keep: int) -> list[Run]:
    """Pure: the ended runs except the newest `keep`. One without a date counts as new."""
    ended = [run for run in runs if not run.is_active and run.created is not None]
    return sorted(ended, key=lambda run: run.age_key, reverse=True)[keep:]


def delete_old_runs(context: Context, name: str, *, keep: int) -> int:
    """Delete all but the newest `keep` ended runs of the job `name`; their number."""
    old = surplus(own_runs(context, name), keep)
    for number, run in enumerate(old, 1):
        context.platform.delete_run(run.id)
        if number % 10 == 0:
            context.progress.waiting(f"{counted(len(old) - number, 'old run records')} to be deleted")
    if old:
        context.journal.effect("delete", f"{counted(len(old), 'old run records')} of job {name}")
    return len(old)
