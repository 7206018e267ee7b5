"""The accounts that need the token: the service account and each consumer."""

from __future__ import annotations

from datetime import datetime

from mlflow_ae5_deploy.engine.context import Context

TOKEN = "MLFLOW_TRACKING_TOKEN"  # noqa: S105 - the name of a secret, not its value


def recipients(context: Context) -> list[str]:
    """Account names, the service account first."""
    return [context.account, *(consumer.username for consumer in context.settings.consumers)]


def expired(context: Context, deployment_id: str | None) -> dict[str, datetime]:
    """When the token of a recipient expired, of those whose token of this deployment has."""
    now, accounts = context.clock.now(), recipients(context)
    return {
        token.account: token.expires
        for token in context.state.tokens.values()
        if token.account in accounts
        and token.deployment_id == deployment_id
        and token.expires is not None
        and token.expires <= now
    }


def without_token(context: Context, deployment_id: str | None) -> tuple[str, ...]:
    """The recipients without a recorded, valid token of this deployment."""
    if deployment_id is None:
        return tuple(recipients(context))
    over = expired(context, deployment_id)
    stored = {token.account for token in context.state.tokens.values() if token.deployment_id == deployment_id}
    lacking = [name for name in recipients(context) if name in over or name not in stored]
    if context.account not in lacking and TOKEN not in context.cached.secret_names():
        lacking.insert(0, context.account)
    return tuple(lacking)


def token_is_on_record(context: Context) -> bool:
    """False where a token is stored, and from another machine."""
    return bool(context.state.tokens) or TOKEN not in context.cached.secret_names()
