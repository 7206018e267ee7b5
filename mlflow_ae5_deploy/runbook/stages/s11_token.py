"""Stage 11: an access token for this very deployment exists and works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mlflow_ae5_deploy.common.errors import StageFailed
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Changes, Diff, NoChange
from mlflow_ae5_deploy.engine.stage import Stage
from mlflow_ae5_deploy.resources.consumers import TOKEN, ended, lacking, token_is_on_record
from mlflow_ae5_deploy.resources.health import await_health
from mlflow_ae5_deploy.resources.token import IssueToken


@dataclass(frozen=True)
class TokenState:
    """lacking: accounts for which no token of this deployment is on record that is still good. unlisted: the platform
    does not list the secret any more, though a token was stored. ended: when the token of some of them ended.
    on_record: see `token_is_on_record`."""

    deployment_id: str | None
    lacking: tuple[str, ...]
    unlisted: bool
    ended: Mapping[str, datetime] = field(default_factory=dict)
    on_record: bool = True


class TokenStage(Stage[TokenState]):
    number = 11
    name = "token"
    promise = "an access token for this very deployment exists and works"

    def observe(self, context: Context) -> TokenState:
        deployment = context.outputs.deployment
        identity = deployment.id if deployment else None
        own = context.state.tokens.get(context.account)
        stored = own is not None and own.deployment_id == identity
        unlisted = stored and TOKEN not in context.cached.secret_names()
        return TokenState(
            identity,
            lacking(context, identity),
            unlisted,
            ended(context, identity),
            token_is_on_record(context),
        )

    def diff(self, state: TokenState) -> Diff:
        if state.deployment_id is None:
            reason = "possible once the deployment runs"
        elif state.unlisted:
            reason = f"the secret {TOKEN} is gone, and a token cannot be read back"
        elif state.lacking:
            reason = _why(state)
        else:
            return NoChange(f"a token of deployment {state.deployment_id} is on record")
        return Changes((IssueToken(id=state.deployment_id or "", reason=reason, guess=not state.on_record),))

    def apply(self, change: Change, state: TokenState, context: Context) -> None:
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
