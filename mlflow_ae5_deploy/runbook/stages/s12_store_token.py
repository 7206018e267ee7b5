"""Stage 12: MLFLOW_TRACKING_TOKEN is a secret, for the service account and each consumer."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_ae5_deploy.common.errors import StageFailed
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Changes, Diff, NoChange
from mlflow_ae5_deploy.engine.stage import Stage
from mlflow_ae5_deploy.resources.consumers import TOKEN, ended, lacking, recipients, token_is_on_record
from mlflow_ae5_deploy.resources.token import StoreToken, store_token


@dataclass(frozen=True)
class StoredTokenState:
    """accounts: that are given the token. expired: those of them whose stored token has ended. on_record: see
    `token_is_on_record`."""

    recipients: tuple[str, ...]
    accounts: tuple[str, ...]
    expired: frozenset[str] = frozenset()
    on_record: bool = True


class StoreTokenStage(Stage[StoredTokenState]):
    number = 12
    name = "store-token"
    promise = "the token is a secret of the service account and of each consumer"

    def observe(self, context: Context) -> StoredTokenState:
        deployment = context.outputs.deployment
        identity = deployment.id if deployment else None
        everyone, absent = tuple(recipients(context)), lacking(context, identity)
        # A token issued in this run goes to everybody: whether issuing one invalidates the previous is not documented.
        fresh = identity is not None and context.outputs.token_deployment == identity
        accounts = everyone if absent and fresh else absent
        return StoredTokenState(everyone, accounts, frozenset(ended(context, identity)), token_is_on_record(context))

    def diff(self, state: StoredTokenState) -> Diff:
        if not state.accounts:
            return NoChange(f"{TOKEN} of this deployment is stored for {', '.join(state.recipients)}")
        return Changes(
            tuple(
                StoreToken(
                    name=name,
                    reason="the one it holds has ended"
                    if name in state.expired
                    else "it holds no token of this deployment",
                    guess=not state.on_record,
                )
                for name in state.accounts
            )
        )

    def apply(self, change: Change, state: StoredTokenState, context: Context) -> None:
        deployment = context.outputs.deployment
        if deployment is None:
            raise StageFailed("There is no deployment whose token could be stored.", stage=self.number)
        store_token(context, change.name, deployment)

    def verify(self, context: Context) -> str | None:
        if TOKEN not in context.cached.secret_names():
            raise StageFailed(f"The platform does not list {TOKEN}.", stage=self.number)
        return f"{TOKEN} is stored for {', '.join(recipients(context))}"
