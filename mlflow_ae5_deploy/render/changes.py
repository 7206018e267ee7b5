"""The text of changes: what a stage did or would do, and what a person is asked about.

A change's own words are in its class (`phrase`, `reason`, `consequences`; engine/change.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_ae5_deploy.engine.change import Change
    from mlflow_ae5_deploy.engine.stage import StageResult
    from mlflow_ae5_deploy.render.console import Reporter

_UNDER = " " * 22  # where the text of a stage begins
_MARKS = {
    "unchanged": ("=", "green"),
    "changed": ("+", "cyan"),
    "planned": ("+", "yellow"),
    "declined": ("?", "yellow"),
    "failed": ("!", "red"),
}


def show_stage(reporter: Reporter, result: StageResult) -> None:
    """The outcome of a stage, with its changes and warnings."""
    mark, style = _MARKS[result.outcome]
    reporter.hanging(f"{mark} {result.number:>2} {result.name:<16} ", result.reason, style)
    if result.outcome in ("changed", "planned", "declined"):
        tense = "" if result.outcome == "changed" else "would "
        for change in result.changes:
            reporter.hanging(_UNDER, f"{tense}{change.phrase}, because {change.reason}")
            for consequence in change.consequences:
                reporter.hanging(f"{_UNDER}  - ", consequence.text)
    for warning in result.warnings:
        reporter.hanging(_UNDER, f"warning: {warning}", "yellow")


def show_consequences(reporter: Reporter, changes: Sequence[Change]) -> None:
    """What changes that need consent will do; on stderr, because a question follows."""
    for change in changes:
        reporter.note(f"This will {change.phrase}: {change.reason}.", style="yellow")
        for consequence in change.consequences:
            reporter.note(f"  - {consequence.text}")
