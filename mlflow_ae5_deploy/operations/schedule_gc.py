"""The schedule of garbage collection after the install: make it so, pause it, resume it, run it, remove it.

What is wanted is the configuration with the command line laid over it. The command line is not remembered: the next
`install` goes by the configuration alone, so every departure from it is told, with the lines that would keep it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlflow_ae5_deploy.ae5.models import Job, Project
from mlflow_ae5_deploy.common.errors import Conflict, DeadlineExceeded, JobFailed, NotFound, PartlyDone, StageFailed
from mlflow_ae5_deploy.common.redaction import MASK, Secret
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import applying, execute
from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.jobs import gc, runner
from mlflow_ae5_deploy.jobs.logs import OnLine
from mlflow_ae5_deploy.jobs.spec import JobSpec
from mlflow_ae5_deploy.operations import schedule
from mlflow_ae5_deploy.operations.schedule import ScheduleResult
from mlflow_ae5_deploy.resources import current_deployment, scheduled_job
from mlflow_ae5_deploy.resources.scheduled_job import PauseJob, ResumeJob

DATABASE = "MLFLOW_BACKEND_STORE_URI"


@dataclass(frozen=True)
class ScheduleDifference:
    """Something wanted by the command line that the configuration says otherwise. Texts are fit to be shown."""

    setting: str
    asked: str
    configured: str
    hidden: bool = False


def with_database(desired: JobSpec, context: Context, uri: Secret) -> JobSpec:
    """The job with a database of its own, out of sight; unchanged where it reads that one from the secret anyway."""
    stored = DATABASE in context.cached.secret_names() and DATABASE not in dict(desired.variables)
    if stored and context.state.compare_secret(context.account, DATABASE, uri) == "same":
        return desired
    variables = tuple(pair for pair in desired.variables if pair[0] != DATABASE)
    return JobSpec(
        desired.name, desired.command, desired.schedule, variables, desired.resource_profile, ((DATABASE, uri),)
    )


def departures(asked: JobSpec, configured: JobSpec) -> list[ScheduleDifference]:
    """Pure: how what was asked for differs from the configuration."""
    found = []
    if asked.schedule != configured.schedule:
        found.append(ScheduleDifference("gc.schedule", asked.schedule, configured.schedule))
    before = dict(configured.variables)
    for name, value in asked.variables:
        if before.get(name) != value:
            found.append(ScheduleDifference(f"gc.variables.{name}", value, before.get(name, "not set")))
    for name, _secret in asked.hidden:
        found.append(ScheduleDifference(f"gc.variables.{name}", MASK, before.get(name, "not set"), hidden=True))
    return found


def converge(context: Context, desired: JobSpec, *, wait: float) -> ScheduleResult:
    """Exactly this one schedule, whatever was there before."""
    project = current_deployment.required_installation(context)
    _check_command(context, project, desired)
    if dict(desired.variables).get(gc.DRY_RUN, "false").lower() == "true":
        _check_dry_run(context, project, desired)
    to_pause = "`schedule-gc --pause` pauses it."
    return schedule.converge(context, desired, wait=wait, to_pause=to_pause)


def pause(context: Context, desired: JobSpec) -> ScheduleResult:
    """No run starts any more; one at work goes on. `install` leaves a paused job as it is."""
    jobs = required_jobs(context, desired)
    context.state.end_job_change(desired.purpose)  # from here on the platform tells what was asked for
    active = [job for job in jobs if not scheduled_job.is_paused(job)]
    if not active:
        return ScheduleResult("unchanged", f"job `{jobs[0].name}` is paused already", jobs[0])
    changes = tuple(PauseJob(name=job.name, id=job.id, purpose=desired.purpose, reason="asked for") for job in active)
    by_id = {job.id: job for job in active}
    execute(changes, lambda one: scheduled_job.pause(by_id[one.id], context, desired.purpose), context.journal)
    return ScheduleResult("paused", f"job `{active[0].name}` is paused: nothing is collected", active[0], changes)


def resume(context: Context, desired: JobSpec) -> ScheduleResult:
    jobs = required_jobs(context, desired)
    if len(jobs) > 1:
        raise Conflict(
            f"There are {len(jobs)} garbage collection jobs; resuming them would be too many.",
            where=", ".join(job.id for job in jobs),
            remedy="Run `schedule-gc` first: it leaves one.",
        )
    (job,) = jobs
    context.state.end_job_change(desired.purpose)
    if not scheduled_job.is_paused(job):
        return ScheduleResult("unchanged", f"job `{job.name}` is not paused", job)
    change = ResumeJob(name=job.name, id=job.id, purpose=desired.purpose, reason="asked for")
    with applying(change, context.journal):
        scheduled_job.resume(job, context)
    return ScheduleResult("resumed", f"job `{job.name}` runs again", job, (change,))


def run_now(context: Context, desired: JobSpec, show: OnLine, *, seconds: float) -> JobResult:
    """Run the scheduled job at once. Raises NotFound when there is none."""
    job = required_jobs(context, desired)[0]
    return _followed(lambda: gc.run_now(context, job, show, seconds=seconds))


def rehearse(context: Context, desired: JobSpec, show: OnLine, *, seconds: float) -> JobResult:
    """The dry run as a job of its own; the schedule stays as it is."""
    project = runner.required_project(context)
    _check_command(context, project, desired)
    _check_dry_run(context, project, desired)
    return _followed(lambda: gc.rehearse(context, project, desired, show, seconds=seconds))


def require(job_result: JobResult) -> None:
    """Raises PartlyDone when the run left some of its work, JobFailed when it did not do it or left no report."""
    if job_result.outcome == gc.INCOMPLETE:
        raise PartlyDone(
            f"The garbage collection left some of its work: {job_result.message}.",
            where=f"run {job_result.run_id}",
            remedy=f"Its log says what was skipped, and why: `logs --run {job_result.run_id}`. Mend that; the next run "
            "takes it up.",
        )
    if not job_result.reported:
        raise JobFailed(
            f"The garbage collection has finished, result unknown: {job_result.message}.",
            where=f"run {job_result.run_id}",
            remedy=f"Read its log: `logs --run {job_result.run_id} --lines 0`. A release whose job writes no report "
            "cannot be judged; the bundled release writes one (`--release bundled`).",
        )
    if not job_result.passed:
        raise JobFailed(
            f"The garbage collection did not do its work: {job_result.message}.",
            where=f"run {job_result.run_id}",
            remedy=f"Its log says why: `logs --run {job_result.run_id}`. Mend the cause, then run it again.",
        )


def _followed(run: Callable[[], JobResult]) -> JobResult:
    try:
        return run()
    except DeadlineExceeded as error:
        raise DeadlineExceeded(
            error.what, where=error.where, remedy="Allow more with --wait, or look at it with `logs --run latest`."
        ) from None


def _check_command(context: Context, project: Project, desired: JobSpec) -> None:
    revision = context.cached.revisions(project)[0]
    known = [command.id for command in revision.commands]
    if desired.command not in known:
        raise StageFailed(
            f"Revision {revision.name} of the project has no command `{desired.command}`.",
            stage=scheduled_job.STAGE,
            where="gc.command",
            remedy=f"It has: {', '.join(known)}.",
        )


def _check_dry_run(context: Context, project: Project, desired: JobSpec) -> None:
    if problem := gc.cannot_rehearse(context, project, desired):
        raise StageFailed(
            f"A dry run is not possible, and its job would collect in earnest: {problem}.",
            stage=scheduled_job.STAGE,
            where=f"project {project.name}",
            remedy="Leave --dry-run out, or install a release that knows it (`--release bundled`).",
        )


def required_jobs(context: Context, desired: JobSpec) -> list[Job]:
    """The one that is as wanted, if any, first. Raises NotFound when there is none."""
    jobs = scheduled_job.jobs_for(context.cached.jobs(), runner.required_project(context), desired)
    if not jobs:
        raise NotFound(
            "There is no garbage collection job.",
            where=f"job {desired.name}",
            remedy="Run `schedule-gc` without --run-now, --pause or --resume: it makes one.",
        )
    return sorted(jobs, key=lambda job: job.name != desired.name)
