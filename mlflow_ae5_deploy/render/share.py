"""Sharing, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from mlflow_ae5_deploy.render.format import Mark

if TYPE_CHECKING:
    from mlflow_ae5_deploy.operations.share import ShareChange, ShareResult
    from mlflow_ae5_deploy.render.console import Reporter


def show_sharing(reporter: Reporter, shared: tuple[ShareResult, ...], change: ShareChange | None) -> None:
    """change: None where sharing was only listed."""
    if change is not None:
        for one in change.changes:
            reporter.marked(Mark.CHANGE, one.phrase)
        if not change.changes:
            reporter.marked(Mark.OK, "Unchanged")
    reporter.line("Shared with" if shared else "Shared with nobody")
    for item in shared:
        reporter.line(f"  {item.kind:<5}  {item.name}" + ("" if item.configured else " (not in the configuration)"))
    for note in change.notes if change else ():
        reporter.warning(note)
    reporter.document(
        "share",
        "done" if change is None else "changed" if change.changes else "unchanged",
        changes=[one.data() for one in change.changes] if change else [],
        shared=[asdict(item) for item in shared],
        notes=list(change.notes) if change else [],
    )
