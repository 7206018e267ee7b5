"""What a maintenance job's last line says, as one sentence for a person. Pure; no field of it need be there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from mlflow_ae5_deploy.common.durations import duration
from mlflow_ae5_deploy.common.text import counted, size

Facts = Mapping[str, Any]


def sentence(facts: Facts) -> str:
    command, action = str(facts.get("command") or ""), str(facts.get("action") or "create")
    key = f"{command.removeprefix('Minimum')} {action}" if command.endswith("Backup") else command
    words = _WORDS.get(key.removeprefix("Minimum"))
    said = words(facts) if words else ""
    return said or str(facts.get("outcome") or "done")


def lasting(seconds: Any) -> str:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return "an unknown time"
    return f"{seconds:.1f} s" if seconds < 100 else duration(timedelta(seconds=seconds))


def count(facts: Facts, key: str, noun: str = "") -> str:
    value = facts.get(key)
    things = noun or key.replace("_", " ")
    if value == 1:
        return counted(1, things)
    return f"{value:,} {things}" if isinstance(value, int) else f"an unknown number of {things}"


def outside(facts: Facts) -> list[str]:
    """Places of artifacts that are not in a snapshot."""
    found = facts.get("outside")
    return [str(item.get("root", item) if isinstance(item, dict) else item) for item in found or []]


def unreadable(facts: Facts) -> list[str]:
    """Artifacts that the store has and that are not in a snapshot, each with why."""
    return [str(item) for item in facts.get("unreadable") or []]


def is_whole(facts: Facts) -> bool:
    """Whether a backup left nothing out."""
    return not outside(facts) and not unreadable(facts)


def gone_since(facts: Facts) -> str:
    """That many runs or artifacts of the snapshot before are missing, where the job says so; else nothing."""
    found = []
    for what in ("runs", "artifacts"):
        gone, before = facts.get(f"gone_{what}"), facts.get(f"{what}_before")
        if isinstance(gone, int) and isinstance(before, int) and gone:
            found.append(f"{gone:,} of the {before:,} {what}")
    if not found:
        return ""
    return f"{' and '.join(found)} of the snapshot before it are not in snapshot {facts.get('snapshot')}"


def _create(facts: Facts) -> str:
    said = (
        f"snapshot {facts.get('snapshot')}: {count(facts, 'runs')}, {count(facts, 'rows')} in "
        f"{count(facts, 'tables')}, {count(facts, 'artifacts')} ({size(facts.get('artifact_bytes'))}); "
        f"{count(facts, 'new_objects')}, {size(facts.get('stored_bytes'))} written"
    )
    flight = facts.get("in_flight") or {}
    running = flight.get("running_runs") if isinstance(flight, dict) else None
    number = len(running) if isinstance(running, list) else running
    return f"{said}; {counted(number, 'runs')} {'was' if number == 1 else 'were'} going on" if number else said


def _verify(facts: Facts) -> str:
    checked, of = facts.get("checked_objects"), count(facts, "of_objects", "objects")
    return (
        f"snapshot {facts.get('snapshot')}: {checked} of {of} read back and right ({size(facts.get('checked_bytes'))})"
    )


def _list(facts: Facts) -> str:
    found, left = facts.get("snapshots") or [], facts.get("unfinished") or []
    said = counted(len(found), "snapshots")
    return f"{said}, {len(left)} unfinished" if left else said


def _show(facts: Facts) -> str:
    manifest = facts.get("manifest")
    if not isinstance(manifest, dict):
        return "the manifest is not told"
    return f"snapshot {manifest.get('id') or manifest.get('snapshot')}"


def _prune(facts: Facts) -> str:
    kept = facts.get("kept") or []
    held = f"; {facts['held']}" if facts.get("held") else ""
    if "would_remove" in facts:
        going = facts.get("would_remove") or []
        return f"would remove {len(going)} of {len(going) + len(kept)} snapshots{held}"
    gone = facts.get("removed") or []
    freed = size(facts.get("freed_bytes"))
    return f"removed {counted(len(gone), 'snapshots')}, {freed} freed; {len(kept)} kept{held}"


def _restore(facts: Facts) -> str:
    if facts.get("action") in ("list-kept", "drop-kept"):
        return _kept(facts)
    if facts.get("outcome") == "undone":
        return f"{facts.get('brought_back') or 'what was kept aside'} is back in its place{_aside(facts)}"
    if facts.get("would_bring_back"):
        return f"would bring back {facts['would_bring_back']}"
    what = (
        f"snapshot {facts.get('snapshot')}: {count(facts, 'rows')} in {count(facts, 'tables')}, "
        f"{count(facts, 'artifacts')} ({size(facts.get('artifact_bytes'))})"
    )
    dialects = facts.get("dialect")
    if isinstance(dialects, dict) and dialects.get("from") != dialects.get("to"):
        what += f", from {dialects.get('from')} to {dialects.get('to')}"
    if facts.get("outcome") == "dry-run":
        what += _shortened(facts)
        said = f"would restore {what}; every object is right, and it would take about "
        return said + lasting(facts.get("estimate_seconds")) + _keys(facts)
    proof = [word for word in ("database", "artifacts") if facts.get(f"{word}_identical") is True]
    said = f"restored {what}{_shortened(facts)}"
    if proof:
        said += f"; {' and '.join(proof)} identical to the manifest"
    upgraded = facts.get("upgraded")
    if isinstance(upgraded, dict):
        said += f"; schema upgraded from {upgraded.get('from')} to {upgraded.get('to')}"
    return said + _aside(facts) + _keys(facts)


def _shortened(facts: Facts) -> str:
    number = facts.get("shortened_total")
    return f", {counted(number, 'texts')} shortened" if isinstance(number, int) and number else ""


def _kept(facts: Facts) -> str:
    if facts.get("action") == "list-kept":
        number = len(facts.get("aside") or [])
        return f"{number or 'nothing'} {'are' if number > 1 else 'is'} kept aside"
    if facts.get("outcome") == "dry-run":
        return f"would remove {kept_thing(facts.get('would_drop'))}"
    return f"removed {kept_thing(facts.get('was'))}"


def kept_thing(item: Any) -> str:
    """One entry of what restores kept aside."""
    if not isinstance(item, dict):
        return "what was kept aside"
    files = f"{'more than ' if item.get('more') else ''}{count(item, 'files')} ({size(item.get('bytes'))})"
    what = f"a database and {files}" if item.get("database") else files
    return f"{item.get('name')}: {what}, kept aside {item.get('time')} for snapshot {item.get('snapshot')}"


def _aside(facts: Facts) -> str:
    return f"; what was there is kept aside as {facts['kept_aside']}" if facts.get("kept_aside") else ""


def _keys(facts: Facts) -> str:
    """That the keys at hand are not those of the snapshot."""
    other = facts.get("other_keys")
    said = "; ".join(str(item) for item in other) if isinstance(other, list) else ""
    return f"; warning: {said}; put the saved key file in its place, then `install --replace-keys`" if said else ""


def _drill(facts: Facts) -> str:
    checks = facts.get("checks") or []
    return (
        f"snapshot {facts.get('snapshot')} was restored into a scratch place and served from there in "
        f"{lasting(facts.get('recovery_seconds'))}; {counted(len(checks), 'checks')} passed, "
        f"{count(facts, 'models_read', 'models')} read back" + _keys(facts)
    )


def _upgrade(facts: Facts) -> str:
    outcome = facts.get("outcome")
    if outcome == "unchanged":
        return f"the schema is current ({facts.get('now') or facts.get('found')})"
    if outcome == "rehearsed":
        number = len(facts.get("migrations") or [])
        if not number:
            return f"the schema stays as it is ({facts.get('to') or facts.get('from')})"
        return (
            f"the schema would go from {facts.get('from')} to {facts.get('to')}: {counted(number, 'migrations')} in "
            f"{lasting(facts.get('migration_seconds'))} on a copy"
        )
    return f"the schema went from {facts.get('found')} to {facts.get('now')}"


_WORDS: Mapping[str, Callable[[Facts], str]] = {
    "Backup create": _create,
    "Backup verify": _verify,
    "Backup list": _list,
    "Backup show": _show,
    "Backup prune": _prune,
    "Restore": _restore,
    "Drill": _drill,
    "DatabaseUpgrade": _upgrade,
}
