"""Where a restore saves what it moves away, for an artifact destination."""

from __future__ import annotations

from mlflow_ae5_server.common.folders import local_folder
from mlflow_ae5_server.restore.saved_copies import FolderSavedCopies, SavedCopies


def beside(destination: str) -> SavedCopies:
    """Raises ConfigurationError where `destination` is neither a folder nor an object store."""
    if (folder := local_folder(destination)) is not None:
        return FolderSavedCopies(folder)
    from mlflow_ae5_server.restore.object_store_saved_copies import ObjectStoreSavedCopies

    return ObjectStoreSavedCopies(destination)
