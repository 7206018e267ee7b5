"""Test that garbage collection works with the stored token: one dry run of the job, and its report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlflow_ae5_deploy.common.clock import Deadline
from mlflow_ae5_deploy.common.errors import StageFailed, VerificationFailed
from mlflow_ae5_deploy.common.redaction import Secret, scrub
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.jobs.gc import cannot_dry_run, dry_run
from mlflow_ae5_deploy.jobs.reports import GcReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.resources.job_specs import gc_job
from mlflow_ae5_deploy.resources.token import digest

_MOUNTED = 300.0  # seconds until a job must see a changed secret; ae5-tools speaks of several minutes
_SHORTEST, _LONGEST = 2.0, 30.0  # seconds between two dry runs

Judgement = Literal["passed", "stale", "rejected", "failed"]


@dataclass(frozen=True)
class GcCheck:
    state: Literal["passed", "untested", "rejected"]
    """untested: this release cannot be tested. rejected: the stored token does not work."""
    message: str


def classify(job_result: JobResult[GcReport], token: Secret | None) -> Judgement:
    """What one dry run shows. token: the one that was just stored; None if the stored one is not available here.

    stale: it used another token, or may have; the changed secret is not mounted yet.
    """
    report = job_result.report
    used, server = report.token_sha256, report.server
    if report.dry_run is not True:
        return "failed"
    if token is not None and used not in ("", digest(token)):
        return "stale"
    if server == "ok":
        return "passed" if job_result.succeeded else "failed"
    if "token" not in server.lower():
        return "failed"
    if token is None:
        return "rejected"
    return "failed" if used else "stale"


def check_gc(context: Context, token: Secret | None) -> GcCheck:
    """Run the job as a dry run, and again while it still sees an earlier token. Its records are deleted.

    Raises VerificationFailed with the job's reason where it does not work.
    """
    project = context.cached.project(context.settings.project.name)
    if project is None:
        raise StageFailed("There is no project whose job could run.", stage=14)
    desired = gc_job(context.settings)
    if problem := cannot_dry_run(context, project, desired):
        return GcCheck("untested", f"the garbage collection job was not tested: {problem}")
    deadline, pause = Deadline(context.clock, _MOUNTED), _SHORTEST
    while True:
        job_result = dry_run(
            context, project, desired, lambda _line: None, seconds=context.settings.platform.deployment_deadline
        )
        judgement = classify(job_result, token)
        if judgement != "stale" or deadline.expired():
            return _conclude(judgement, job_result, token)
        context.progress.waiting("the garbage collection job to see the new token")
        context.clock.sleep(min(pause, deadline.remaining()))
        pause = min(pause * 2, _LONGEST)


def _conclude(judgement: Judgement, job_result: JobResult[GcReport], token: Secret | None) -> GcCheck:
    message, report = job_result.message, job_result.report
    if judgement == "passed":
        unclear = token is not None and not report.token_sha256
        return GcCheck("passed", message + (" (the release does not report which token it used)" if unclear else ""))
    server = scrub(report.server)
    if judgement == "rejected":
        return GcCheck("rejected", server)
    reason = server if server not in ("", "ok") else ""
    if judgement == "stale":
        what = f"Timed out after {_MOUNTED:.0f} s waiting for the garbage collection job to use the stored token"
        what += f": {reason}." if reason else "."
    elif not job_result.reported:
        what = f"The dry run of the garbage collection finished, result unknown: {message}."
    elif report.data and report.dry_run is not True:
        what = f"The garbage collection job did not report a dry run: {message}."
    else:
        what = f"The garbage collection job does not work: {reason or message}."
    raise VerificationFailed(
        what,
        where=f"run {job_result.run_id}",
        remedy="The token works and is stored. Fix the job (`schedule-gc --run-now --dry-run` shows its log), then run "
        "this again: it only tests the job.",
        detail=scrub(report.hint),
    )
