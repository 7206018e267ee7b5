"""Stage 12: each account has the token in MLFLOW_TRACKING_TOKEN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlflow_ae5_deploy.common.errors import DeployError, StageFailed
from mlflow_ae5_deploy.common.variable_names import TOKEN
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange, Stage
from mlflow_ae5_deploy.resources.token import (
    StoreToken,
    check_recipients,
    expired,
    not_stored,
    recipients,
    store_token,
    unrecorded,
    without_token,
)


@dataclass(frozen=True)
class StoredTokenState:
    recipients: tuple[str, ...]
    accounts: tuple[str, ...]  # that are given the token
    expired: frozenset[str] = frozenset()  # those of them whose stored token has expired
    unrecorded: Mapping[str, str] = field(default_factory=dict)  # see `unrecorded`
    fresh: bool = False  # this run has issued a token


class StoreTokenStage(Stage[StoredTokenState]):
    number = 12
    name = "store-token"

    def observe(self, context: Context) -> StoredTokenState:
        deployment = context.outputs.deployment
        identity = deployment.id if deployment else None
        everyone, absent = tuple(recipients(context)), without_token(context, identity)
        # A token issued in this run goes to everybody: whether issuing one invalidates the previous is not documented.
        fresh = identity is not None and context.outputs.token_deployment == identity
        accounts = everyone if absent and fresh else absent
        over = frozenset(expired(context, identity))
        return StoredTokenState(everyone, accounts, over, unrecorded(context, identity), fresh)

    def preflight(self, context: Context) -> None:
        check_recipients(context)

    def diff(self, state: StoredTokenState) -> Diff:
        if not state.accounts:
            return NoChange(f"{TOKEN} is stored for {', '.join(state.recipients)}")
        usual = "the deployment has a new one" if state.fresh else "no valid one stored"
        return Changes(
            tuple(
                StoreToken(name=name, reason="the stored one has expired")
                if name in state.expired
                else StoreToken(name=name, reason=state.unrecorded.get(name, usual), guess=name in state.unrecorded)
                for name in state.accounts
            )
        )

    def apply(self, change: Change, state: StoredTokenState, context: Context) -> None:
        deployment = context.outputs.deployment
        if deployment is None:
            raise StageFailed("There is no deployment.", stage=self.number)
        store_token(context, change.name, deployment)

    def can_fail(self, change: Change, state: StoredTokenState) -> bool:
        """Only the account's own is needed by all else."""
        return change.name != state.recipients[0]

    def partly_done(
        self, failed: Sequence[tuple[Change, DeployError]], state: StoredTokenState, context: Context
    ) -> DeployError:
        errors = {change.name: error for change, error in failed}
        if (deployment := context.outputs.deployment) is not None:
            context.state.record_recipients_left(deployment.id, list(errors))
        return not_stored(errors, len(state.recipients), again="`rotate-token`")

    def verify(self, context: Context) -> str | None:
        if TOKEN not in context.cached.secret_names():
            raise StageFailed(f"The platform does not list {TOKEN}.", stage=self.number)
        return None
