"""The secrets that the server and its jobs read at their start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.common.variable_names import DATABASE
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.resources import encryption_keys, receivers, scheduled_job
from mlflow_ae5_deploy.resources.job_specs import gc_job
from mlflow_ae5_deploy.resources.secrets import MADE, SecretState, observe_secret

_DEFAULTS = {"MLFLOW_TRACKING_METRICS": "false", receivers.VARIABLE: "unset"}  # where they are not set


def desired(context: Context) -> Mapping[str, Secret]:
    """All with their values. A stored secret of a setting that is not used any more gets the project's default."""
    stored, configured = context.cached.secret_names(), context.settings.server_secrets
    unused = {name: default for name, default in _DEFAULTS.items() if name in stored and name not in configured}
    values = {name: _resolve(context, name, value) for name, value in (configured | unused).items()}
    return {**values, **encryption_keys.available(context)}


def _resolve(context: Context, name: str, value: str | SecretRef | list[SecretRef]) -> Secret:
    if isinstance(value, list):
        return receivers.secret(context)
    if name == DATABASE:
        return context.values.store_uri(value)
    return Secret.public(value) if isinstance(value, str) else context.values.secret(value, f"secret {name}")


def observe(context: Context) -> tuple[SecretState, ...]:
    """Raises Conflict where a key would be replaced, see encryption_keys.py."""
    of_keys = {secret.name: secret for secret in encryption_keys.observe(context)}
    others = [observe_secret(context, name, value) for name, value in desired(context).items() if name not in of_keys]
    if any(secret.state == "unknown" and secret.consequence for secret in others) and not _collects(context):
        others = [replace(secret, of_nobody=secret.state == "unknown") for secret in others]
    return (*others, *of_keys.values())


def _collects(context: Context) -> bool:
    """Whether the installation has a garbage collection job, or had one before this run replaced its project."""
    job = scheduled_job.observe(context, gc_job(context.settings))
    return bool(job.jobs or context.outputs.kept_archives)


def store(context: Context, state: Sequence[SecretState], *, server_runs: bool) -> None:
    """Write those that are not right, and make missing keys.

    server_runs: a server was started with the previous values.
    """
    changed = [secret.name for secret in state if secret.is_news_to_the_server]
    if changed and server_runs:
        # Recorded before the write: after a kill in between, the next run must still know that a restart is due.
        context.state.stale_secrets = tuple(sorted({*context.state.stale_secrets, *changed}))
    uncertain = [secret.name for secret in state if secret.state == "unknown"]
    if uncertain and server_runs:
        context.state.uncertain_secrets = tuple(sorted({*context.state.uncertain_secrets, *uncertain}))
    context.state.save()
    made = [secret.name for secret in state if secret.state == MADE]
    values = {**desired(context), **(encryption_keys.make(context, made) if made else {})}
    wrong = {secret.name: values[secret.name] for secret in state if not secret.right}
    if wrong:
        context.store_secrets(context.platform, context.account, wrong)
