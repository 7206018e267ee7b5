"""Sentences on what a job reports. Pure; any field may be absent."""

from __future__ import annotations

from datetime import UTC, datetime

from mlflow_ae5_deploy.common.durations import lasting
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.common.text import as_sentence, count, counted, size
from mlflow_ae5_deploy.jobs.reports import (
    BackupReport,
    DrillReport,
    GcCount,
    GcReport,
    Refusal,
    Report,
    RestoreReport,
    SavedCopy,
    SnapshotReport,
    UpgradeReport,
)

_NAMED = 10  # artifact locations in a warning


def sentence(report: Report) -> str:
    """What a job did that succeeded, or did most of its work."""
    match report:
        case GcReport():
            message = _collected(report)
        case BackupReport():
            message = _backup(report)
        case RestoreReport():
            message = _restore(report)
        case DrillReport():
            message = _drill(report)
        case UpgradeReport():
            message = _upgrade(report)
        case _:
            message = ""
    return message or report.outcome or "done"


def warnings(report: Report) -> list[str]:
    """What a job warns of, a sentence each. An error names what an incomplete snapshot lacks."""
    texts = list(report.warnings)
    if isinstance(report, BackupReport):
        if report.prune_error:
            texts.append(f"older snapshots were not deleted: {report.prune_error}")
        if report.not_recorded:
            texts.append(f"the result was not recorded in the repository: {report.not_recorded}")
        texts += report.unsafe_keys
        if report.external and report.outcome != "incomplete":
            more = len(report.external) - _NAMED
            names = ", ".join(report.external[:_NAMED]) + (f" and {more} more" if more > 0 else "")
            texts.append(f"not in snapshot {report.snapshot}: {names}")
    return [as_sentence(scrub(text)) for text in texts]


# garbage collection -----------------------------------------------------------------------------------------------


def _collected(report: GcReport) -> str:
    kinds = {"runs": report.runs, "experiments": report.experiments, "logged models": report.logged_models}
    counts = {name: number for name, number in kinds.items() if number is not None}
    freed = f"; {size(report.bytes)} of artifacts" if report.bytes else ""
    skipped = _skipped(report)
    if report.outcome == "skipped":
        return "skipped: another job or a starting server uses the database"
    if report.outcome == "dry-run":
        due = [counted(number.due - number.remaining, name) for name, number in counts.items() if number.due]
        return f"would delete {', '.join(due) or 'nothing'}{freed}{skipped}"
    if not counts:
        return ""
    if report.orphans and report.orphans.removed:
        folders = counted(report.orphans.removed, "orphaned artifact folders")
        freed += f"; {folders} ({size(report.orphans.removed_bytes)})"
    removed = [_removed(number, name) for name, number in counts.items() if number.due]
    # A collection may do without the server; the reason may be an invalid token.
    alone = "" if report.server in ("", "ok") else f"; the server was not used: {report.server}"
    what = f"deleted {', '.join(removed)}" if removed else "no run or experiment to delete"
    return f"{what}{freed}{skipped}{alone}"


def _removed(number: GcCount, name: str) -> str:
    return f"{number.removed} of {counted(number.due, name)}" if number.remaining else counted(number.removed, name)


def _skipped(report: GcReport) -> str:
    """How many due items stay, and the first reason; the report lists failures first."""
    if not report.skipped_total or report.skipped_total < 0:
        return ""
    first = f" ({item.kind} {item.id}: {item.why})" if (item := next(iter(report.skipped), None)) else ""
    return f"; {report.skipped_total} skipped{first}"


# backups ----------------------------------------------------------------------------------------------------------


def snapshot_name(snapshot: str) -> str:
    """An id with the time in it, in words: `20261129T140500Z-1a2b3c (2026-11-29 14:05 UTC)`."""
    when = started(snapshot)
    return f"{snapshot} ({when:%Y-%m-%d %H:%M} UTC)" if when else snapshot


