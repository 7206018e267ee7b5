"""Proof that the garbage collection works with the stored token: one dry run of the job, and what it says of itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from mlflow_ae5_deploy.common.clock import Deadline
from mlflow_ae5_deploy.common.errors import StageFailed, VerificationFailed
from mlflow_ae5_deploy.common.redaction import Secret, scrub
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.jobs.gc import cannot_rehearse, rehearse
from mlflow_ae5_deploy.resources.gc_job import desired_job

_MOUNTED = 300.0  # seconds until a job must see a changed secret; ae5-tools speaks of several minutes
_SHORTEST, _LONGEST = 2.0, 30.0  # seconds between two dry runs
_DIGITS = 12

Judgement = Literal["proved", "stale", "refused", "failed"]


@dataclass(frozen=True)
class GcCheck:
    """state: proved; unproved (this release cannot be asked); refused (the stored token does not work)."""

    state: Literal["proved", "unproved", "refused"]
    message: str


def digest(token: Secret) -> str:
    """What the job reports of the token it used: enough to tell it from another, useless for anything else."""
    return hashlib.sha256(token.reveal().encode()).hexdigest()[:_DIGITS]


def classify(job_result: JobResult, token: Secret | None) -> Judgement:
    """What one dry run proves. token: the one that was just stored; None if the stored one is not at hand.

    stale: it worked with another token than that, or may have; the changed secret is not mounted yet.
    """
    report = job_result.report
    if report.get("dry_run") is not True:
        return "failed"
    used = report.get("token_sha256")
    if token is not None and used is not None and used != digest(token):
        return "stale"
    server = str(report.get("server") or "")
    if server == "ok":
        return "proved" if job_result.passed else "failed"
    if "token" not in server.lower():
        return "failed"
    if token is None:
        return "refused"
    return "failed" if used is not None else "stale"


def prove_gc(context: Context, token: Secret | None) -> GcCheck:
    """Run the job once as a dry run; again while it still sees an earlier token. Its records are taken away.

    Raises VerificationFailed when the job does not work, with the reason it gives.
    """
    project = context.cached.project(context.settings.project.name)
    if project is None:
        raise StageFailed("There is no project whose job could be run.", stage=14)
    desired = desired_job(context.settings)
    if problem := cannot_rehearse(context, project, desired):
        return GcCheck("unproved", f"{problem}, so it was not proved that the gc job works with this token")
    deadline, pause = Deadline(context.clock, _MOUNTED), _SHORTEST
    while True:
        job_result = rehearse(
            context, project, desired, lambda _line: None, seconds=context.settings.platform.deployment_deadline
        )
        judgement = classify(job_result, token)
        if judgement != "stale" or deadline.expired():
            return _told(judgement, job_result, token)
        context.progress.waiting("the gc job to see the new token", deadline.seconds - deadline.remaining())
        context.clock.sleep(min(pause, deadline.remaining()))
        pause = min(pause * 2, _LONGEST)


def _told(judgement: Judgement, job_result: JobResult, token: Secret | None) -> GcCheck:
    message, report = scrub(job_result.message), job_result.report
    if judgement == "proved":
        blind = token is not None and report.get("token_sha256") is None
        return GcCheck("proved", message + (" (the release does not say with which token)" if blind else ""))
    server = scrub(str(report.get("server") or ""))
    if judgement == "refused":
        return GcCheck("refused", server)
    if judgement == "stale":
        what = f"After {_MOUNTED:.0f} s the gc job still does not use the token that was stored"
        what += f": {server}." if server not in ("", "ok") else "."
    elif not job_result.reported:
        what = f"The dry run of the gc job has finished, result unknown: {message}."
    elif report and report.get("dry_run") is not True:
        what = f"The gc job does not say that its run was a dry one: {message}."
    else:
        what = f"The gc job does not work: {server if server not in ('', 'ok') else message}."
    raise VerificationFailed(
        what,
        where=f"run {job_result.run_id}",
        remedy="The token itself works and is stored. Mend the job (`schedule-gc --run-now --dry-run` shows its log), "
        "then run this again: it only proves the job.",
        detail=scrub(str(report.get("hint") or "")),
    )
