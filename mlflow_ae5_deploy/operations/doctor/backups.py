"""Whether a snapshot would survive what it is there for."""

from __future__ import annotations

from collections.abc import Iterator

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.config.database_uri import parse_store_uri
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.operations.doctor.findings import Finding, of_error, ok, skipped, warning
from mlflow_ae5_deploy.resources import backup_destination

CHECK = "backup-destination"
_VOLUME = "data"


def backups(context: Context) -> Iterator[Finding]:
    """Reads the configuration only; the place itself is reached by jobs on the platform."""
    settings = context.settings
    location, uri = settings.backup.destination, settings.server.backend_store_uri
    if any(isinstance(item, SecretRef) and item.kind == "prompt" for item in (location, uri)):
        yield skipped(CHECK, "a place is asked for when it is needed", "Refer to it with env: or file:.")
        return
    try:
        destination = backup_destination.destination(context).reveal()
        store = parse_store_uri(context.values.store_uri(uri).reveal())
    except DeployError as trouble:
        yield of_error(CHECK, trouble)
        return
    database = store.database.removeprefix("file:") if store.dialect == "sqlite" else ""
    yield judge(destination, database, settings.server.artifacts_destination)


def judge(destination: str, database: str, artifacts: str) -> Finding:
    """Pure. database: the path of an SQLite file, empty for a database server. Others: a path or a URI."""
    volume = volume_of(destination)
    same_volume = [
        word for word, location in (("database", database), ("artifacts", artifacts)) if volume_of(location) == volume
    ]
    if volume and same_volume:
        return warning(
            CHECK,
            f"snapshots are kept on the volume of the {' and the '.join(same_volume)} ({volume}): losing it loses both",
            "Set backup.destination to an object store (s3://, gs://, abfss://) or to another volume.",
        )
    where = f"the volume {volume}" if volume else "an object store"
    return ok(CHECK, f"snapshots are kept on {where}, away from the data")


def volume_of(location: str) -> str:
    """The volume a path is on, as far as its name tells: `data/x` and `/data/y` are one. Empty for no path."""
    if not location or "://" in location:
        return ""
    parts = [part for part in location.split("/") if part not in ("", ".")]
    if location.startswith("/") and parts[:1] != [_VOLUME]:
        return "/" + "/".join(parts[:2])
    return f"/{parts[0]}" if parts else "/"
