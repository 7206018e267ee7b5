"""Running a command of the project once, as a job that is taken away again, and what runs leave behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

from mlflow_ae5_deploy.ae5.models import Job, Project, Run
from mlflow_ae5_deploy.common.clock import Deadline, poll_until
from mlflow_ae5_deploy.common.errors import Conflict, DeadlineExceeded, PlatformError
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import applying
from mlflow_ae5_deploy.jobs import other_machines, saved_logs
from mlflow_ae5_deploy.jobs.logs import OnLine, follow_run
from mlflow_ae5_deploy.jobs.spec import JobSpec

_SHOWN = 200  # characters of a log's last line
_VISIBLE = 60.0  # seconds until a run that was just started must be listed
_STOPPED = 120.0  # seconds until a run that was told to stop must have ended


class CreateOneOff(Change):
    """A job that runs once and is deleted again."""

    verb, resource = "create", "job"


def unreported(log: str) -> str:
    """What was seen of a run that is completed and has left no report."""
    last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "")
    end = f"it ends with `{scrub(last[:_SHOWN])}`" if last else "it is empty"
    return f"the run is completed, and its log has no report; {end}"


def run_once(
    context: Context,
    project: Project,
    desired: JobSpec,
    show: OnLine,
    *,
    seconds: float,
    take_up: bool = False,
    take_ended: bool = False,
    leave_late: bool = False,
    on_end: Callable[[Run, str], None] | None = None,
) -> tuple[Run, str]:
    """Run a command of the project once, as a job that is taken away again: the ended run and its whole log.

    The job's name must be for this purpose alone: whatever has it is removed, before and after. wanted.schedule does
    not matter. take_up: a run of just this job that is at work already, left by a call that was cut off, is followed
    instead of a new one; with take_ended also one that has ended while nobody watched. leave_late: one that takes
    longer than `seconds` is left at work instead of being stopped. on_end is given the result before the job's record,
    which also tells it, is taken away. Raises what follow_run raises, and Locked where another machine runs it.
    """
    name = desired.name
    other_machines.refuse_meanwhile(context, project, name)
    job = _left(context, project, desired, ended=take_ended) if take_up else None
    if job is None:
        clear(context, project, name)  # what one that was cut off has left
        with applying(CreateOneOff(name=name, reason=f"to run {desired.command} once"), context.journal):
            job = _create_once(context, project, desired)
            context.journal.effect("create", "job", name, id=job.id)
    known, runs = job, list[Run]()
    try:
        runs = poll_until(
            lambda: context.platform.runs(known.id) or None,
            waiting_for=f"the run of {name} to be listed",
            deadline=Deadline(context.clock, _VISIBLE),
            on_wait=context.progress.waiting,
        )
        ended = follow_run(context, runs[0].id, show, seconds=seconds)
    except BaseException as trouble:
        if leave_late and isinstance(trouble, DeadlineExceeded) and runs:
            raise
        with contextlib.suppress(PlatformError):  # the first trouble is the one to tell; the next one cleans up
            clear(context, project, name, job, runs)
        raise
    saved_logs.keep(context, *ended)
    if on_end is not None:
        on_end(*ended)
    clear(context, project, name, job, [ended[0]])
    return ended


def _left(context: Context, project: Project, desired: JobSpec, *, ended: bool) -> Job | None:
    """The job of a call that was cut off which is doing exactly this, or, with `ended`, has done it."""
    for job in context.platform.jobs():
        same = job.name == desired.name and job.project_id == project.id and job.command == desired.command
        if same and job.variables == desired.revealed():
            runs = context.platform.runs(job.id)
            if any(run.is_active or (ended and run.state == "completed") for run in runs):
                return job
    return None


def _create_once(context: Context, project: Project, desired: JobSpec) -> Job:
    def create() -> Job:
        return context.platform.create_job(
            project=project,
            revision=context.cached.revisions(project)[0],
            revision_name="latest",
            name=desired.name,
            command=desired.command,
            schedule=None,
            variables=desired.revealed(),
            resource_profile=desired.resource_profile,
            run=True,
        )

    try:
        return create()
    except Conflict as error:
        clash = error
    if shows_up(desired.name, project, context) is None:
        raise clash
    clear(context, project, desired.name)  # made by a run that was cut off a moment ago, and not listed until now
    return create()


def clear(
    context: Context, project: Project, name: str, known: Job | None = None, known_runs: Sequence[Run] = ()
) -> None:
    """Take this run-once job away, with its runs, those at work too. What is known need not be listed yet."""
    jobs = {job.id: job for job in context.platform.jobs() if job.name == name and job.project_id == project.id}
    if known is not None:
        jobs[known.id] = known
    for job in jobs.values():
        stop(context, [*context.platform.runs(job.id), *(known_runs if job is known else ())])
        context.platform.delete_job(job.id)
        context.journal.effect("delete", "job", name, id=job.id)
    listed = [run for run in context.platform.runs() if run.name == name and run.owner == context.account]
    for run in {run.id: run for run in (*known_runs, *listed)}.values():
        stop(context, [run])
        context.platform.delete_run(run.id)
    context.cached.forget("jobs")


def stop(context: Context, runs: Iterable[Run]) -> None:
    """Stop those at work, and see them end."""

    def over(run_id: str) -> bool | None:
        now = context.platform.run(run_id)
        return True if now is None or not now.is_active else None

    for run in [r for r in runs if r.is_active]:
        context.platform.stop_run(run.id)
        poll_until(
            lambda run=run: over(run.id),  # type: ignore[misc]
            waiting_for=f"the run of {run.name} to stop",
            deadline=Deadline(context.clock, _STOPPED),
            on_wait=context.progress.waiting,
        )
        context.journal.effect("stop", f"run of {run.name}", id=run.id)


def surplus(runs: Iterable[Run], keep: int) -> list[Run]:
    """Pure: the ended runs behind the newest `keep`. One whose age is not known counts as new."""
    ended = [run for run in runs if not run.is_active and run.created is not None]
    ended.sort(key=lambda run: (run.created, run.id), reverse=True)
    return ended[keep:]


def prune(context: Context, name: str, *, keep: int) -> int:
    """Delete the records of all but the newest `keep` ended runs of the job called `name`. Returns how many."""
    ours = [run for run in context.platform.runs() if run.name == name and run.owner == context.account]
    old = surplus(ours, keep)
    for number, run in enumerate(old, 1):
        context.platform.delete_run(run.id)
        if number % 10 == 0:
            context.progress.waiting(f"{counted(len(old) - number, 'old run records')} to be deleted", 0.0)
    if old:
        context.journal.effect("delete", f"{counted(len(old), 'old run records')} of job {name}")
    return len(old)


def shows_up(name: str, project: Project, context: Context) -> Job | None:
    """Wait for a job that must be there, because its name is taken, and is not listed. None when it stays out."""

    def probe() -> Job | None:
        return next((j for j in context.platform.jobs() if j.name == name and j.project_id == project.id), None)

    try:
        return poll_until(
            probe,
            waiting_for=f"job {name} to be listed",
            deadline=Deadline(context.clock, context.settings.platform.lost_answer_deadline),
            on_wait=context.progress.waiting,
        )
    except DeadlineExceeded:
        return None
