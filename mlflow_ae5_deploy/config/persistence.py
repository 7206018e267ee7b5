"""Which stores would be lost: relative paths are below the project's folder, of which only data/ is on a volume."""

from __future__ import annotations

import re

from mlflow_ae5_deploy.config.database_uri import parse_store_uri
from mlflow_ae5_deploy.config.settings import Settings

_DATABASE = "MLFLOW_BACKEND_STORE_URI"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def lost_at_restart(settings: Settings) -> list[str]:
    """A sentence for each store whose relative path is not below data/."""
    return [
        f"{setting} is a relative path that is not below data/: what is stored there is lost at every restart."
        for setting, path in _paths(settings).items()
        if not path.startswith("/") and _first(path) != "data"
    ]


def _paths(settings: Settings) -> dict[str, str]:
    """Setting -> path, of the stores that are a file or folder."""
    server, variables = settings.server, {"slipstream": settings.slipstream.variables, "gc": settings.gc.variables}
    databases: dict[str, object] = {"server.backend_store_uri": server.backend_store_uri}
    databases |= {f"{section}.variables.{_DATABASE}": given.get(_DATABASE) for section, given in variables.items()}
    paths = {}
    for setting, uri in databases.items():
        if isinstance(uri, str) and (store := parse_store_uri(uri)).dialect == "sqlite":
            paths[setting] = store.database.removeprefix("file:")
    for key in ("artifacts_destination", "default_artifact_root"):
        location: str = getattr(server, key)
        if not _SCHEME.match(location):
            paths[f"server.{key}"] = location
    backups = settings.backup.destination
    if isinstance(backups, str) and not _SCHEME.match(backups):
        paths["backup.destination"] = backups
    return paths


def _first(path: str) -> str:
    return next((part for part in path.split("/") if part not in ("", ".")), "")
