"""Where snapshots are kept, as the jobs are told it: by a secret, because its URI may be nobody else's business.

A job's variables stand in its record, readable by whoever may see the account's jobs. So the destination is never one
of them. The project's own default needs no secret.
"""

from __future__ import annotations

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.redaction import Secret, register
from mlflow_ae5_deploy.config.checks import backup_place
from mlflow_ae5_deploy.config.database_uri import login_in
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.config.settings import BackupSettings
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.resources.secrets import SecretState, observe_secret

VARIABLE = "MLFLOW_TRACKING_BACKUP_DESTINATION"
DEFAULT: str = BackupSettings.model_fields["destination"].default


def destination(context: Context) -> Secret:
    """Raises Configuration when a reference leads nowhere, or to something that is no place."""
    wanted = context.settings.backup.destination
    if not isinstance(wanted, SecretRef):
        return Secret.public(wanted)
    secret = context.values.secret(wanted, "backup destination")
    value = secret.reveal()
    for part in login_in(value):
        register(part)
    try:
        # a signature in its query is what a reference may be for; the rest must be right all the same
        backup_place(value.partition("?")[0] if "://" in value else value)
    except ValueError as error:
        problem = str(error)
    else:
        return secret
    raise Configuration(f"The backup destination {problem}.", where=f"backup.destination ({wanted})")


def observe(context: Context) -> SecretState | None:
    """None where nothing has to be stored."""
    wanted = destination(context)
    if wanted.reveal() == DEFAULT and VARIABLE not in context.cached.secret_names():
        return None
    return observe_secret(context, VARIABLE, wanted)


def store(context: Context) -> bool:
    """Make sure that the jobs are told the configured place. True when a secret was written for it."""
    fact = observe(context)
    if fact is None or fact.right:
        return False
    context.store_secrets(context.platform, context.account, {VARIABLE: destination(context)})
    return True


def shown(context: Context) -> str:
    """The place in words that may be shown."""
    wanted = context.settings.backup.destination
    return f"the place that {wanted} says" if isinstance(wanted, SecretRef) else wanted
