"""Set, pause, resume, run or delete the garbage collection schedule after the install.

The desired job is the configured one plus the options. Options are not remembered: the next `install` uses the
configuration alone, so the result lists every difference from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol

from mlflow_ae5_deploy.ae5.models import Job, Project
from mlflow_ae5_deploy.common.errors import (
    Configuration,
    Conflict,
    DeadlineExceeded,
    JobFailed,
    NotFound,
    PartlyDone,
    StageFailed,
)
from mlflow_ae5_deploy.common.redaction import MASK, Secret, scrub
from mlflow_ae5_deploy.common.text import as_sentence
from mlflow_ae5_deploy.common.variable_names import DATABASE, GC_DRY_RUN
from mlflow_ae5_deploy.config.database_uri import parse_store_uri
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import execute
from mlflow_ae5_deploy.jobs import gc, one_off, runner
from mlflow_ae5_deploy.jobs.contract import INCOMPLETE
from mlflow_ae5_deploy.jobs.job_errors import error_class
from mlflow_ae5_deploy.jobs.reports import GcReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.jobs.spec import JobSpec, check_command
from mlflow_ae5_deploy.operations import schedule
from mlflow_ae5_deploy.operations.schedule import ScheduleResult
from mlflow_ae5_deploy.resources import current_deployment, scheduled_job
from mlflow_ae5_deploy.resources.job_specs import gc_job
from mlflow_ae5_deploy.resources.scheduled_job import PauseJob, ResumeJob

Action = Literal["set", "run", "dry-run", "pause", "resume", "remove"]

_STAYS = "The schedule keeps these options: they are not for this run only. `schedule-gc` resets the job."


@dataclass(frozen=True)
class GcRequest:
    action: Action = "set"
    database: SecretRef | None = None
    """Reference to the URI of another database for this job; no setting, because it may hide a password."""
    changes_job: bool = False  # an option changes the job
    keep_runs: int = 50
    wait: float = scheduled_job.RUN_DEADLINE


@dataclass(frozen=True)
class ScheduleDifference:
    """A setting whose desired value is not the configured one; without secrets."""

    setting: str
    desired: str
    configured: str
    hidden: bool = False


@dataclass(frozen=True)
class ScheduleGcResult:
    desired: JobSpec
    schedule: ScheduleResult | None  # None where only a run was requested
    differences: tuple[ScheduleDifference, ...]
    now: datetime  # the next times count from here
    run: JobResult[GcReport] | None = None
    pruned: int = 0  # run records that were deleted


class GcProgress(Protocol):
    def scheduled(self, result: ScheduleGcResult) -> None: ...
    def run_starts(self, *, dry: bool) -> None: ...
    def log(self, line: str) -> None: ...
    def run_ends(self, result: ScheduleGcResult) -> None: ...


def carry_out(context: Context, request: GcRequest, configured: JobSpec, progress: GcProgress) -> ScheduleGcResult:
    """Change the schedule, run the job, delete old run records, each if requested."""
    desired = gc_job(context.settings)
    if request.database is not None:
        desired = with_database(desired, context, _resolve(context, request.database))
    changed = _change_schedule(context, request, desired)
    different = tuple(differences(desired, configured)) if request.action in ("set", "run") else ()
    result = ScheduleGcResult(desired, changed, different, context.clock.now())
    progress.scheduled(result)
    result = replace(result, run=_run(context, request, desired, progress))
    if request.action in ("set", "run"):
        result = replace(result, pruned=one_off.delete_old_runs(context, desired.name, keep=request.keep_runs))
    progress.run_ends(result)
    return result


def require(job_result: JobResult[GcReport]) -> None:
    """Raise PartlyDone for skipped work, JobFailed for a missing report, else the error of the job's exit code."""
    where = f"run {job_result.run_id} (`logs --run {job_result.run_id} --lines 0`)"
    if job_result.exit_code == INCOMPLETE:
        raise PartlyDone(
            f"The garbage collection is incomplete: {job_result.message}.",
            where=where,
            remedy="Read why in its log. Fix the cause; the next run does the rest.",
        )
    if not job_result.reported:
        raise JobFailed(
            f"The garbage collection finished, result unknown: {job_result.message}.",
            where=where,
            remedy="Read its log. If the release's job writes no report, "
            "use the bundled release, which does (`--release bundled`).",
        )
    if not job_result.succeeded:
        failed = error_class(job_result.exit_code)(
            f"The garbage collection failed: {job_result.message}.",
            where=where,
            remedy=as_sentence(scrub(job_result.report.hint)) or "Fix the cause, then run it again.",
        )
        failed.of_job = True
        raise failed


# the desired job --------------------------------------------------------------------------------------------------


def _resolve(context: Context, reference: SecretRef) -> Secret:
    """Raises Configuration, without any part of the URI."""
    secret = context.values.secret(reference, "database URI of the garbage collection")
    try:
        parse_store_uri(secret.reveal())
    except ValueError as error:
        problem = str(error)
    else:
        return secret
    raise Configuration(f"The database URI {problem}.", where=f"--backend-store-uri ({reference})")


def with_database(desired: JobSpec, context: Context, uri: Secret) -> JobSpec:
    """The job with a hidden variable for its database, unless the secret has that one."""
    stored = DATABASE in context.cached.secret_names() and DATABASE not in dict(desired.variables)
    if stored and context.state.compare_secret(context.account, DATABASE, uri) == "same":
        return desired
    variables = tuple(pair for pair in desired.variables if pair[0] != DATABASE)
    return replace(desired, variables=variables, hidden=((DATABASE, uri),))


