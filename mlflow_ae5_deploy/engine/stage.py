"""A stage of the runbook (observe, check, diff, apply, verify), and its results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context

S = TypeVar("S")
NOT_DONE = ("failed", "declined")  # outcomes


@dataclass(frozen=True)
class NoChange:
    """The observed state is the desired one."""

    reason: str
    warnings: tuple[str, ...] = ()
    changes: ClassVar[tuple[Change, ...]] = ()


@dataclass(frozen=True)
class Changes:
    """At least one change, in the order in which they are applied."""

    changes: tuple[Change, ...]
    warnings: tuple[str, ...] = ()


Diff = Changes | NoChange


@dataclass(frozen=True)
class StageResult:
    """How one stage ended. outcome: unchanged | changed | planned | failed | declined. reason: may be empty."""

    number: int
    name: str
    outcome: str
    reason: str
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    partly: bool = False  # it failed, but only with changes for which the rest does not wait

    @property
    def only_waits(self) -> bool:
        """In a plan: nothing would change, but something is not yet as it should be."""
        return self.outcome == "planned" and bool(self.changes) and all(change.waits for change in self.changes)


@dataclass(frozen=True)
class RunResult:
    """A whole run: the stages, the error that ended it, and its cost.

    requests and writes are counted at the session: HTTP requests to the platform, login included, and those of
    them that change it.
    """

    stages: tuple[StageResult, ...]
    error: DeployError | None
    seconds: float
    requests: int
    writes: int

    @property
    def only_partly(self) -> bool:
        """Whether the error is only of changes for which the rest did not wait: all stages were run."""
        return self.error is not None and all(stage.partly for stage in self.stages if stage.outcome in NOT_DONE)

    @property
    def changed(self) -> bool:
        return any(stage.outcome == "changed" for stage in self.stages)

    @property
    def pending(self) -> bool:
        return any(stage.outcome == "planned" for stage in self.stages)


class Stage(Generic[S]):
    """S: its observed state, a frozen class. Only `diff` is pure."""

    number: ClassVar[int]
    name: ClassVar[str]

    def preflight(self, context: Context) -> None:
        """Raise DeployError if this machine lacks something. Sends nothing; runs first."""

    def observe(self, context: Context) -> S:
        raise NotImplementedError

    def check(self, state: S, context: Context) -> None:
        """Raise DeployError where changes must not be made or could not succeed."""

    def diff(self, state: S) -> Diff:
        raise NotImplementedError

    def assume(self, changes: Sequence[Change], state: S, context: Context) -> None:
        """In a plan: let later stages see what will have changed by then."""

    def consent_ahead(self, changes: Sequence[Change], context: Context) -> Sequence[Change]:  # noqa: ARG002
        """Changes of later stages that need consent and cannot wait for it there: these changes end what runs."""
        return ()

    def apply(self, change: Change, state: S, context: Context) -> None:
        """Make one change of `diff`; journal an effect after every changing request."""
        raise NotImplementedError

    def can_fail(self, change: Change, state: S) -> bool:  # noqa: ARG002 - for stages that need it
        """Whether the rest of the run goes on when this change fails; the run then fails at its end."""
        return False

    def partly_done(self, failed: Sequence[tuple[Change, DeployError]], state: S, context: Context) -> DeployError:
        """The error that names the failed changes; it may record them."""
        raise NotImplementedError

    def verify(self, context: Context) -> str | None:  # noqa: ARG002 - for stages that need it
        """Check the result of the changes; a phrase on what was seen beyond them, or None."""
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
