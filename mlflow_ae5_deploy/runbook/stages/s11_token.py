"""Stage 11: an access token for this very deployment exists and works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from mlflow_ae5_deploy.common.errors import StageFailed
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Action, Decision
from mlflow_ae5_deploy.resources.consumers import TOKEN, ended, lacking
from mlflow_ae5_deploy.resources.health import await_health


@dataclass(frozen=True)
class TokenState:
    """lacking: accounts for which no token of this deployment is on record that is still good. unlisted: the platform
    does not list the secret any more, though a token was stored. ended: when the token of some of them ended."""

    deployment_id: str | None
    lacking: tuple[str, ...]
    unlisted: bool
    ended: Mapping[str, datetime] = field(default_factory=dict)


class TokenStage:
    number: ClassVar[int] = 11
    name: ClassVar[str] = "token"
    promise: ClassVar[str] = "an access token for this very deployment exists and works"

    def observe(self, context: Context) -> TokenState:
        deployment = context.outputs.deployment
        identity = deployment.id if deployment else None
        stored = identity is not None and context.memory.token_stored_for(context.account) == identity
        unlisted = stored and TOKEN not in context.cached.secret_names()
        return TokenState(identity, lacking(context, identity), unlisted, ended(context, identity))

    def plan(self, state: TokenState, context: Context) -> Decision:
        if state.deployment_id is None:
            return Decision.do(Action("issue", "a token", "possible once the deployment runs"))
        if state.unlisted:
            return Decision.do(
                Action("issue", "a token", f"the secret {TOKEN} is gone, and a token cannot be read back")
            )
        if state.lacking:
            return Decision.do(Action("issue", "a token", _why(state)))
        return Decision.nothing(f"a token of deployment {state.deployment_id} is on record")

    def apply(self, action: Action, state: TokenState, context: Context) -> None:
        deployment = context.outputs.deployment
        if deployment is None:
            raise StageFailed("There is no deployment to issue a token for.", stage=self.number)
        await_health(context, deployment)

    def verify(self, context: Context) -> str | None:
        return "a new token opens the endpoint, proved by a call that reaches the database"


def _why(state: TokenState) -> str:
    reasons = [f"the one stored for {name} ended on {end:%Y-%m-%d %H:%M} UTC" for name, end in state.ended.items()]
    if without := [name for name in state.lacking if name not in state.ended]:
        reasons.append(f"none of deployment {state.deployment_id} is on record for {', '.join(without)}")
    return "; ".join(reasons)
