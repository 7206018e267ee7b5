"""Render `backup`, `drill` and a restore's dry run, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

from mlflow_ae5_deploy.ae5.models import Job
from mlflow_ae5_deploy.common.cron import parse_cron
from mlflow_ae5_deploy.common.durations import lasting, moment
from mlflow_ae5_deploy.common.text import as_sentence, count, size
from mlflow_ae5_deploy.engine.context import RestoreRequest
from mlflow_ae5_deploy.engine.records import RestoreRecord
from mlflow_ae5_deploy.jobs.reports import BackupReport, Report, RestoreReport, SnapshotLine, UnfitValue
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.jobs.text import refusal, saved_copy, snapshot_name
from mlflow_ae5_deploy.operations.schedule import ScheduleResult
from mlflow_ae5_deploy.render.changes import DIFFERS, show_drift
from mlflow_ae5_deploy.render.console import SCHEMA, Reporter
from mlflow_ae5_deploy.render.format import Mark, settings_lines, yaml_quoted
from mlflow_ae5_deploy.resources.scheduled_job import in_words, is_paused

_SHORT = 6  # characters of an id that `--snapshot` takes for the whole


def show(reporter: Reporter, job_result: JobResult[Report], now: datetime) -> None:
    """The result of a run that succeeded."""
    report = job_result.report
    listing = isinstance(report, BackupReport) and report.action in ("list", "show")
    took = f" The job took {lasting(report.seconds)}." if report.seconds is not None and not listing else ""
    if listing:
        reporter.line(as_sentence(job_result.message), style="bold")
    else:
        reporter.marked(_mark(report), as_sentence(job_result.message) + took)
    if isinstance(report, BackupReport):
        _show_backup(reporter, report, now)
    elif isinstance(report, RestoreReport):
        _show_restore(reporter, report)
    if report.interrupted_restore:
        reporter.marked(Mark.WARNING, f"Interrupted restore: {report.interrupted_restore}.")
        reporter.hanging("  ", "`restore` resumes it; `restore --undo` brings back the saved copy.")


def _mark(report: Report) -> Mark:
    """Of the result: a dry run that finds something to do has done nothing yet."""
    if isinstance(report, RestoreReport) and report.would_refuse:
        return Mark.WARNING
    return Mark.CHANGE if isinstance(report, BackupReport) and _would_delete(report) else Mark.OK


def _would_delete(report: BackupReport) -> bool:
    return report.outcome == "dry-run" and bool(report.would_remove or report.unfinished or report.freed_bytes)


def show_none(reporter: Reporter, job_result: JobResult[Report]) -> None:
    """A list of a destination that has never been used."""
    reporter.line(as_sentence(job_result.message))
    reporter.line("Create one with `backup`.")


def show_restored(reporter: Reporter, report: RestoreReport, *, failed: bool = False) -> None:
    """The end of a restore or undo: what is there now, and how to reverse it. failed: the verification after it."""
    mark = Mark.CHANGE if failed else Mark.OK
    if report.outcome == "undone":
        reporter.marked(mark, f"Undo done: {report.restored_copy or 'the saved copy'} is in use again.")
    else:
        reporter.marked(mark, f"Restored snapshot {snapshot_name(report.snapshot)}.")
    if report.saved_copy:
        named = (
            f" --saved {report.saved_copy}" if report.outcome == "undone" else ""
        )  # an undo is not undone by default
        back = f"`restore --undo{named} --stop-server`"
        reporter.hanging("  ", f"The data it replaced is saved as {report.saved_copy}; {back} brings it back.")
        reporter.hanging("  ", "To delete that copy, run `restore --drop-saved " + report.saved_copy + " --yes`.")
    elif report.outcome != "undone":
        reporter.hanging("  ", "It replaced no data.")


def show_not_restored(reporter: Reporter, request: RestoreRequest, record: RestoreRecord, now: datetime) -> None:
    """The end of a restore that left the data as it is. record: of the earlier restore."""
    what = f"snapshot {snapshot_name(record.snapshot or 'unknown')} was restored {moment(record.when, now)}"
    reporter.marked(Mark.WARNING, f"NOT restored again: {what}, and a server has run since.")
    reporter.hanging(
        "  ",
        f"To restore it again, run `restore {request.again}`. It stops the server and moves the present data to a "
        "saved copy.",
    )


def _show_backup(reporter: Reporter, report: BackupReport, now: datetime) -> None:
    dry = report.outcome == "dry-run"
    if report.snapshots:
        _show_list(reporter, report.snapshots)
    if report.manifest is not None:
        for title, text in _manifest(report.manifest, now):
            reporter.hanging(f"  {title:<10} ", text)
    unfinished = (
        ("would be deleted" if dry else "deleted") if report.action == "prune" else "the next backup resumes it"
    )
    for name in report.unfinished:
        reporter.marked(Mark.SKIPPED, f"{name}  unfinished: {unfinished}")
    for word, names in (("would be deleted", report.would_remove), ("deleted", report.removed)):
        for name in names:
            reporter.marked(Mark.CHANGE, f"{name}  {word}")
    for name, why in zip_longest(report.kept, report.kept_because[: len(report.kept)], fillvalue=""):
        reporter.marked(Mark.OK, f"{name}  kept" + (f": {why}" if why else ""))
    for item in report.incomplete:
        reporter.marked(Mark.WARNING, f"Snapshot {item.snapshot} cannot be restored: {item.what}.")
    if _would_delete(report):
        reporter.line("Nothing was deleted. To delete them, run the same command with --yes.")


def _show_restore(reporter: Reporter, report: RestoreReport) -> None:
    for item in report.saved_copies:
        reporter.hanging("  ", saved_copy(item))
    for refused in report.would_refuse:
        reporter.marked(Mark.WARNING, f"Would be refused now: {refusal(refused)}")
    _values(reporter, report.refused_values, report.refused_total, "refused")
    _values(reporter, report.shortened_values, report.shortened_total, "shortened")
    if report.would_delete:
        name = report.would_delete.name
        reporter.hanging("", f"Nothing was deleted. `restore --drop-saved {name} --yes` deletes it permanently.")


def _values(reporter: Reporter, values: Sequence[UnfitValue], total: int | None, word: str) -> None:
    for item in values:
        where = ", ".join(f"{name} {value}" for name, value in (item.row or {}).items())
        free = " (free text)" if word == "refused" and item.free_text else ""
        reporter.hanging("    ", f"{word}: {item.table}.{item.column} {item.what}; {where}{free}")
    if total and total > len(values):
        reporter.line(f"    {word}: {total - len(values)} more, see the job's log")


# snapshots --------------------------------------------------------------------------------------------------------

_HEADS = ("when (UTC)", "artifacts", "new data", "runs", "models", "verified", "id")


def _show_list(reporter: Reporter, snapshots: Sequence[SnapshotLine]) -> None:
    """Newest first."""
    newest_first = list(reversed(snapshots))
    rows = [_row(item, whole=reporter.verbose) for item in newest_first]
    reporter.table(_HEADS, rows, right=("artifacts", "new data", "runs", "models"))
    for item in newest_first:
        if item.damaged:
            reporter.marked(Mark.FAILED, f"Snapshot {item.snapshot} is damaged: {item.damaged}.")
            reporter.hanging("  ", f"`backup prune --drop-damaged {item.snapshot}` previews its deletion.")
        elif not item.complete:
            reporter.marked(Mark.WARNING, f"Snapshot {item.snapshot} lacks artifacts; `backup show` names them.")


def _row(item: SnapshotLine, *, whole: bool) -> tuple[str, ...]:
    """whole: the id in full."""
    sizes = ("-" if number is None else size(number) for number in (item.artifact_bytes, item.stored_bytes))
    numbers = ("-" if number is None else f"{number:,}" for number in (item.runs, item.models))
    identity = item.snapshot if whole else item.snapshot.rpartition("-")[2][-_SHORT:]
    return (_minute(item.finished) or "-", *sizes, *numbers, _verification(item), identity)


def _verification(item: SnapshotLine) -> str:
    if item.damaged:
        return "DAMAGED"
    if item.verified:
        return _minute(item.verified)
    if item.sampled:
        return f"{item.sampled.checked} of {item.sampled.of or '?'} read"
    return "no"


def _minute(text: object) -> str:
    """ISO 8601, as a cell of a column in UTC."""
    when = _time(text)
    return f"{when:%Y-%m-%d %H:%M}" if when else str(text or "")


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except ValueError:
        return None


def _moment(text: object, now: datetime) -> str:
    when = _time(text)
    return moment(when, now) if when else str(text or "unknown")


def _manifest(manifest: Mapping[str, Any], now: datetime) -> list[tuple[str, str]]:
    """The rows of `backup show`. Any field may be absent."""
    database, artifacts = _part(manifest, "database"), _part(manifest, "artifacts")
    server = " ".join(str(database[name]) for name in ("dialect", "server") if database.get(name))
    rows = [
        ("Created", _moment(manifest.get("finished"), now)),
        ("MLflow", f"{manifest.get('mlflow_version', 'unknown')}, release {manifest.get('release', 'unknown')}"),
        ("Database", f"{server or manifest.get('dialect', 'unknown')}, schema {manifest.get('revision', 'unknown')}"),
        ("Content", ", ".join(_counts(manifest, ("runs", "deleted_runs", "models", "tables", "rows"))) or "unknown"),
        ("Artifacts", _artifacts(artifacts)),
        ("Storage", f"{size(manifest.get('stored_bytes'))} new, in {_count(manifest.get('new_objects'), 'objects')}"),
        ("Keys", _keys(manifest.get("keys"))),
        ("Verified", _checked(manifest, now)),
    ]
    changed = _counts(_part(manifest, "in_flight"), ("running_runs", "changed_files", "vanished_files"))
    if changed:
        rows.append(("Meanwhile", ", ".join(changed)))
    missing = [*_texts(artifacts.get("unreadable")), *_texts(manifest.get("external"))]
    return [*rows, *(("Missing", name) for name in missing)]


def _artifacts(artifacts: Mapping[str, Any]) -> str:
    text = f"{_count(artifacts.get('files'), 'files')} ({size(artifacts.get('bytes'))})"
    others = [f"{artifacts[name]} {word}" for name, word in (("links", "links"), ("special", "devices or sockets"))
              if artifacts.get(name)]  # fmt: skip
    without = f", without the content of {' and '.join(others)}" if others else ""
    return f"{text} from {artifacts.get('source', 'an unknown store')}{without}"


def _keys(keys: object) -> str:
    words = {"same": "the same as now", "other": "NOT the present one", "unset": "not set now"}
    found = [key for key in keys if isinstance(key, Mapping)] if isinstance(keys, list) else []
    return ", ".join(f"{key.get('name')}: {words.get(str(key.get('at_hand')), 'unknown')}" for key in found) or "none"


def _checked(manifest: Mapping[str, Any], now: datetime) -> str:
    if manifest.get("damaged"):
        return f"DAMAGED: {manifest['damaged']}"
    if manifest.get("verified"):
        return _moment(manifest["verified"], now)
    sampled = _part(manifest, "sampled")
    if sampled:
        part = f"{sampled.get('checked')} of {sampled.get('of') or 'an unknown number of'} objects"
        return f"{part} on {_moment(sampled.get('at'), now)}"
    return "no; run `backup verify`"


def _part(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name)
    return value if isinstance(value, Mapping) else {}


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _count(value: object, things: str) -> str:
    return count(value if isinstance(value, int) else None, things)


def _counts(fields: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Those that are present and, of what changed meanwhile, not zero."""
    present = ((name, fields.get(name)) for name in names)
    return [
        _count(value, name.replace("_", " ")) for name, value in present if value or (value == 0 and "_" not in name)
    ]


