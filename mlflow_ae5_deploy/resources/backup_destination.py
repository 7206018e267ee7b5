"""The backup destination, which the jobs get as a secret: its URI may hold credentials.

A job's variables stand in its record, readable by whoever may see the account's jobs, so the destination is never one
of them. The project's own default needs no secret.
"""

from __future__ import annotations

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.redaction import Secret, register
from mlflow_ae5_deploy.config.checks import check_destination
from mlflow_ae5_deploy.config.database_uri import login_in
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.config.settings import BackupSettings
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.jobs.contract import BACKUP_DESTINATION
from mlflow_ae5_deploy.resources.secrets import SecretState, observe_secret

VARIABLE = BACKUP_DESTINATION
DEFAULT: str = BackupSettings.model_fields["destination"].default


def destination(context: Context) -> Secret:
    """Raise Configuration for a reference that cannot be resolved, and for a value that is no destination."""
    desired = context.settings.backup.destination
    if not isinstance(desired, SecretRef):
        return Secret.public(desired)
    secret = context.values.secret(desired, "backup destination")
    value = secret.reveal()
    for part in login_in(value):
        register(part)
    try:
        # A signature in the query is allowed behind a reference; the rest must be valid all the same.
        check_destination(value.partition("?")[0] if "://" in value else value)
    except ValueError as error:
        problem = str(error)
    else:
        return secret
    raise Configuration(f"The backup destination {problem}.", where=f"backup.destination ({desired})")


def at_hand(context: Context) -> Secret | None:
    """The destination; None where a person would be asked for it, and where it is not valid."""
    desired = context.settings.backup.destination
    if isinstance(desired, SecretRef) and desired.kind == "prompt":
        return None
    try:
        return destination(context)
    except Configuration:
        return None


def observe(context: Context) -> SecretState | None:
    """None where nothing has to be stored."""
    desired = destination(context)
    if desired.reveal() == DEFAULT and VARIABLE not in context.cached.secret_names():
        return None
    return observe_secret(context, VARIABLE, desired)


def store(context: Context) -> None:
    """Store the configured destination for the jobs, where they do not have it."""
    state = observe(context)
    if state is not None and not state.right:
        context.store_secrets(context.platform, context.account, {VARIABLE: destination(context)})


def shown(context: Context) -> str:
    """The destination, in words without secrets."""
    desired = context.settings.backup.destination
    return f"the destination in {desired}" if isinstance(desired, SecretRef) else desired
