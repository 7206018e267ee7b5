"""What a collection prints, and the fields of its report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from mlflow_ae5_server.common.text import amount, counted
from mlflow_ae5_server.gc.plan import EXPLAINED, GcItem, GcPlan, SkippedItem
from mlflow_ae5_server.gc.row_removal import RemovalCounts

_REPORTED = 50  # skipped items in the report
_KINDS = {"runs": "run", "experiments": "experiment", "logged_models": "logged model"}


def show_plan(plan: GcPlan, older_than: str, dry_run: bool) -> None:
    """Print what goes and why, what stays and why."""
    verb = "would delete" if dry_run else "deleting"
    since = datetime.fromtimestamp(plan.limit / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    print(f"expired: what users deleted before {since} (MLFLOW_TRACKING_GC_TTL {older_than})")
    for key, items in _items(plan).items():
        if not items:
            continue
        sizes = [item.size.bytes for item in items if item.size is not None]
        total = f", {amount(sum(sizes))} of artifacts" if sizes else ""
        print(f"{verb} {counted(len(items), key.replace('_', ' '))}{total}")
        for item in items[:EXPLAINED]:
            size = f"  {amount(item.size.bytes)}" if item.size is not None else ""
            why = plan.reasons.get((item.kind, item.id))
            print(f"  {item.id}{size}" + (f"  {why}" if why else ""))
        show_more(items)
    if not plan.traces and not any(_items(plan).values()):
        print("nothing to delete")
    if plan.traces:
        print(f"{verb} {counted(plan.traces, 'traces')} in these experiments")
    show_skipped(plan.skipped)


def show_skipped(skipped: list[SkippedItem]) -> None:
    for skip in skipped[:EXPLAINED]:
        print(f"{'cannot delete' if skip.failed else 'kept'} {skip.kind} {skip.id}: {skip.why}")
    show_more(skipped)


def show_more(items: Sequence[Any]) -> None:
    if len(items) > EXPLAINED:
        print(f"  and {len(items) - EXPLAINED} more")


def planned_fields(plan: GcPlan) -> dict[str, Any]:
    """The report of a dry run."""
    fields: dict[str, Any] = {}
    for key, items in _items(plan).items():
        failed = plan.failed(_KINDS[key])
        fields[key] = {"due": len(items) + failed, **({"remaining": failed} if failed else {})}
    fields["traces"] = {"due": plan.traces}
    fields["bytes"] = sum(item.size.bytes for item in plan.owners() if item.size is not None)
    return fields | _skipped_fields(plan.skipped)


def removal_fields(plan: GcPlan, counts: RemovalCounts, datasets: int) -> dict[str, Any]:
    """The report of a collection, also of one that was stopped."""
    fields: dict[str, Any] = {}
    for key, items in _items(plan).items():
        removed = counts.removed[_KINDS[key]]
        expired = len(items) + plan.failed(_KINDS[key])
        fields[key] = {"due": expired, "removed": removed, "remaining": expired - removed}
    traces = counts.removed["trace"]
    fields["traces"] = {"due": plan.traces, "removed": traces, "remaining": max(0, plan.traces - traces)}
    fields |= {"datasets": {"removed": datasets}, "rows": counts.rows, "bytes": counts.bytes}
    if counts.resumed:
        fields["finished"] = counts.resumed
    return fields | _skipped_fields([*plan.skipped, *counts.skipped])


def _skipped_fields(items: Iterable[SkippedItem]) -> dict[str, Any]:
    """Skipped items, those that failed first."""
    skips = sorted(items, key=lambda skip: not skip.failed)
    reported = [{"id": skip.id, "kind": skip.kind, "why": skip.why} for skip in skips[:_REPORTED]]
    return {"skipped": reported, "skipped_total": len(skips), "troubles": sum(skip.failed for skip in skips)}


def _items(plan: GcPlan) -> dict[str, list[GcItem]]:
    return {"runs": plan.runs, "experiments": plan.experiments, "logged_models": plan.logged_models}
