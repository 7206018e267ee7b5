"""Render `backup`, `drill` and a restore's dry run, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from mlflow_ae5_deploy.ae5.models import Job
from mlflow_ae5_deploy.common.cron import parse_cron
from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.common.text import size
from mlflow_ae5_deploy.jobs.reports import BackupReport, Report, RestoreReport, SnapshotLine, UnfitValue
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.jobs.text import saved_copy
from mlflow_ae5_deploy.operations.schedule import ScheduleResult
from mlflow_ae5_deploy.render.console import SCHEMA, Reporter
from mlflow_ae5_deploy.render.install import error_data
from mlflow_ae5_deploy.resources.scheduled_job import in_words, is_paused

_HEADS = ("snapshot", "finished", "MLflow", "rows", "artifacts", "size", "verified")


def show(reporter: Reporter, job_result: JobResult[Report]) -> None:
    """The result of a run that succeeded."""
    reporter.line(f"= {job_result.message}", style="green")
    report = job_result.report
    if isinstance(report, BackupReport):
        _show_backup(reporter, report)
    elif isinstance(report, RestoreReport):
        _show_restore(reporter, report)
    if report.interrupted_restore:
        reporter.line(f"! Interrupted restore: {report.interrupted_restore}", style="yellow")
        reporter.line("  `restore` resumes it; `restore --undo` brings back the saved copy.")


def _show_backup(reporter: Reporter, report: BackupReport) -> None:
    dry = report.outcome == "dry-run"
    if report.snapshots:
        _table(reporter, report.snapshots)
    if report.action == "prune":
        unfinished = "would be removed" if dry else "removed"
    else:
        unfinished = "the next backup resumes it or removes it"
    for name in report.unfinished:
        reporter.line(f"  {name}  unfinished: {unfinished}")
    for key, value in (report.manifest or {}).items():
        sampled = key == "sampled" and isinstance(value, dict)
        reporter.hanging(f"  {key:<18} ", _sampled(value) if sampled else _plain(value))
    lists = (("would be removed", report.would_remove), ("removed", report.removed), ("kept", report.kept))
    for word, names in lists:
        for name in names:
            reporter.line(f"  {name}  {word}")
    for item in report.incomplete:
        reporter.line(f"! Snapshot {item.snapshot} cannot be restored as it is: {item.what}.", style="yellow")
    for warning in report.unsafe_keys:
        reporter.line(f"! {warning}", style="yellow")
    if report.not_recorded:
        reporter.line(f"! The result could not be recorded in the repository: {report.not_recorded}.", style="yellow")
    if dry:
        reporter.line("Nothing was removed. Run the same with --yes to remove them.")


def _show_restore(reporter: Reporter, report: RestoreReport) -> None:
    for item in report.saved_copies:
        reporter.hanging("  ", saved_copy(item))
    for refusal in report.would_refuse:
        reporter.line(f"! Would be refused now: {refusal.error}", style="yellow")
    _values(reporter, report.refused_values, report.refused_total, "refused")
    _values(reporter, report.shortened_values, report.shortened_total, "shortened")
    if report.would_delete:
        name = report.would_delete.name
        reporter.line(f"Nothing was deleted. `restore --drop-saved {name} --yes` deletes it permanently.")


def _values(reporter: Reporter, values: Sequence[UnfitValue], total: int | None, word: str) -> None:
    for item in values:
        where = ", ".join(f"{name} {value}" for name, value in (item.row or {}).items())
        free = " (free text)" if word == "refused" and item.free_text else ""
        reporter.hanging("    ", f"{word}: {item.table}.{item.column} {item.what}; {where}{free}")
    if total and total > len(values):
        reporter.line(f"    {word}: {total - len(values)} more, see the job's log")


def _table(reporter: Reporter, snapshots: Iterable[SnapshotLine]) -> None:
    rows = [_HEADS, *(_row(item) for item in snapshots)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    for row in rows:
        reporter.line("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(item: SnapshotLine) -> tuple[str, ...]:
    numbers = (f"{number:,}" if number is not None else "?" for number in (item.rows, item.artifacts))
    bytes_ = size(item.artifact_bytes) if item.artifact_bytes is not None else "?"
    return (item.snapshot, item.finished[:16], item.mlflow_version, *numbers, bytes_, _verification(item))


def _verification(item: SnapshotLine) -> str:
    if item.damaged:
        return f"DAMAGED: {item.damaged}"
    words = [item.verified[:16]] if item.verified else []
    if item.sampled:
        words.append(f"sampled, {_sampled(asdict(item.sampled))}")
    return ("; ".join(words) or "no") + ("" if item.complete else ", some artifacts are not in it")


def _sampled(check: Mapping[str, Any]) -> str:
    return f"{check.get('checked')} of {check.get('of') or '?'}, {str(check.get('at'))[:16]}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return f"{len(value)} entries" if len(value) > 5 else ", ".join(_plain(item) for item in value) or "none"
    return "no" if value is None else str(value)


def show_scheduled(
    reporter: Reporter, done: ScheduleResult, setting: str, cron: str | None, configured: str | None
) -> None:
    for change in done.changes:
        reporter.line(f"+ {change.phrase}", style="cyan")
    reporter.line(f"= {done.message}", style="green")
    for warning in done.warnings:
        reporter.note(f"warning: {warning}", style="yellow")
    if (cron or None) == configured:
        return
    reporter.line(f"Differs from your configuration: {setting} is {configured or 'not set'}.")
    if cron:
        reporter.line(
            "When a project is replaced, `install` schedules only the configured jobs. To keep this one, add:"
        )
        reporter.line(f"  backup:\n    {setting.partition('.')[2]}: '{cron}'")
    else:
        reporter.line(f"The next `install` creates the job again. To prevent that, remove {setting}.")


def show_schedule(
    reporter: Reporter, verb: str, jobs: Sequence[Job], setting: str, configured: str | None, now: datetime
) -> None:
    """The present schedule."""
    reporter.document(verb, jobs=[_job_data(job) for job in jobs], configured=configured)
    for job in jobs:
        paused = is_paused(job)
        words = in_words(parse_cron(job.schedule), now) if job.schedule else "not scheduled"
        reporter.line(f"{job.name}: {'paused; ' if paused else ''}{words}", style="yellow" if paused else None)
    if not jobs:
        reporter.line("Nothing is scheduled.")
    if [job.schedule for job in jobs] != [configured] * bool(configured):
        reporter.line(f"Differs from your configuration: {setting} is {configured or 'not set'}.")


# as JSON ----------------------------------------------------------------------------------------------------------


def run_record(job_result: JobResult[Report]) -> dict[str, Any]:
    """passed: null where the result is unknown."""
    return {
        "id": job_result.run_id,
        "state": job_result.state,
        "outcome": job_result.outcome,
        "passed": job_result.passed,
        "message": job_result.message,
        "report": dict(job_result.report.data),
    }


def run_data(
    verb: str,
    action: str,
    job_result: JobResult[Report],
    error: DeployError | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "verb": verb,
        "action": action,
        "outcome": "done" if error is None else "failed",
        "run": run_record(job_result),
        "warnings": list(warnings),
        **({"error": error_data(error)} if error is not None else {}),
    }


def scheduled_data(verb: str, done: ScheduleResult) -> dict[str, Any]:
    job = done.job
    return {
        "schema": SCHEMA,
        "verb": verb,
        "action": "schedule",
        "outcome": done.outcome,
        "message": done.message,
        "job": job and _job_data(job),
        "changes": [change.data() for change in done.changes],
        "warnings": list(done.warnings),
    }


def _job_data(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "name": job.name,
        "schedule": job.schedule,
        "command": job.command,
        "paused": is_paused(job),
    }
