"""What data may be lost with the project: AE5 deletes the project's files, and a mounted volume is not visible here."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_ae5_deploy.config.database_uri import parse_store_uri, path_of
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.resources import backup_destination


def data_at_risk(context: Context) -> Mapping[str, bool]:
    """For database, artifacts and snapshots. What is not known without asking a person counts as at risk."""
    server = context.settings.server
    store, destination = context.values.store_uri_at_hand(server.backend_store_uri), backup_destination.at_hand(context)
    return {
        "database": is_store_at_risk(store.reveal() if store else ""),
        "artifacts": is_location_at_risk(server.artifacts_destination),
        "snapshots": is_location_at_risk(destination.reveal() if destination else ""),
    }


def is_store_at_risk(uri: str) -> bool:
    """Whether the database may be a file in the project. uri: empty where it is not known."""
    try:
        return parse_store_uri(uri).dialect == "sqlite"
    except ValueError:
        return True


def is_location_at_risk(location: str) -> bool:
    """The same of a path or address."""
    return path_of(location) is not None
