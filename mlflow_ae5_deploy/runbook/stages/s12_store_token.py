"""Stage 12: MLFLOW_TRACKING_TOKEN is a secret, for the service account and each consumer."""

from __future__ import annotations

from typing import ClassVar

from mlflow_ae5_deploy.common.errors import StageFailed
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Action, Decision
from mlflow_ae5_deploy.resources.consumers import TOKEN, ended, lacking, recipients
from mlflow_ae5_deploy.resources.token import store_token

_FOR = f"secret {TOKEN} for "
_NONE = "it holds no token of this deployment"


class StoreTokenStage:
    number: ClassVar[int] = 12
    name: ClassVar[str] = "store-token"
    promise: ClassVar[str] = "the token is a secret of the service account and of each consumer"

    def observe(self, context: Context) -> tuple[str, ...]:
        deployment = context.outputs.deployment
        absent = lacking(context, deployment.id if deployment else None)
        # A token issued in this run goes to everybody: whether issuing one voids the former is not documented.
        fresh = deployment is not None and context.outputs.token_deployment == deployment.id
        return tuple(recipients(context)) if absent and fresh else absent

    def plan(self, state: tuple[str, ...], context: Context) -> Decision:
        if not state:
            everyone = ", ".join(recipients(context))
            return Decision.nothing(f"{TOKEN} of this deployment is stored for {everyone}")
        deployment = context.outputs.deployment
        over = ended(context, deployment.id if deployment else None)
        return Decision.do(
            *(Action("set", _FOR + name, "the one it holds has ended" if name in over else _NONE) for name in state)
        )

    def apply(self, action: Action, state: tuple[str, ...], context: Context) -> None:
        deployment = context.outputs.deployment
        if deployment is None:
            raise StageFailed("There is no deployment whose token could be stored.", stage=self.number)
        store_token(context, action.target.removeprefix(_FOR), deployment)

    def verify(self, context: Context) -> str | None:
        if TOKEN not in context.cached.secret_names():
            raise StageFailed(f"The platform does not list {TOKEN}.", stage=self.number)
        return f"{TOKEN} is stored for {', '.join(recipients(context))}"
