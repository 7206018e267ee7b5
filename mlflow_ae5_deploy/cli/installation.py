"""Which installation the settings are about."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_ae5_deploy.common.errors import Configuration

if TYPE_CHECKING:
    from mlflow_ae5_deploy.config.load import LoadedSettings

SANDBOX_ACCOUNT = "mlflow-service"
_SANDBOX_IGNORES = ("AE5_", "CF_ACCESS_")


def installation_folder(loaded: LoadedSettings) -> Path:
    from mlflow_ae5_deploy.config.state_dir import installation_dir, state_root

    settings = loaded.settings
    return installation_dir(
        state_root(settings, os.environ),
        required(settings.platform.hostname, "platform.hostname", "--hostname or AE5_HOSTNAME"),
        required(settings.account.username, "account.username", "--username or AE5_USERNAME"),
        settings.project.name,
    )


def without_cluster(environ: Mapping[str, str]) -> dict[str, str]:
    """Without the variables that are meant for a real cluster, which must not reach the rehearsal."""
    kept = {name: value for name, value in environ.items() if not name.startswith(_SANDBOX_IGNORES)}
    kept.pop("REQUESTS_CA_BUNDLE", None)
    return kept


def required(value: str | None, setting: str, how: str) -> str:
    if not value:
        raise Configuration(
            f"`{setting}` is not set.",
            where=setting,
            remedy=f"Set it in the configuration (`mlflow-ae5-deploy init` writes one) or with {how}; "
            "--sandbox needs neither.",
        )
    return value