# schedules --------------------------------------------------------------------------------------------------------


def show_scheduled(
    reporter: Reporter,
    done: ScheduleResult,
    setting: str,
    cron: str | None,
    configured: str | None,
    profile: str | None,
) -> None:
    for change in done.changes:
        reporter.marked(Mark.CHANGE, change.phrase)
    reporter.marked(Mark.OK, as_sentence(done.message))
    for warning in done.warnings:
        reporter.warning(warning)
    _show_differing(reporter, setting, cron, configured, profile)


def show_schedule(
    reporter: Reporter,
    verb: str,
    jobs: Sequence[Job],
    setting: str,
    configured: str | None,
    profile: str | None,
    now: datetime,
    *,
    option: str,
) -> None:
    """The current schedule. option: of the verb, with which it is set."""
    reporter.document(verb, jobs=[_job_data(job) for job in jobs], configured=configured)
    for job in jobs:
        words = in_words(parse_cron(job.schedule), now) if job.schedule else "no schedule"
        reporter.marked(*((Mark.WARNING, f"Paused: {words}") if is_paused(job) else (Mark.OK, f"Scheduled: {words}")))
    if not jobs:
        command = " ".join(filter(None, (verb, option, "CRON")))
        reporter.line(f"Nothing is scheduled. Set a schedule with `{command}`.")
    actual = ", ".join(job.schedule or "no schedule" for job in jobs) or None
    _show_differing(reporter, setting, actual, configured, profile)


def _show_differing(
    reporter: Reporter, setting: str, actual: str | None, configured: str | None, profile: str | None
) -> None:
    """actual: of the job; None where there is none."""
    if actual == configured:
        return
    name = setting.removeprefix("backup.")
    to_keep = settings_lines("backup", [f"{name}: {yaml_quoted(actual)}"], profile) if actual else []
    if configured is None:
        lead = "Not in your configuration; `install` keeps the job, except when it replaces the project"
        show_drift(reporter, lead, [], to_keep)
        return
    rows = [f"{setting}: {configured} → {actual or 'not set'}"]
    show_drift(reporter, DIFFERS, rows, to_keep)
    if not actual:
        reporter.line(f"To keep it, remove {setting} from the configuration.")


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


def run_data(job_result: JobResult[Report], warnings: Sequence[str]) -> dict[str, Any]:
    return {"run": run_record(job_result), "warnings": list(warnings)}


def scheduled_data(verb: str, done: ScheduleResult) -> dict[str, Any]:
    job = done.job
    return {
        "schema": SCHEMA,
        "verb": verb,
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
