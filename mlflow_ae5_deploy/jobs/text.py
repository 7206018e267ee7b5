"""What a maintenance job's last line says, as one sentence for a person. Pure; no field of it need be there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from mlflow_ae5_deploy.common.durations import duration
from mlflow_ae5_deploy.common.text import counted, size

Report = Mapping[str, Any]


def sentence(report: Report) -> str:
    command, action = str(report.get("command") or ""), str(report.get("action") or "create")
    key = f"{command.removeprefix('Minimum')} {action}" if command.endswith("Backup") else command
    words = _WORDS.get(key.removeprefix("Minimum"))
    message = words(report) if words else ""
    return message or str(report.get("outcome") or "done")


def lasting(seconds: Any) -> str:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return "an unknown time"
    return f"{seconds:.1f} s" if seconds < 100 else duration(timedelta(seconds=seconds))


def count(report: Report, key: str, noun: str = "") -> str:
    value = report.get(key)
    things = noun or key.replace("_", " ")
    if value == 1:
        return counted(1, things)
    return f"{value:,} {things}" if isinstance(value, int) else f"an unknown number of {things}"


def external(report: Report) -> list[str]:
    """Places of artifacts that are not in a snapshot."""
    found = report.get("external")
    return [str(item.get("root", item) if isinstance(item, dict) else item) for item in found or []]


def unreadable(report: Report) -> list[str]:
    """Artifacts that the store has and that are not in a snapshot, each with why."""
    return [str(item) for item in report.get("unreadable") or []]


def is_whole(report: Report) -> bool:
    """Whether a backup left nothing out."""
    return not external(report) and not unreadable(report)


def gone_since(report: Report) -> str:
    """That many runs or artifacts of the snapshot before are missing, where the job says so; else nothing."""
    found = []
    for what in ("runs", "artifacts"):
        gone, before = report.get(f"missing_{what}"), report.get(f"previous_{what}")
        if isinstance(gone, int) and isinstance(before, int) and gone:
            found.append(f"{gone:,} of the {before:,} {what}")
    if not found:
        return ""
    return f"{' and '.join(found)} of the snapshot before it are not in snapshot {report.get('snapshot')}"


def _create(report: Report) -> str:
    message = (
        f"snapshot {report.get('snapshot')}: {count(report, 'runs')}, {count(report, 'rows')} in "
        f"{count(report, 'tables')}, {count(report, 'artifacts')} ({size(report.get('artifact_bytes'))}); "
        f"{count(report, 'new_objects')}, {size(report.get('stored_bytes'))} written"
    )
    flight = report.get("in_flight") or {}
    running = flight.get("running_runs") if isinstance(flight, dict) else None
    number = len(running) if isinstance(running, list) else running
    return f"{message}; {counted(number, 'runs')} {'was' if number == 1 else 'were'} going on" if number else message


def _verify(report: Report) -> str:
    checked, of = report.get("checked_objects"), count(report, "of_objects", "objects")
    read = size(report.get("checked_bytes"))
    return f"snapshot {report.get('snapshot')}: {checked} of {of} read back and right ({read})"


def _list(report: Report) -> str:
    found, left = report.get("snapshots") or [], report.get("unfinished") or []
    message = counted(len(found), "snapshots")
    return f"{message}, {len(left)} unfinished" if left else message


def _show(report: Report) -> str:
    manifest = report.get("manifest")
    if not isinstance(manifest, dict):
        return "the manifest is not told"
    return f"snapshot {manifest.get('id') or manifest.get('snapshot')}"


def _prune(report: Report) -> str:
    kept = report.get("kept") or []
    held = f"; {report['guard']}" if report.get("guard") else ""
    if "would_remove" in report:
        going = report.get("would_remove") or []
        return f"would remove {len(going)} of {len(going) + len(kept)} snapshots{held}"
    gone = report.get("removed") or []
    freed = size(report.get("freed_bytes"))
    return f"removed {counted(len(gone), 'snapshots')}, {freed} freed; {len(kept)} kept{held}"


def _restore(report: Report) -> str:
    if report.get("action") in ("list-saved", "drop-saved"):
        return _kept(report)
    if report.get("outcome") == "undone":
        return f"{report.get('restored_copy') or 'what was kept aside'} is back in its place{_aside(report)}"
    if report.get("would_restore"):
        return f"would bring back {report['would_restore']}"
    what = (
        f"snapshot {report.get('snapshot')}: {count(report, 'rows')} in {count(report, 'tables')}, "
        f"{count(report, 'artifacts')} ({size(report.get('artifact_bytes'))})"
    )
    dialects = report.get("dialect")
    if isinstance(dialects, dict) and dialects.get("source") != dialects.get("target"):
        what += f", from {dialects.get('source')} to {dialects.get('target')}"
    if report.get("outcome") == "dry-run":
        what += _shortened(report)
        message = f"would restore {what}; every object is right, and it would take about "
        return message + lasting(report.get("estimated_seconds")) + _keys(report)
    proof = [word for word in ("database", "artifacts") if report.get(f"{word}_identical") is True]
    message = f"restored {what}{_shortened(report)}"
    if proof:
        message += f"; {' and '.join(proof)} identical to the manifest"
    upgraded = report.get("upgraded")
    if isinstance(upgraded, dict):
        message += f"; schema upgraded from {upgraded.get('revision')} to {upgraded.get('new_revision')}"
    return message + _aside(report) + _keys(report)


def _shortened(report: Report) -> str:
    number = report.get("shortened_total")
    return f", {counted(number, 'texts')} shortened" if isinstance(number, int) and number else ""


def _kept(report: Report) -> str:
    if report.get("action") == "list-saved":
        number = len(report.get("saved_copies") or [])
        return f"{number or 'nothing'} {'are' if number > 1 else 'is'} kept aside"
    if report.get("outcome") == "dry-run":
        return f"would remove {kept_thing(report.get('would_delete'))}"
    return f"removed {kept_thing(report.get('deleted'))}"


def kept_thing(item: Any) -> str:
    """One entry of what restores kept aside."""
    if not isinstance(item, dict):
        return "what was kept aside"
    files = f"{'more than ' if item.get('more') else ''}{count(item, 'files')} ({size(item.get('bytes'))})"
    what = f"a database and {files}" if item.get("database") else files
    return f"{item.get('name')}: {what}, kept aside {item.get('time')} for snapshot {item.get('snapshot')}"


def _aside(report: Report) -> str:
    return f"; what was there is kept aside as {report['saved_copy']}" if report.get("saved_copy") else ""


def _keys(report: Report) -> str:
    """That the keys at hand are not those of the snapshot."""
    other = report.get("other_keys")
    message = "; ".join(str(item) for item in other) if isinstance(other, list) else ""
    return (
        f"; warning: {message}; put the saved key file in its place, then `install --replace-keys`" if message else ""
    )


def _drill(report: Report) -> str:
    checks = report.get("checks") or []
    return (
        f"snapshot {report.get('snapshot')} was restored into a scratch place and served from there in "
        f"{lasting(report.get('recovery_seconds'))}; {counted(len(checks), 'checks')} passed, "
        f"{count(report, 'models_read', 'models')} read back" + _keys(report)
    )


def _upgrade(report: Report) -> str:
    outcome = report.get("outcome")
    if outcome == "unchanged":
        return f"the schema is current ({report.get('new_revision') or report.get('revision')})"
    if outcome == "rehearsed":
        number = len(report.get("migrations") or [])
        if not number:
            return f"the schema stays as it is ({report.get('expected_revision') or report.get('revision')})"
        return (
            f"the schema would go from {report.get('revision')} to {report.get('expected_revision')}: "
            f"{counted(number, 'migrations')} in "
            f"{lasting(report.get('migration_seconds'))} on a copy"
        )
    return f"the schema went from {report.get('revision')} to {report.get('new_revision')}"


_WORDS: Mapping[str, Callable[[Report], str]] = {
    "Backup create": _create,
    "Backup verify": _verify,
    "Backup list": _list,
    "Backup show": _show,
    "Backup prune": _prune,
    "Restore": _restore,
    "Drill": _drill,
    "DatabaseUpgrade": _upgrade,
}
