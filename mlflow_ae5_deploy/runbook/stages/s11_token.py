"""Stage 11: an access token for this very deployment exists and works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlflow_ae5_deploy.errors import StageFailed
from mlflow_ae5_deploy.runbook.context import Context
from mlflow_ae5_deploy.runbook.health import await_health
from mlflow_ae5_deploy.runbook.model import Action, Decision
from mlflow_ae5_deploy.runbook.recipients import lacking


@dataclass(frozen=True)
class Facts:
    """lacking: accounts for which no token of this deployment is on record."""

    deployment_id: str | None
    lacking: tuple[str, ...]


class Token:
    number: ClassVar[int] = 11
    name: ClassVar[str] = "token"
    promise: ClassVar[str] = "an access token for this very deployment exists and works"

    def observe(self, context: Context) -> Facts:
        deployment = context.found.deployment
        return Facts(deployment.id if deployment else None, lacking(context, deployment.id if deployment else None))

    def plan(self, facts: Facts, context: Context) -> Decision:
        if facts.deployment_id is None:
            return Decision.do(Action("issue", "a token", "possible once the deployment runs"))
        if facts.lacking:
            return Decision.do(
                Action(
                    "issue",
                    "a token",
                    f"none of deployment {facts.deployment_id} is on record for {', '.join(facts.lacking)}",
                )
            )
        return Decision.nothing(f"a token of deployment {facts.deployment_id} is on record")

    def apply(self, action: Action, facts: Facts, context: Context) -> None:
        deployment = context.found.deployment
        if deployment is None:
            raise StageFailed("There is no deployment to issue a token for.", stage=self.number)
        await_health(context, deployment)

    def verify(self, context: Context) -> str | None:
        return "a new token opens the endpoint, proved by a call that reaches the database"
