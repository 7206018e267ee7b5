"""One step of the runbook: observe, check, diff, apply, verify."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Diff

S = TypeVar("S")


class Stage(Generic[S]):
    """S is the stage's observed state, a frozen class. Only `diff` is pure: it sees nothing but that state."""

    number: ClassVar[int]
    name: ClassVar[str]
    promise: ClassVar[str]

    def preflight(self, context: Context) -> None:
        """Raise DeployError if this machine lacks something. Sends nothing; called before any stage observes."""

    def observe(self, context: Context) -> S:
        raise NotImplementedError

    def check(self, state: S, context: Context) -> None:
        """Raise DeployError where the changes must not be made or could not succeed. May ask the platform."""

    def diff(self, state: S) -> Diff:
        raise NotImplementedError

    def assume(self, changes: Sequence[Change], state: S, context: Context) -> None:
        """In a preview: let later stages see what will have changed by then."""

    def apply(self, change: Change, state: S, context: Context) -> None:
        """Make one change of `diff`. Write an effect to the journal after every request that changes something."""
        raise NotImplementedError

    def verify(self, context: Context) -> str | None:  # noqa: ARG002 - for stages that need it
        """Check the promise after a change; a sentence of what was seen, or None when apply has seen it."""
        return None


def compare(stage: Stage[S], context: Context) -> tuple[S, Diff]:
    """Observe, check, diff. Raises what observing and checking raise."""
    state = stage.observe(context)
    stage.check(state, context)
    diff = stage.diff(state)
    if context.options.dry and diff.changes:
        stage.assume(diff.changes, state, context)
    return state, diff


AnyStage = Stage[Any]
