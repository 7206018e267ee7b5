"""The secrets that the server and its jobs read at their start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.common.variable_names import DATABASE, GC_TTL
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.resources import encryption_keys, receivers
from mlflow_ae5_deploy.resources.secrets import MADE, SecretState, observe_secret

METRICS = "MLFLOW_TRACKING_METRICS"


def desired(context: Context) -> Mapping[str, Secret]:
    server, values = context.settings.server, context.values
    return {
        DATABASE: values.store_uri(server.backend_store_uri),
        "MLFLOW_ARTIFACTS_DESTINATION": Secret.public(server.artifacts_destination),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": Secret.public(server.default_artifact_root),
        GC_TTL: Secret.public(server.gc_ttl),
        **_switches(context),
        **receivers.desired(context),
        **{name: Secret.public(value) for name, value in server.variables.items()},
        **{name: values.secret(ref, f"secret {name}") for name, ref in server.secrets.items()},
        **encryption_keys.available(context),
    }


def _switches(context: Context) -> Mapping[str, Secret]:
    """Those that are on, and those that were: the server's default is off."""
    on = context.settings.server.metrics
    return {METRICS: Secret.public(str(on).lower())} if on or METRICS in context.cached.secret_names() else {}


def observe(context: Context) -> tuple[SecretState, ...]:
    """Raises Conflict where a key would be replaced, see encryption_keys.py."""
    of_keys = {secret.name: secret for secret in encryption_keys.observe(context)}
    others = [observe_secret(context, name, value) for name, value in desired(context).items() if name not in of_keys]
    return (*others, *of_keys.values())


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
