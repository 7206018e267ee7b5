"""Settings that the sandbox ignores: those of a real platform or a real store.

A rehearsal that takes the production profile must not sign in to the cluster, and above all not run the server and
its garbage collection on the production database.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mlflow_ae5_deploy.config.database_uri import leaves_its_folder

# Dropped from file, profile and environment; `cli/sandbox_up.py` sets the sandbox's own as flags.
_IGNORED = (
    ("platform", "hostname"),
    ("platform", "verify_tls"),
    ("platform", "ca_file"),
    ("platform", "client_cert"),
    ("platform", "session"),
    ("account", "username"),
    ("account", "password"),
    ("account", "impersonate"),
    ("admin", "username"),
    ("admin", "password"),
    ("server", "key_file"),
)
# Defaults, as `init` writes them: ignored without a warning.
_DEFAULTS = {("platform", "verify_tls"): True, ("platform", "session"): "auto", ("account", "impersonate"): False}
_STORES = (
    ("server", "backend_store_uri"),
    ("server", "artifacts_destination"),
    ("server", "default_artifact_root"),
    ("backup", "destination"),
)
_STORE_VARIABLES = (
    "MLFLOW_BACKEND_STORE_URI",
    "MLFLOW_ARTIFACTS_DESTINATION",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_TRACKING_BACKUP_DESTINATION",
    "MLFLOW_REGISTRY_STORE_URI",
    "MLFLOW_READ_REPLICA_BACKEND_STORE_URI",
    "MLFLOW_S3_ENDPOINT_URL",
    "MLFLOW_SERVER_JOB_HUEY_REDIS_URL",
    "MLFLOW_GATEWAY_BUDGET_REDIS_URL",
)


def without_real_systems(values: Mapping[Any, Any]) -> tuple[dict[Any, Any], list[str]]:
    """A copy without those settings, and the dotted names of the ones that were there."""
    result = copy.deepcopy(dict(values))
    ignored: list[str] = []
    for section, key in _IGNORED:
        group = result.get(section)
        if isinstance(group, dict) and group.pop(key, None) not in (None, _DEFAULTS.get((section, key))):
            ignored.append(f"{section}.{key}")
    for section, key in _STORES:
        group = result.get(section)
        if isinstance(group, dict) and key in group and not _is_in_the_sandbox(group[key]):
            del group[key]
            ignored.append(f"{section}.{key}")
    for section in ("gc", "slipstream", "server"):
        ignored += _ignored_variables(result.get(section), section)
    consumers = result.get("consumers")
    if isinstance(consumers, list) and (real := [item for item in consumers if _is_a_real_file(item)]):
        result["consumers"] = [item for item in consumers if item not in real]
        ignored.append("consumers.file")
    if isinstance(result.get("server"), dict) and result["server"].pop("secrets", None):
        ignored.append("server.secrets")  # they open real stores, which the sandbox ignores too
    return result, ignored


def _ignored_variables(group: Any, section: str) -> list[str]:
    variables = group.get("variables") if isinstance(group, dict) else None
    if not isinstance(variables, dict):
        return []
    gone = [name for name in _STORE_VARIABLES if name in variables and not _is_in_the_sandbox(variables[name])]
    for name in gone:
        del variables[name]
    return [f"{section}.variables.{name}" for name in gone]


def _is_a_real_file(consumer: Any) -> bool:
    """Whether a consumer is a file outside the folder of the configuration."""
    file = consumer.get("file") if isinstance(consumer, dict) else None
    return isinstance(file, str) and (file.startswith(("/", "~")) or leaves_its_folder(file))


def _is_in_the_sandbox(store: Any) -> bool:
    """Whether a store is a relative path, and so on the sandbox's own volume."""
    if not isinstance(store, str) or store == "prompt" or store.startswith(("env:", "file:", "/", "~")):
        return False
    scheme, separator, rest = store.partition("://")
    if separator:
        return scheme.startswith("sqlite") and not rest.startswith("//")
    return ":" not in store or store == "mlflow-artifacts:/"
