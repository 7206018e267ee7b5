"""`status`: observe, judge, and compare with the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mlflow_ae5_deploy.common.errors import LoginFailed
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import AnyStage
from mlflow_ae5_deploy.operations.health_problem import ERROR, WARNING, HealthProblem
from mlflow_ae5_deploy.operations.status.drift import DIFFERS, SIGN_IN, UNKNOWN, StageDrift, compare_stages
from mlflow_ae5_deploy.operations.status.observe import observe
from mlflow_ae5_deploy.operations.status.problems import problems
from mlflow_ae5_deploy.operations.status.state import InstallationState


@dataclass(frozen=True)
class Status:
    """Result of one observation. problems: errors first. stages: each compared with the configuration."""

    observed: datetime
    host: str
    account: str
    project: str
    state: InstallationState
    problems: tuple[HealthProblem, ...]
    stages: tuple[StageDrift, ...]
    requests: int
    seconds: float

    @property
    def errors(self) -> list[HealthProblem]:
        return [problem for problem in self.problems if problem.severity == ERROR]

    @property
    def warnings(self) -> list[HealthProblem]:
        return [problem for problem in self.problems if problem.severity == WARNING]

    @property
    def healthy(self) -> bool:
        return not self.errors

    @property
    def drift(self) -> list[StageDrift]:
        return [stage for stage in self.stages if stage.state == DIFFERS]

    @property
    def not_compared(self) -> list[StageDrift]:
        return [stage for stage in self.stages if stage.state == UNKNOWN]


def status(context: Context, stages: Sequence[AnyStage], token: Secret | None = None) -> Status:
    """Observe once; token: see observe. Raises PlatformError when the platform cannot be reached or signed in to.

    An account that an administrator does not find is no error here: nothing is installed.
    """
    began, before = context.clock.worked(), context.access.costs()[0]
    context.cached.forget()
    context.progress.waiting(context.access.target.options.hostname)
    try:
        drift = compare_stages([stage for stage in stages if stage.number <= SIGN_IN], context)
    except LoginFailed:
        if not context.access.account_missing:
            raise
        drift = []
    state = observe(context, token)
    drift += compare_stages([stage for stage in stages if stage.number > SIGN_IN], context)
    now = context.clock.now()
    return Status(
        observed=now,
        host=context.access.target.options.hostname,
        account=context.account,
        project=context.settings.project.name,
        state=state,
        problems=tuple(problems(state, drift, now)),
        stages=tuple(drift),
        requests=context.access.costs()[0] - before,
        seconds=context.clock.worked() - began,
    )
