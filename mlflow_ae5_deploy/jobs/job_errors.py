"""The error of a job that failed, by its exit code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlflow_ae5_deploy.common.errors import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    Configuration,
    DeployError,
    JobFailed,
    Locked,
    LoginFailed,
    NotFound,
    PartlyDone,
    RepositoryFailed,
    SchemaMismatch,
    SnapshotDamaged,
    TargetInUse,
    TargetNotEmpty,
    Unreachable,
    Usage,
)
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.common.text import as_sentence, capitalized
from mlflow_ae5_deploy.jobs.contract import INCOMPLETE
from mlflow_ae5_deploy.jobs.reports import BackupReport, Report, SnapshotReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.jobs.tasks import JobRequest

_DAMAGED_SHOWN = 20
# For errors, in place of a purpose that is no noun phrase.
_TITLES = {
    "backup list": "listing of snapshots",
    "backup show": "lookup of the snapshot",
    "backup verify": "verification of the snapshot",
    "backup prune": "pruning of snapshots",
    "list of saved copies": "listing of saved copies",
    "preview of a saved copy": "lookup of the saved copy",
}
ERRORS: Mapping[int, type[DeployError]] = {
    EXIT_BUG: JobFailed,
    EXIT_INTERRUPTED: JobFailed,
    **{
        kind.exit_code: kind
        for kind in (
            Usage,
            Configuration,
            Unreachable,
            LoginFailed,
            NotFound,
            Locked,
            PartlyDone,
            SnapshotDamaged,
            TargetNotEmpty,
            TargetInUse,
            RepositoryFailed,
            SchemaMismatch,
        )
    },
}
"""By the failing exit codes of contract.json."""


def error_class(exit_code: int | None) -> type[DeployError]:
    return ERRORS.get(exit_code or 0, JobFailed)


def require(task: JobRequest[Any], job_result: JobResult[Report]) -> None:
    """Raise the error of the job's exit code, unless it did its work."""
    if job_result.succeeded:
        return
    report, code = job_result.report, job_result.exit_code
    hint = scrub(report.hint)
    missing = [item for item in _missing(report) if item[1]] if code == INCOMPLETE else []
    if missing:
        raise PartlyDone(
            f"{capitalized(job_result.message)}. {' '.join(what for what, _, _ in missing)}",
            where=", ".join(scrub(name) for _, names, _ in missing for name in names),
            remedy=as_sentence(hint) or " ".join(remedy for _, _, remedy in missing),
        )
    damaged = report.damaged[:_DAMAGED_SHOWN] if isinstance(report, SnapshotReport) else ()
    damage = [f"- {item.object or item.name}: {item.what}" for item in damaged]
    log = f" (`logs --run {job_result.run_id} --lines 0`)" if job_result.log_saved else ""
    kind = error_class(code)
    title = _TITLES.get(task.purpose, task.purpose)
    error = kind(
        f"The {title} {'failed' if job_result.reported else 'finished, result unknown'}: {job_result.message}.",
        where=f"run {job_result.run_id}{log}",
        remedy=as_sentence(hint) or kind.usual_remedy or JobFailed.usual_remedy,
        detail="\n".join(text for text in (scrub("\n".join(damage)), _unreported(job_result)) if text),
    )
    error.of_job = True
    raise error


def _unreported(job_result: JobResult[Report]) -> str:
    """The end of the log, without the lines that only repeat error and hint of the report."""
    report = job_result.report
    repeated = {scrub(f"error: {report.error}"), scrub(f"what to do: {report.hint}")} if report.error else set()
    return "\n".join(line for line in job_result.tail.splitlines() if line.strip() not in repeated)


def _missing(report: Report) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """What is not in a snapshot: the sentence, the names, the remedy."""
    if isinstance(report, BackupReport):
        yield (
            "Not backed up: artifacts outside the store.",
            report.external,
            "Back those up where they are. `backup --allow-external` accepts that.",
        )
        yield (
            "Not backed up: unreadable artifacts.",
            report.unreadable,
            "Rename those artifacts, make them readable, or delete them; then back up again.",
        )
