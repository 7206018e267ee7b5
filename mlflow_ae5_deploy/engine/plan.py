"""Results of a diff, of a stage and of a run, as data to render."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from mlflow_ae5_deploy.common.errors import DeployError
    from mlflow_ae5_deploy.engine.change import Change


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
    """How one stage ended. outcome: unchanged | changed | planned | failed | declined."""

    number: int
    name: str
    outcome: str
    reason: str
    changes: tuple[Change, ...] = ()
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
