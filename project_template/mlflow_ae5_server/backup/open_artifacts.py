"""Open the artifact store as the source of a snapshot."""

from __future__ import annotations

from mlflow_ae5_server.backup.artifacts import ArtifactSource, FolderArtifacts
from mlflow_ae5_server.backup.object_store_artifacts import ObjectStoreArtifacts
from mlflow_ae5_server.common import object_store
from mlflow_ae5_server.common.folders import local_folder
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.database.connection import Database

_SQLITE_FILES = ("", "-wal", "-shm", "-journal", ".maintenance.lock")


def open_artifacts(location: str, store: Database | None = None) -> ArtifactSource:
    """The store at MLFLOW_ARTIFACTS_DESTINATION. The files of an SQLite `store` among them are no artifacts."""
    if (folder := local_folder(location)) is None:
        return ObjectStoreArtifacts(object_store.open_store(location), scrub(location))
    if store is None or store.file is None:
        return FolderArtifacts(folder)
    file = store.file.resolve()
    return FolderArtifacts(folder, frozenset(file.with_name(file.name + suffix) for suffix in _SQLITE_FILES))
