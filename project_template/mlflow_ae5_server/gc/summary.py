"""What a collection says: the plan for people, the facts for the last line."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from mlflow_ae5_server.common.text import amount, counted
from mlflow_ae5_server.gc.orphans import Orphans
from mlflow_ae5_server.gc.plan import EXPLAINED, GcPlan, SkippedItem
from mlflow_ae5_server.gc.removal import RemovalCounts
from mlflow_ae5_server.gc.stores import FoundFolder

_TOLD = 50  # skipped ones in the last line
KINDS = {"runs": "run", "experiments": "experiment", "logged_models": "logged model"}


def show(plan: GcPlan, older_than: str, dry_run: bool) -> None:
    """What goes and why, what stays and why."""
    verb = "would remove" if dry_run else "will remove"
    since = datetime.fromtimestamp(plan.limit / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    print(f"due is what was deleted before {since} (MLFLOW_TRACKING_GC_TTL {older_than})")
    for name, items in (("runs", plan.runs), ("experiments", plan.experiments), ("logged models", plan.logged_models)):
        sizes = [item.size.bytes for item in items if item.size is not None]
        print(f"{verb} {counted(len(items), name)}" + (f", {amount(sum(sizes))} of artifacts" if sizes else ""))
        for item in items[:EXPLAINED]:
            size = f"  {amount(item.size.bytes)}" if item.size is not None else ""
            why = plan.reasons.get((item.kind, item.id))
            print(f"  {item.id}{size}" + (f"  {why}" if why else ""))
        _more(len(items))
    if plan.traces:
        print(f"{verb} {counted(plan.traces, 'traces')} of these experiments")
    show_skipped(plan.skipped)


def show_skipped(skipped: list[SkippedItem]) -> None:
    for skip in skipped[:EXPLAINED]:
        if skip.trouble:
            print(f"cannot remove {skip.kind} {skip.id}: {skip.why}")
        else:
            print(f"keeps {skip.kind} {skip.id}: {skip.why}")
    _more(len(skipped))


def show_orphans(orphans: Orphans, removing: bool) -> None:
    verb = "removes" if removing else "found"
    print(f"{verb} {counted(len(orphans.old), 'artifact folders')} without a row, {amount(_sum(orphans.old))}")
    for found in orphans.old[:EXPLAINED]:
        print(f"  {found.path}  {amount(found.size.bytes)}")
    _more(len(orphans.old))
    if orphans.young:
        print(f"keeps {len(orphans.young)} more, which were written to lately")


def _more(number: int) -> None:
    if number > EXPLAINED:
        print(f"  and {number - EXPLAINED} more")


def planned(plan: GcPlan) -> dict[str, Any]:
    """Facts of a dry run."""
    return {
        **{key: _due(plan, key, items) for key, items in _items(plan)},
        "traces": {"due": plan.traces},
        "bytes": sum(item.size.bytes for item in plan.owners() if item.size is not None),
        **skipped(plan.skipped),
    }


def done(plan: GcPlan, tally: RemovalCounts, datasets: int) -> dict[str, Any]:
    """Facts of a collection, or of what was done of it."""
    fields: dict[str, Any] = {}
    for key, items in _items(plan):
        removed = tally.removed[KINDS[key]]
        due = len(items) + plan.stuck(KINDS[key])
        fields[key] = {"due": due, "removed": removed, "remaining": due - removed}
    traces = tally.removed["trace"]
    fields["traces"] = {"due": plan.traces, "removed": traces, "remaining": max(0, plan.traces - traces)}
    fields |= {"datasets": {"removed": datasets}, "rows": tally.rows, "bytes": tally.bytes}
    if tally.finished:
        fields["finished"] = tally.finished
    return fields | skipped([*plan.skipped, *tally.skipped])


def _due(plan: GcPlan, key: str, items: list[Any]) -> dict[str, int]:
    """left: those of them that cannot go."""
    left = plan.stuck(KINDS[key])
    return {"due": len(items) + left, **({"remaining": left} if left else {})}


def skipped(items: Iterable[SkippedItem]) -> dict[str, Any]:
    """What stays, troubles first."""
    found = sorted(items, key=lambda skip: not skip.trouble)
    told = [{"id": skip.id, "kind": skip.kind, "why": skip.why} for skip in found[:_TOLD]]
    return {"skipped": told, "skipped_total": len(found), "troubles": sum(skip.trouble for skip in found)}


def orphan_fields(mode: str, orphans: Orphans, removed: list[FoundFolder], held: str) -> dict[str, Any]:
    return {
        "mode": mode,
        "folders": len(orphans.old) + len(orphans.young),
        "recent": len(orphans.young),
        "bytes": _sum(orphans.old),
        "removed": len(removed),
        "removed_bytes": _sum(removed),
        "remaining": len(orphans.old) - len(removed),
        **({"guard": held} if held else {}),
    }


def _sum(found: Iterable[FoundFolder]) -> int:
    return sum(item.size.bytes for item in found)


def _items(plan: GcPlan) -> tuple[tuple[str, list[Any]], ...]:
    return (("runs", plan.runs), ("experiments", plan.experiments), ("logged_models", plan.logged_models))
