"""Open what a restore writes to, for an artifact destination: a folder or an object store."""

from __future__ import annotations

from mlflow_ae5_server.common.folders import local_folder
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.restore.saved_copies import FolderSavedCopies, SavedCopies
from mlflow_ae5_server.restore.target import ArtifactTarget, FolderTarget


def open_saved_copies(destination: str) -> SavedCopies:
    """Raises Configuration where `destination` is neither a folder nor an object store."""
    if (folder := local_folder(destination)) is not None:
        return FolderSavedCopies(folder)
    from mlflow_ae5_server.restore.object_store_saved_copies import ObjectStoreSavedCopies

    return ObjectStoreSavedCopies(destination)


def open_target(destination: str) -> ArtifactTarget:
    """Raises Configuration where `destination` is neither a folder nor an object store."""
    if (folder := local_folder(destination)) is not None:
        return FolderTarget(folder)
    from mlflow_ae5_server.common import object_store

    store = object_store.open_store(destination)  # refuses where obstore is not installed
    from mlflow_ae5_server.restore.object_store_target import ObjectStoreTarget

    return ObjectStoreTarget(store, scrub(destination))
