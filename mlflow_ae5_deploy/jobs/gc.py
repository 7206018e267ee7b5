"""A run of the collection job: what came of it, and a rehearsal of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlflow_ae5_deploy.ae5.models import Job, Project, Run
from mlflow_ae5_deploy.common.errors import ReleaseRefused
from mlflow_ae5_deploy.common.files import write_private
from mlflow_ae5_deploy.common.text import counted, size
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.job_result import UNKNOWN, JobResult, last_report
from mlflow_ae5_deploy.jobs.logs import OnLine, follow_run
from mlflow_ae5_deploy.jobs.one_off import run_once, unreported
from mlflow_ae5_deploy.jobs.spec import JobSpec
from mlflow_ae5_deploy.release.archive import read_project_archive

DRY_RUN = "MLFLOW_TRACKING_GC_DRY_RUN"
KINDS = ("runs", "experiments", "logged_models")
INCOMPLETE = "incomplete"  # outcome of a run that has skipped what it could not remove, and done all the rest


def judge(run: Run, log: str) -> JobResult:
    """Pure. A run counts as failed when either the platform or the job itself says so."""
    report = last_report(log)
    outcome = str(report.get("outcome") or UNKNOWN)
    code = report.get("exit_code")
    job_result = JobResult(run.id, run.state, outcome, code if isinstance(code, int) else None, "", report)
    return replace(job_result, message=_sentence(job_result) if job_result.reported else unreported(log))


def _sentence(job_result: JobResult) -> str:
    report = job_result.report
    counts = [(kind.replace("_", " "), report[kind]) for kind in KINDS if isinstance(report.get(kind), dict)]
    if not job_result.passed:
        if job_result.outcome == INCOMPLETE and counts:
            message = f"removed {_removed(counts)}{_size(report)}{_skipped(report)}"
            return ", ".join([message, *_reasons(report)])
        words = [f"the run is {job_result.state}"]
        if job_result.outcome != UNKNOWN:
            words.append(f"the job says {job_result.outcome}")
        if job_result.exit_code is not None:
            words.append(f"exit code {job_result.exit_code}")
        return ", ".join([*words, *_reasons(report)])
    if job_result.outcome == "skipped":
        return "skipped, because another collection was at work"
    if job_result.outcome == "dry-run":
        told = (
            ", ".join(counted(item.get("due", 0) - item.get("remaining", 0), kind) for kind, item in counts)
            or "nothing known"
        )
        return f"would remove {told}{_size(report)}{_skipped(report)}"
    return f"removed {_removed(counts)}{_size(report)}{_skipped(report)}{_alone(report)}" if counts else "done"


def _reasons(report: Mapping[str, Any]) -> list[str]:
    return [str(report[key]) for key in ("error", "hint") if report.get(key)]


def _removed(counts: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    return ", ".join(f"{item.get('removed', 0)} of {item.get('due', 0)} {kind}" for kind, item in counts)


def _size(report: Mapping[str, Any]) -> str:
    """Earlier releases say nothing of bytes."""
    number = report.get("bytes")
    return f"; {size(number)} of artifacts" if isinstance(number, int) and number > 0 else ""


def _alone(report: Mapping[str, Any]) -> str:
    """A collection may do without the server. That it had to is worth a word: the token may be void."""
    server = str(report.get("server") or "ok")
    return "" if server == "ok" else f"; without the server: {server}"


def _skipped(report: Mapping[str, Any]) -> str:
    """How many stay although they are due, and the first reason: troubles come first in the report."""
    skipped, total = report.get("skipped"), report.get("skipped_total")
    if not isinstance(total, int) or total <= 0:
        return ""
    first = skipped[0] if isinstance(skipped, list) and skipped and isinstance(skipped[0], dict) else {}
    reason = f" ({first.get('kind')} {first.get('id')}: {first.get('why')})" if first else ""
    return f"; {total} skipped{reason}"


# runs ------------------------------------------------------------------------------------------------------------


def run_now(context: Context, job: Job, show: OnLine, *, seconds: float) -> JobResult:
    """Start a run of this job and follow it to its end."""
    run = context.platform.run_job(job.id)
    context.journal.effect("run", "job", job.name, id=run.id)
    return judge(*follow_run(context, run.id, show, seconds=seconds))


def cannot_rehearse(context: Context, project: Project, desired: JobSpec) -> str | None:
    """Why this release's job must not be asked for a dry run: one that does not know the variable would collect."""
    if desired.command not in {command.id for command in context.cached.revisions(project)[0].commands}:
        return f"the release has no command `{desired.command}`"
    archive = context.folders.scratch / "stored-project.tar.gz"
    write_private(archive, context.cached.archive(project))
    try:
        variables = read_project_archive(archive, called=f"project {project.name}").variables
    except ReleaseRefused as error:
        return f"the stored release cannot be read ({error.what.rstrip('.')})"
    return None if DRY_RUN in variables else f"the release does not know {DRY_RUN}"


def rehearse(context: Context, project: Project, desired: JobSpec, show: OnLine, *, seconds: float) -> JobResult:
    """Run the job's dry run once, as a job of its own that is taken away again. The schedule is not touched.

    Proves that the job starts, reaches server and database with what is stored for it, and has something to say.
    Ask `cannot_rehearse` first.
    """
    return judge(
        *run_once(
            context,
            project,
            replace(desired, name=f"{desired.name} dry run", variables=(*desired.variables, (DRY_RUN, "true"))),
            show,
            seconds=seconds,
        )
    )
