"""Who needs the token: the service account and each consumer."""

from __future__ import annotations

from mlflow_ae5_deploy.runbook.context import Context

TOKEN = "MLFLOW_TRACKING_TOKEN"  # noqa: S105 - the name of a secret, not its value


def recipients(context: Context) -> list[str]:
    """Account names, the service account first."""
    return [context.account, *(consumer.username for consumer in context.settings.consumers)]


def lacking(context: Context, deployment_id: str | None) -> tuple[str, ...]:
    """The recipients for which no stored token of this deployment is on record."""
    if deployment_id is None:
        return tuple(recipients(context))
    found = [name for name in recipients(context) if context.memory.token_stored_for(name) != deployment_id]
    if context.account not in found and TOKEN not in context.look.secret_names():
        found.insert(0, context.account)
    return tuple(found)
