"""Open the artifact store as the source of a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_ae5_server.backup.artifacts import ArtifactSource, FolderArtifacts
from mlflow_ae5_server.common.folders import local_folder

if TYPE_CHECKING:
    from mlflow_ae5_server.database.connection import Database

_SQLITE_FILES = ("", "-wal", "-shm", "-journal", ".maintenance.lock")


def open_artifacts(location: str, store: Database | None = None) -> ArtifactSource:
    """The store at MLFLOW_ARTIFACTS_DESTINATION, without the files of the database."""
    if (folder := local_folder(location)) is None:
        from mlflow_ae5_server.backup.object_store_artifacts import ObjectStoreArtifacts

        return ObjectStoreArtifacts(location)
    if store is None or store.file is None:
        return FolderArtifacts(folder)
    file = store.file.resolve()
    return FolderArtifacts(folder, frozenset(file.with_name(file.name + suffix) for suffix in _SQLITE_FILES))
