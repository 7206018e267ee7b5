"""Where snapshots are kept, as the jobs are told it: by a secret, because its URI may be nobody else's business.

A job's variables stand in its record, readable by whoever may see the account's jobs. So the destination is never one
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
from mlflow_ae5_deploy.resources.secrets import SecretState, observe_secret

VARIABLE = "MLFLOW_TRACKING_BACKUP_DESTINATION"
DEFAULT: str = BackupSettings.model_fields["destination"].default


def destination(context: Context) -> Secret:
    """Raises Configuration when a reference leads nowhere, or to something that is no place."""
    desired = context.settings.backup.destination
    if not isinstance(desired, SecretRef):
        return Secret.public(desired)
    secret = context.values.secret(desired, "backup destination")
    value = secret.reveal()
    for part in login_in(value):
        register(part)
    try:
        # a signature in its query is what a reference may be for; the rest must be right all the same
        check_destination(value.partition("?")[0] if "://" in value else value)
    except ValueError as error:
        problem = str(error)
    else:
        return secret
    raise Configuration(f"The backup destination {problem}.", where=f"backup.destination ({desired})")


def observe(context: Context) -> SecretState | None:
    """None where nothing has to be stored."""
    desired = destination(context)
    if desired.reveal() == DEFAULT and VARIABLE not in context.cached.secret_names():
        return None
    return observe_secret(context, VARIABLE, desired)


def store(context: Context) -> bool:
    """Make sure that the jobs are told the configured place. True when a secret was written for it."""
    state = observe(context)
    if state is None or state.right:
        return False
    context.store_secrets(context.platform, context.account, {VARIABLE: destination(context)})
    return True


def shown(context: Context) -> str:
    """The place in words that may be shown."""
    desired = context.settings.backup.destination
    return f"the place that {desired} says" if isinstance(desired, SecretRef) else desired
