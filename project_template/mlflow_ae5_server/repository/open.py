"""Open the backend that an address names."""

from __future__ import annotations

from mlflow_ae5_server.common.folders import local_folder
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.repository.backend import Backend


def open_backend(url: str) -> Backend:
    """The place that `url` names; nothing is made or asked for yet. Raises ConfigurationError."""
    if (folder := local_folder(url)) is not None:
        from mlflow_ae5_server.repository.folder_backend import FolderBackend

        return FolderBackend(folder)
    from mlflow_ae5_server.common import object_store
    from mlflow_ae5_server.repository.object_store_backend import ObjectStoreBackend

    return ObjectStoreBackend(object_store.open_store(url), scrub(url))
