"""Open the backend that an address names."""

from __future__ import annotations

from mlflow_ae5_server.common.errors import ConfigurationError
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

    if not object_store.known(url):
        raise ConfigurationError(
            f"{scrub(url)} is not a place for snapshots", "give a folder, or s3://, gs://, abfss://, wasbs:// or az://"
        )
    return ObjectStoreBackend(object_store.open_store(url), scrub(url))
