"""What `backup`, `drill` and a restore's dry run have to say, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.common.text import size
from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.jobs.runner import succeeded
from mlflow_ae5_deploy.jobs.text import kept_thing
from mlflow_ae5_deploy.operations.schedule import ScheduleResult
from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.install import SCHEMA, error_data

_HEADS = ("snapshot", "finished", "MLflow", "rows", "artifacts", "size", "verified")


def show(reporter: Reporter, job_result: JobResult) -> None:
    """The end of a run that did its work."""
    report = job_result.report
    reporter.line(f"= {job_result.message}", style="green")
    if report.get("snapshots"):
        _table(reporter, report["snapshots"])
    for item in report.get("saved_copies") or []:
        reporter.hanging("  ", kept_thing(item))
    cleared = "would go" if "would_remove" in report else "gone" if "removed" in report else ""
    for name in report.get("unfinished") or []:
        fate = cleared or "the next backup takes it up or cleans it away"
        reporter.line(f"  {name}  unfinished: {fate}")
    if isinstance(report.get("manifest"), dict):
        for key, value in report["manifest"].items():
            sampled = key == "sampled" and isinstance(value, dict)
            told = _sampled(value).partition(" ")[2] if sampled else _plain(value)
            reporter.hanging(f"  {key:<18} ", told)
    for key, word in (("would_remove", "would go"), ("removed", "gone"), ("kept", "kept")):
        for item in report.get(key) or [] if isinstance(report.get(key), list) else []:
            reporter.line(f"  {_name(item)}  {word}")
    lacking = report.get("incomplete")
    for item in lacking if isinstance(lacking, list) else []:
        reporter.line(f"! Snapshot {_name(item)} cannot be restored as it is: {item.get('what')}.", style="yellow")
    unsafe = report.get("unsafe_keys")
    for item in unsafe if isinstance(unsafe, list) else []:
        reporter.line(f"! {item}", style="yellow")
    if report.get("not_recorded"):
        reporter.line(
            f"! That could not be noted in the place of the backups: {report['not_recorded']}.", style="yellow"
        )
    refusals = report.get("would_refuse")
    for item in refusals if isinstance(refusals, list) else []:
        why = item.get("error") if isinstance(item, dict) else item
        reporter.line(f"! As things are now it would be refused: {why}", style="yellow")
    _values(reporter, report, "refused", "cannot be kept")
    _values(reporter, report, "shortened", "shortened")
    if report.get("interrupted_restore"):
        reporter.line(f"! As things are now: {report['interrupted_restore']}", style="yellow")
        reporter.line("  `restore` goes on with it; `restore --undo` brings back what it has put aside.")
    if "would_remove" in report:
        reporter.line("Nothing was removed. The same with --yes removes what would go.")
    if isinstance(report.get("would_delete"), dict):
        name = report["would_delete"].get("name")
        reporter.line(f"Nothing was removed. `restore --drop-saved {name} --yes` removes it for good.")


def _values(reporter: Reporter, report: Mapping[str, Any], key: str, word: str) -> None:
    """Values of a snapshot that the database cannot keep as they are."""
    found, total = report.get(f"{key}_values"), report.get(f"{key}_total")
    named = [item for item in (found if isinstance(found, list) else []) if isinstance(item, dict)]
    for item in named:
        row = item.get("row")
        where = ", ".join(f"{name} {value}" for name, value in row.items()) if isinstance(row, dict) else ""
        free = " (free text)" if key == "refused" and item.get("free_text") else ""
        reporter.hanging("    ", f"{word}: {item.get('table')}.{item.get('column')} {item.get('what')}; {where}{free}")
    if isinstance(total, int) and total > len(named):
        reporter.line(f"    {word}: {total - len(named)} more, which are in the job's log")


def _table(reporter: Reporter, snapshots: list[Any]) -> None:
    rows = [_HEADS, *(_row(item) for item in snapshots if isinstance(item, dict))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    for row in rows:
        reporter.line("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(item: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(item.get("snapshot")),
        str(item.get("finished") or "")[:16],
        str(item.get("mlflow_version") or ""),
        *(f"{item[key]:,}" if isinstance(item.get(key), int) else "?" for key in ("rows", "artifacts")),
        size(item["artifact_bytes"]) if "artifact_bytes" in item else "?",
        _proof(item),
    )


def _proof(item: Mapping[str, Any]) -> str:
    """How far it was read back and found right."""
    if item.get("damaged"):
        return f"DAMAGED: {item['damaged']}"
    message = [str(item["verified"])[:16]] if item.get("verified") else []
    if isinstance(item.get("sampled"), dict):
        message.append(_sampled(item["sampled"]))
    left_out = "" if item.get("complete", True) else ", some artifacts are not in it"
    return ("; ".join(message) or "no") + left_out


def _sampled(sample: Mapping[str, Any]) -> str:
    return f"sampled, {sample.get('checked')} of {sample.get('of') or '?'}, {str(sample.get('at'))[:16]}"


def _name(item: Any) -> str:
    return str(item.get("snapshot") if isinstance(item, dict) else item)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return f"{len(value)} entries" if len(value) > 5 else ", ".join(_plain(item) for item in value) or "none"
    return "no" if value is None else str(value)


def run_data(
    verb: str, action: str, job_result: JobResult, error: DeployError | None, warnings: Sequence[str] = ()
) -> dict[str, Any]:
    """run.outcome is the job's own word, such as incomplete: a snapshot without what is kept outside."""
    return {
        "schema": SCHEMA,
        "verb": verb,
        "action": action,
        "outcome": "done" if error is None else "failed",
        "run": {
            "id": job_result.run_id,
            "state": job_result.state,
            "outcome": job_result.outcome,
            "passed": succeeded(job_result) if job_result.reported else None,
            "message": job_result.message,
            "report": dict(job_result.report),
        },
        "warnings": list(warnings),
        **({"error": error_data(error)} if error is not None else {}),
    }


def show_scheduled(
    reporter: Reporter, done: ScheduleResult, setting: str, cron: str | None, configured: str | None
) -> None:
    for change in done.changes:
        reporter.line(f"+ {change.phrase}", style="cyan")
    reporter.line(f"= {done.message}", style="green")
    for warning in done.warnings:
        reporter.note(f"warning: {warning}", style="yellow")
    if (cron or None) != configured:
        key = setting.partition(".")[2]
        reporter.line(f"The configuration says {f'{configured}' if configured else 'nothing'} for {setting}.")
        if cron:
            reporter.line("A replaced project loses its jobs, and `install` makes those of the configuration again:")
            reporter.line(f"  backup:\n    {key}: '{cron}'")
        else:
            reporter.line(f"The next `install` makes the job again, unless {setting} is taken out.")


def scheduled_data(verb: str, done: ScheduleResult) -> dict[str, Any]:
    job = done.job
    return {
        "schema": SCHEMA,
        "verb": verb,
        "action": "schedule",
        "outcome": done.outcome,
        "message": done.message,
        "job": job and {"id": job.id, "name": job.name, "schedule": job.schedule, "command": job.command},
        "changes": [change.data() for change in done.changes],
        "warnings": list(done.warnings),
    }
