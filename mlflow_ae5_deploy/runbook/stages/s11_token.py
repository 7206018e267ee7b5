"""Stage 11: an access token for this deployment exists and works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mlflow_ae5_deploy.common.errors import StageFailed
from mlflow_ae5_deploy.common.variable_names import TOKEN
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange, Stage
from mlflow_ae5_deploy.resources.health import await_health
from mlflow_ae5_deploy.resources.token import IssueToken, expired, unrecorded, without_token


@dataclass(frozen=True)
class TokenState:
    deployment_id: str | None
    lacking: tuple[str, ...]  # accounts without a recorded, valid token of this deployment
    unlisted: bool  # a token was stored, and the platform does not list the secret any more
    expired: Mapping[str, datetime] = field(default_factory=dict)  # and when
    unrecorded: Mapping[str, str] = field(default_factory=dict)  # see `unrecorded`


class TokenStage(Stage[TokenState]):
    number = 11
    name = "token"

    def observe(self, context: Context) -> TokenState:
        deployment = context.outputs.deployment
        identity = deployment.id if deployment else None
        own = context.state.tokens.get(context.account)
        stored = own is not None and own.deployment_id == identity
        unlisted = stored and TOKEN not in context.cached.secret_names()
        return TokenState(
            identity,
            without_token(context, identity),
            unlisted,
            expired(context, identity),
            unrecorded(context, identity),
        )

    def diff(self, state: TokenState) -> Diff:
        if state.deployment_id is None:
            reason = "not possible before the deployment runs"
        elif state.unlisted:
            reason = f"the secret {TOKEN} was deleted"
        elif state.lacking:
            reason = _why(state)
        else:
            return NoChange("a token of this deployment is stored")
        guess = bool(state.lacking) and all(
            name in state.unrecorded and name not in state.expired for name in state.lacking
        )
        return Changes((IssueToken(id=state.deployment_id or "", reason=reason, guess=guess),))

    def apply(self, change: Change, state: TokenState, context: Context) -> None:
        """Issue the token, unless stage 8 has in this run, and test it: `await_health` does both."""
        deployment = context.outputs.deployment
        if deployment is None:
            raise StageFailed("There is no deployment to issue a token for.", stage=self.number)
        await_health(context, deployment)

    def verify(self, context: Context) -> str | None:
        return "tested: the MLflow API accepts it"


def _why(state: TokenState) -> str:
    reasons = [f"the token of {name} expired {end:%Y-%m-%d %H:%M} UTC" for name, end in state.expired.items()]
    lacking = (name for name in state.lacking if name not in state.expired)
    reasons += (state.unrecorded.get(name, "none stored for this deployment") for name in lacking)
    return "; ".join(dict.fromkeys(reasons))
