"""Stage 11: an access token for this deployment exists and works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlflow_ae5_deploy.common.errors import StageFailed
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange, Stage
from mlflow_ae5_deploy.resources.health import await_health
from mlflow_ae5_deploy.resources.token import IssueToken, unrecorded, without_token


@dataclass(frozen=True)
class TokenState:
    deployment_id: str | None
    lacking: Mapping[str, str]  # see `without_token`
    unrecorded: Mapping[str, str] = field(default_factory=dict)  # see `unrecorded`


class TokenStage(Stage[TokenState]):
    number = 11
    name = "token"

    def observe(self, context: Context) -> TokenState:
        deployment = context.outputs.deployment
        identity = deployment.id if deployment else None
        return TokenState(identity, without_token(context, identity), unrecorded(context, identity))

    def diff(self, state: TokenState) -> Diff:
        if state.deployment_id is None:
            return Changes((IssueToken(reason="not possible before the deployment runs"),))
        if not state.lacking:
            return NoChange("a token of this deployment is stored")
        reason = "; ".join(dict.fromkeys(state.lacking.values()))
        guess = not dict(state.lacking).items() - dict(state.unrecorded).items()
        return Changes((IssueToken(id=state.deployment_id, reason=reason, guess=guess),))

    def apply(self, change: Change, state: TokenState, context: Context) -> None:
        """Issue the token, unless stage 8 has in this run, and test it: `await_health` does both."""
        deployment = context.outputs.deployment
        if deployment is None:
            raise StageFailed("There is no deployment to issue a token for.", stage=self.number)
        await_health(context, deployment)

    def verify(self, context: Context) -> str | None:
        return "tested: the MLflow API accepts it"