def differences(desired: JobSpec, configured: JobSpec) -> list[ScheduleDifference]:
    """Pure."""
    different = []
    if desired.schedule != configured.schedule:
        different.append(ScheduleDifference("gc.schedule", desired.schedule, configured.schedule))
    before = dict(configured.variables)
    for name, value in desired.variables:
        if before.get(name) != value:
            different.append(ScheduleDifference(f"gc.variables.{name}", value, before.get(name, "not set")))
    for name, _secret in desired.hidden:
        different.append(ScheduleDifference(f"gc.variables.{name}", MASK, before.get(name, "not set"), hidden=True))
    return different


# the schedule -----------------------------------------------------------------------------------------------------


def _change_schedule(context: Context, request: GcRequest, desired: JobSpec) -> ScheduleResult | None:
    match request.action:
        case "pause":
            return pause(context, desired)
        case "resume":
            return resume(context, desired)
        case "remove":
            return schedule.remove(context, desired, wait=request.wait)
        case "set":
            return converge(context, desired, wait=request.wait, named=request.changes_job)
        case "run" if request.changes_job:
            changed = converge(context, desired, wait=request.wait)
            return replace(changed, warnings=(*changed.warnings, _STAYS)) if changed.outcome == "changed" else changed
    return None


def converge(context: Context, desired: JobSpec, *, wait: float, named: bool = True) -> ScheduleResult:
    """Make this the only garbage collection job. named: see schedule.converge."""
    project = current_deployment.required_installation(context)
    check_command(context.cached.revisions(project)[0], desired.command, where="gc.command")
    if dict(desired.variables).get(GC_DRY_RUN, "false").lower() == "true":
        _check_dry_run(context, project, desired)
    return schedule.converge(context, desired, wait=wait, to_pause="`schedule-gc --pause` pauses it.", named=named)


def pause(context: Context, desired: JobSpec) -> ScheduleResult:
    """Start no more runs; an active one continues. `install` keeps it paused."""
    jobs = required_jobs(context, desired)
    context.state.end_job_change(desired.purpose)  # from here on the platform shows what was requested
    active = [job for job in jobs if not scheduled_job.is_paused(job)]
    if not active:
        return ScheduleResult("unchanged", f"job `{jobs[0].name}` is already paused", jobs[0])
    changes = tuple(PauseJob(name=job.name, id=job.id, purpose=desired.purpose, reason="requested") for job in active)
    by_id = {job.id: job for job in active}
    execute(changes, lambda one: scheduled_job.pause(by_id[one.id], context, desired.purpose), context.journal)
    return ScheduleResult("paused", f"job `{active[0].name}` is paused; nothing is collected", active[0], changes)


def resume(context: Context, desired: JobSpec) -> ScheduleResult:
    jobs = required_jobs(context, desired)
    if len(jobs) > 1:
        raise Conflict(
            f"There are {len(jobs)} garbage collection jobs; only one may run.",
            where=", ".join(job.id for job in jobs),
            remedy="Run `schedule-gc`, which deletes the others.",
        )
    (job,) = jobs
    context.state.end_job_change(desired.purpose)
    if not scheduled_job.is_paused(job):
        return ScheduleResult("unchanged", f"job `{job.name}` is not paused", job)
    change = ResumeJob(name=job.name, id=job.id, purpose=desired.purpose, reason="requested")
    execute((change,), lambda _one: scheduled_job.resume(job, context), context.journal)
    return ScheduleResult("resumed", f"job `{job.name}` is scheduled again", job, (change,))


def required_jobs(context: Context, desired: JobSpec) -> list[Job]:
    """The jobs, that of the desired name first. Raises NotFound when there is none."""
    jobs = scheduled_job.jobs_for(context.cached.jobs(), runner.required_project(context), desired)
    if not jobs:
        raise NotFound(
            "There is no garbage collection job.",
            where=f"job {desired.name}",
            remedy="Run `schedule-gc` without --run-now, --pause or --resume to create it.",
        )
    return sorted(jobs, key=lambda job: job.name != desired.name)


def _check_dry_run(context: Context, project: Project, desired: JobSpec) -> None:
    if problem := gc.cannot_dry_run(context, project, desired):
        raise StageFailed(
            f"No dry run is possible; the job would delete data: {problem}.",
            stage=scheduled_job.STAGE,
            where=f"project {project.name}",
            remedy="Leave --dry-run out, or install a release that supports it (`--release bundled`).",
        )


def _run(context: Context, request: GcRequest, desired: JobSpec, progress: GcProgress) -> JobResult[GcReport] | None:
    try:
        if request.action == "run":
            job = required_jobs(context, desired)[0]
            progress.run_starts(dry=False)
            return gc.run_now(context, job, progress.log, seconds=request.wait)
        if request.action == "dry-run":
            project = runner.required_project(context)
            check_command(context.cached.revisions(project)[0], desired.command, where="gc.command")
            _check_dry_run(context, project, desired)
            progress.run_starts(dry=True)
            return gc.dry_run(context, project, desired, progress.log, seconds=request.wait)
    except DeadlineExceeded as error:
        remedy = "Follow it with `logs --follow --run latest`, or use a longer --wait."
        raise DeadlineExceeded(error.what, where=error.where, remedy=remedy) from None
    return None
