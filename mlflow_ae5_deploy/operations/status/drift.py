"""Drift from the configuration: what each stage would change as things are now, with nothing done.

An install stops at the first error, because later stages build on earlier ones; this goes on, because `status` shows
all of it. And it assumes no change of an earlier stage, as a plan does: what follows from one does not differ now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import AnyStage, Diff, NoChange

SAME, DIFFERS, UNKNOWN = "same", "differs", "unknown"
SIGN_IN = 3  # up to this stage an error means that nothing can be observed at all


@dataclass(frozen=True)
class StageDrift:
    """One stage, compared with the configuration. changes: what `install` would do."""

    number: int
    name: str
    state: str
    """SAME, DIFFERS, or UNKNOWN: it could not be compared from here."""
    message: str
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()


def compare_stages(stages: Sequence[AnyStage], context: Context) -> list[StageDrift]:
    """Raises the errors of the first three stages: unreachable, not signed in, no such account."""
    drift: list[StageDrift] = []
    for stage in stages:
        try:
            state = stage.observe(context)
            stage.check(state, context)
        except DeployError as error:
            if stage.number <= SIGN_IN:
                raise
            drift.append(StageDrift(stage.number, stage.name, UNKNOWN, error.what))
            continue
        drift.append(drift_of(stage.number, stage.name, stage.diff(state)))
    return drift


def drift_of(number: int, name: str, diff: Diff) -> StageDrift:
    """Pure: one stage's diff, seen as drift."""
    if isinstance(diff, NoChange):
        return StageDrift(number, name, SAME, diff.reason, (), diff.warnings)
    if all(change.guess for change in diff.changes):  # requested only because this machine does not know better
        state = UNKNOWN
    else:  # whether the platform has the content of local files, stage 6 compares
        state = SAME if all(change.local or change.waits for change in diff.changes) else DIFFERS
    message = "; ".join(change.sentence for change in diff.changes)
    return StageDrift(number, name, state, message, diff.changes, diff.warnings)
