"""Stage 9: the public URL is known."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import urlsplit

from mlflow_ae5_deploy.common.errors import StageFailed
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Action, Decision


class EndpointUrlStage:
    number: ClassVar[int] = 9
    name: ClassVar[str] = "endpoint-url"
    promise: ClassVar[str] = "the public URL is known"

    def observe(self, context: Context) -> str | None:
        deployment = context.outputs.deployment
        return deployment.url if deployment else context.outputs.url  # the latter only in a forecast

    def plan(self, state: str | None, context: Context) -> Decision:
        if state is None:
            return Decision.do(Action("read", "the endpoint's URL", "known once the deployment runs"))
        if urlsplit(state).scheme != "https":
            raise StageFailed(f"The platform gives an endpoint URL that is not https: {state}", stage=self.number)
        context.outputs.url = state.rstrip("/")
        return Decision.nothing(context.outputs.url)

    def apply(self, action: Action, state: str | None, context: Context) -> None:
        raise StageFailed("The platform does not tell the deployment's URL.", stage=self.number)

    def verify(self, context: Context) -> str | None:
        return None
