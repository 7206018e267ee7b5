"""What a stage is, and what it can decide: data that can be shown before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_ae5_deploy.common.errors import DeployError


@dataclass(frozen=True)
class NoChange:
    """Nothing to do, and why."""

    reason: str


@dataclass(frozen=True)
class Action:
    """One thing to do.

    verb and target read as a phrase ("set", "secret MLFLOW_TRACKING_URI"); reason says why it is needed.
    consequences: what else it means (downtime, a new id); only for actions that need the administrator's consent.
    """

    verb: str
    target: str
    reason: str
    consequences: tuple[str, ...] = ()

    @property
    def needs_consent(self) -> bool:
        return bool(self.consequences)

    @property
    def phrase(self) -> str:
        return f"{self.verb} {self.target}"


@dataclass(frozen=True)
class Decision:
    """The outcome of `plan`: actions in order, or a reason for having none; warnings either way."""

    actions: tuple[Action, ...] = ()
    no_change: NoChange | None = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def nothing(cls, reason: str, *warnings: str) -> Decision:
        return cls(no_change=NoChange(reason), warnings=tuple(warnings))

    @classmethod
    def do(cls, *actions: Action, warnings: Sequence[str] = ()) -> Decision:
        return cls(actions=tuple(actions), warnings=tuple(warnings))


@dataclass(frozen=True)
class StageResult:
    """How one stage ended. outcome: unchanged | changed | planned | failed | declined."""

    number: int
    name: str
    outcome: str
    reason: str
    actions: tuple[Action, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class RunResult:
    """A whole run: every stage that was reached, the error that ended it early, and what it cost.

    requests and writes are counted at the session: HTTP requests to the platform, login included, and those of
    them that change it.
    """

    stages: tuple[StageResult, ...]
    error: DeployError | None
    seconds: float
    requests: int
    writes: int

    @property
    def changed(self) -> bool:
        return any(stage.outcome == "changed" for stage in self.stages)

    @property
    def pending(self) -> bool:
        return any(stage.outcome == "planned" for stage in self.stages)