def started(snapshot: str) -> datetime | None:
    """When a snapshot was started, by its id."""
    try:
        return datetime.strptime(snapshot[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def missing_since(report: BackupReport) -> str:
    """A sentence if many runs or artifacts of the previous snapshot are missing."""
    numbers = (
        ("runs (deleted ones included)", report.missing_runs, report.previous_runs),
        ("artifacts", report.missing_artifacts, report.previous_artifacts),
    )
    missing = [f"{gone:,} of the {before:,} {what}" for what, gone, before in numbers if gone and before is not None]
    if not missing:
        return ""
    return f"{' and '.join(missing)} of the previous snapshot are not in snapshot {report.snapshot}"


def _backup(report: BackupReport) -> str:
    match report.action:
        case "verify" if report.checked_objects == report.of_objects:
            return f"snapshot {report.snapshot} verified: {count(report.of_objects, 'objects')} intact" + _read(report)
        case "verify":
            part = f"{report.checked_objects} of {count(report.of_objects, 'objects')}"
            return f"snapshot {report.snapshot} sampled: {part} read and intact" + _read(report)
        case "list":
            snapshots, unfinished = counted(len(report.snapshots), "snapshots"), len(report.unfinished)
            return f"{snapshots}, {unfinished} unfinished" if unfinished else snapshots
        case "show":
            if report.manifest is None:
                return "the job reported no manifest"
            return f"snapshot {report.manifest.get('id') or report.manifest.get('snapshot')}"
        case "prune":
            if report.outcome == "dry-run":
                guard, removed = f"; {report.guard}" if report.guard else "", len(report.would_remove)
                return f"would delete {removed} of {counted(removed + len(report.kept), 'snapshots')}{guard}"
            return _pruned(report)
    running = report.in_flight.running_runs if report.in_flight else 0
    in_progress = f"; {counted(running, 'runs')} {'was' if running == 1 else 'were'} in progress" if running else ""
    pruned = f"; {_pruned(report)}" if report.kept else ""
    new = f"{size(report.stored_bytes)} new"
    return f"snapshot {report.snapshot} created: {_contents(report)}, {new}{in_progress}{pruned}"


def _pruned(report: BackupReport) -> str:
    guard = f"; {report.guard}" if report.guard else ""
    deleted = counted(len(report.removed), "snapshots")
    return f"deleted {deleted} ({size(report.freed_bytes)} freed), kept {len(report.kept)}{guard}"


def _read(report: BackupReport) -> str:
    return f" ({size(report.checked_bytes)} uncompressed)" if report.checked_bytes is not None else ""


def _contents(report: SnapshotReport) -> str:
    """What an administrator knows of a snapshot. A release may report less."""
    numbers = ((report.runs, "runs"), (report.deleted_runs or None, "deleted runs"), (report.models, "models"))
    counts = [count(number, name) for number, name in numbers if number is not None]
    artifacts = f"{count(report.artifacts, 'artifacts')} ({size(report.artifact_bytes)})"
    return ", ".join([*(counts or [count(report.rows, "rows")]), artifacts])


# restores ---------------------------------------------------------------------------------------------------------


def _restore(report: RestoreReport) -> str:
    if report.action == "list-saved":
        number = len(report.saved_copies)
        return f"{number or 'no'} saved {'copy' if number == 1 else 'copies'}"
    if report.action == "drop-saved":
        if report.outcome == "dry-run":
            return f"would delete {saved_copy(report.would_delete)}"
        return f"deleted {saved_copy(report.deleted)}"
    saved = f"; the replaced data is saved as {report.saved_copy}" if report.saved_copy else ""
    if report.outcome == "undone":
        return f"brought back {report.restored_copy or 'the saved copy'}{saved}"
    if report.would_restore:
        return f"would bring back {report.would_restore}"
    what = f"snapshot {snapshot_name(report.snapshot)}: {_contents(report)}"
    if report.dialect and report.dialect.source != report.dialect.target:
        what += f", from {report.dialect.source} to {report.dialect.target}"
    if report.shortened_total:
        what += f", {counted(report.shortened_total, 'texts')} shortened"
    if report.outcome == "dry-run":
        estimate = f"estimated time {lasting(report.estimated_seconds)}"
        return f"would restore {what}; all objects verified; {estimate}{_other_keys(report)}"
    equal = {"database": report.database_identical, "artifacts": report.artifacts_identical}
    identical = " and ".join(name for name, verified in equal.items() if verified)
    message = f"restored {what}" + (f"; {identical} identical to the snapshot" if identical else "")
    if report.upgraded:
        message += f"; schema upgraded from {report.upgraded.revision} to {report.upgraded.new_revision}"
    return message + saved + _other_keys(report)


def saved_copy(item: SavedCopy | None) -> str:
    if item is None:
        return "a saved copy"
    undone = item.name.startswith("undone_")  # as the project names the data that an undo replaced
    of = f"{_time(item.time)} by the {'undo of the ' if undone else ''}restore of snapshot {item.snapshot}"
    if not item.database and item.files == 0:  # listed by a restore that was interrupted before it made it
        return f"{item.name}: holds nothing, listed {of}"
    files = f"{'more than ' if item.more else ''}{count(item.files, 'files')} ({size(item.bytes)})"
    what = f"a database and {files}" if item.database else files
    return f"{item.name}: {what}, saved {of}"


def _time(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return text or "at an unknown time"


def refusal(refused: Refusal) -> str:
    """A sentence on what a restore would be refused for, and the option that changes it."""
    match refused.name:
        case "user":
            return "the server is running. Add --stop-server."
        case "occupied":
            return f"{refused.error}. Add --replace, which keeps a saved copy."
    return f"{refused.error}. {as_sentence(refused.hint)}".rstrip()


def _other_keys(report: RestoreReport | DrillReport) -> str:
    if not report.other_keys:
        return ""
    fix = "copy the saved key file back, then run `install --replace-keys`"
    return f"; warning: {'; '.join(report.other_keys)}; {fix}"


def _drill(report: DrillReport) -> str:
    return (
        f"snapshot {snapshot_name(report.snapshot)} works: restored to a temporary location and served in "
        f"{lasting(report.recovery_seconds)}, {counted(len(report.checks), 'checks')} passed, "
        f"{count(report.models_read, 'models')} read back" + _other_keys(report)
    )


def _upgrade(report: UpgradeReport) -> str:
    match report.outcome:
        case "unchanged":
            return f"the schema is current ({report.new_revision or report.revision})"
        case "rehearsed" if not report.migrations:
            return f"the schema does not change ({report.expected_revision or report.revision})"
        case "rehearsed":
            return (
                f"the schema would change from {report.revision} to {report.expected_revision}: "
                f"{counted(len(report.migrations), 'migrations')} in {lasting(report.migration_seconds)} on a copy"
            )
    return f"schema upgraded from {report.revision} to {report.new_revision}"
