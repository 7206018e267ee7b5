"""Stage 10: MLFLOW_TRACKING_URI and MLFLOW_REGISTRY_URI are secrets, both the endpoint's URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlflow_ae5_deploy.common.errors import StageFailed
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Action, Decision
from mlflow_ae5_deploy.resources.secrets import SecretState, observe_secret, setting

NAMES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


@dataclass(frozen=True)
class UrlSecretsState:
    url: str | None
    secrets: tuple[SecretState, ...]


class StoreUrlStage:
    number: ClassVar[int] = 10
    name: ClassVar[str] = "store-url"
    promise: ClassVar[str] = "the URL is stored as a secret for the garbage collection and other consumers"

    def observe(self, context: Context) -> UrlSecretsState:
        url = context.outputs.url
        desired = Secret.public(url) if url else None
        return UrlSecretsState(url, tuple(observe_secret(context, name, desired) for name in NAMES))

    def plan(self, state: UrlSecretsState, context: Context) -> Decision:
        actions = setting(state.secrets)
        return Decision.do(*actions) if actions else Decision.nothing(f"{' and '.join(NAMES)} are stored")

    def apply(self, action: Action, state: UrlSecretsState, context: Context) -> None:
        if state.url is None:
            raise StageFailed("The endpoint's URL is not known.", stage=self.number)
        wrong = {secret.name: Secret.public(state.url) for secret in state.secrets if not secret.right}
        context.store_secrets(context.platform, context.account, wrong)

    def verify(self, context: Context) -> str | None:
        if absent := set(NAMES) - context.cached.secret_names():
            raise StageFailed(f"The platform does not list {', '.join(sorted(absent))}.", stage=self.number)
        return f"{' and '.join(NAMES)} are listed"
