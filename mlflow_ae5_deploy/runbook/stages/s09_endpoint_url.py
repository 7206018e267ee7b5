"""Stage 9: the public URL is known."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from mlflow_ae5_deploy.common.errors import StageFailed
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange, Stage


class ReadUrl(Change):
    verb, resource = "read", "the endpoint's URL"


@dataclass(frozen=True)
class EndpointState:
    url: str | None  # None while no deployment runs


class EndpointUrlStage(Stage[EndpointState]):
    number = 9
    name = "endpoint-url"

    def observe(self, context: Context) -> EndpointState:
        deployment = context.outputs.deployment
        url = deployment.url if deployment else context.outputs.url  # the latter only in a plan
        context.outputs.url = url.rstrip("/") if url else None
        return EndpointState(context.outputs.url)

    def check(self, state: EndpointState, context: Context) -> None:
        if state.url is not None and urlsplit(state.url).scheme != "https":
            raise StageFailed(f"The endpoint URL is not https: {state.url}", stage=self.number)

    def diff(self, state: EndpointState) -> Diff:
        if state.url is None:
            return Changes((ReadUrl(reason="known once the deployment runs"),))
        return NoChange(state.url)

    def apply(self, change: Change, state: EndpointState, context: Context) -> None:
        raise StageFailed("The platform does not show the deployment's URL.", stage=self.number)
