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
    not_stored,
    recipients,
    store_token,
    unrecorded,
    without_token,
)

_MAY_INVALIDATE = "the new one may invalidate the stored one"


@dataclass(frozen=True)
class StoredTokenState:
    recipients: tuple[str, ...]
    lacking: Mapping[str, str]  # see `without_token`
    unrecorded: Mapping[str, str] = field(default_factory=dict)  # see `unrecorded`


class StoreTokenStage(Stage[StoredTokenState]):
    number = 12
    name = "store-token"

    def observe(self, context: Context) -> StoredTokenState:
        deployment = context.outputs.deployment
        identity = deployment.id if deployment else None
        lacking = without_token(context, identity)
        return StoredTokenState(tuple(recipients(context)), lacking, unrecorded(context, identity))

    def preflight(self, context: Context) -> None:
        check_recipients(context)

    def diff(self, state: StoredTokenState) -> Diff:
        """A new token goes to everybody: whether issuing one invalidates the previous is not documented."""
        if not state.lacking:
            return NoChange(f"{TOKEN} is stored for {', '.join(state.recipients)}")
        unsure = not dict(state.lacking).items() - dict(state.unrecorded).items()
        reasons = {name: state.lacking.get(name, _MAY_INVALIDATE) for name in state.recipients}
        return Changes(
            tuple(
                StoreToken(name=name, reason=reason, guess=unsure or reason == state.unrecorded.get(name))
                for name, reason in reasons.items()
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
