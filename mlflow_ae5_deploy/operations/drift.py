"""What differs from the configuration: every stage's own decision, with nothing done and no stage left out.

Unlike the runner, which stops at the first error because later stages build on earlier ones, this goes on: whoever
asks how things are wants to hear all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Changes, Diff, NoChange
from mlflow_ae5_deploy.engine.stage import AnyStage, compare

SAME, DIFFERS, UNKNOWN = "same", "differs", "unknown"
SIGN_IN = 3  # up to this stage an error means that nothing can be seen at all


@dataclass(frozen=True)
class StageView:
    """state: same | differs | unknown (could not be compared from here). changes: what install would do."""

    number: int
    name: str
    state: str
    message: str
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()


def forecast(stages: Sequence[AnyStage], context: Context) -> list[StageView]:
    """Raises the errors of the first three stages: unreachable, not signed in, no such account."""
    views: list[StageView] = []
    for stage in stages:
        try:
            _, diff = compare(stage, context)
        except DeployError as error:
            if stage.number <= SIGN_IN:
                raise
            views.append(StageView(stage.number, stage.name, UNKNOWN, error.what))
            continue
        views.append(view(stage.number, stage.name, diff))
    return views


def view(number: int, name: str, diff: Diff) -> StageView:
    """Pure: one stage's diff, seen as drift."""
    if isinstance(diff, NoChange):
        return StageView(number, name, SAME, diff.reason, (), diff.warnings)
    message = "; ".join(reasoned(change) for change in diff.changes)
    return StageView(number, name, _state(diff), message, diff.changes, diff.warnings)


def reasoned(change: Change) -> str:
    return f"{change.phrase}, because {change.reason}"


def _state(diff: Changes) -> str:
    """A change that only this machine's lack of knowledge asks for is no sign of a difference."""
    if all(change.guess for change in diff.changes):
        return UNKNOWN
    # Whether the platform has what the files on this machine give, stage 6 says.
    return SAME if all(change.local for change in diff.changes) else DIFFERS
