"""Who needs the token: the service account and each consumer."""

from __future__ import annotations

from datetime import datetime

from mlflow_ae5_deploy.engine.context import Context

TOKEN = "MLFLOW_TRACKING_TOKEN"  # noqa: S105 - the name of a secret, not its value


def recipients(context: Context) -> list[str]:
    """Account names, the service account first."""
    return [context.account, *(consumer.username for consumer in context.settings.consumers)]


def ended(context: Context, deployment_id: str | None) -> dict[str, datetime]:
    """The recipients whose token of this deployment has stated an end that has passed, and when that was."""
    now, desired = context.clock.now(), recipients(context)
    return {
        known.account: known.expires
        for known in context.state.tokens.values()
        if known.account in desired
        and known.deployment_id == deployment_id
        and known.expires is not None
        and known.expires <= now
    }


def lacking(context: Context, deployment_id: str | None) -> tuple[str, ...]:
    """The recipients for which no stored token of this deployment is on record that has not ended."""
    if deployment_id is None:
        return tuple(recipients(context))
    over = ended(context, deployment_id)
    stored = {token.account for token in context.state.tokens.values() if token.deployment_id == deployment_id}
    found = [name for name in recipients(context) if name in over or name not in stored]
    if context.account not in found and TOKEN not in context.cached.secret_names():
        found.insert(0, context.account)
    return tuple(found)


def token_is_on_record(context: Context) -> bool:
    """Whether this machine knows whose token is stored, if any is: it may have been stored from another one."""
    return bool(context.state.tokens) or TOKEN not in context.cached.secret_names()
