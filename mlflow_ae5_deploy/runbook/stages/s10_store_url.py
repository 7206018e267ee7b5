"""Stage 10: the URL is stored in MLFLOW_TRACKING_URI and MLFLOW_REGISTRY_URI."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_ae5_deploy.common.errors import StageFailed
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange, Stage
from mlflow_ae5_deploy.resources.secrets import SecretState, SetSecrets, observe_secret, setting

NAMES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


@dataclass(frozen=True)
class UrlSecretsState:
    url: str | None
    secrets: tuple[SecretState, ...]


class StoreUrlStage(Stage[UrlSecretsState]):
    number = 10
    name = "store-url"

    def observe(self, context: Context) -> UrlSecretsState:
        url = context.outputs.url
        desired = Secret.public(url) if url else None
        return UrlSecretsState(url, tuple(observe_secret(context, name, desired) for name in NAMES))

    def diff(self, state: UrlSecretsState) -> Diff:
        changes = setting(state.secrets)
        return Changes(tuple(changes)) if changes else NoChange(f"{' and '.join(NAMES)} are stored")

    def apply(self, change: Change, state: UrlSecretsState, context: Context) -> None:
        if state.url is None:
            raise StageFailed("The endpoint URL is unknown.", stage=self.number)
        if isinstance(change, SetSecrets):
            url = Secret.public(state.url)
            context.store_secrets(context.platform, context.account, dict.fromkeys(change.names, url))

    def verify(self, context: Context) -> str | None:
        if absent := set(NAMES) - context.cached.secret_names():
            raise StageFailed(f"The platform does not list {', '.join(sorted(absent))}.", stage=self.number)
        return None
