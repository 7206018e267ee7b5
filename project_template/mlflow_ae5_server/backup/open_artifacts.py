"""Open the artifact store as the source of a snapshot."""

from __future__ import annotations

from pathlib import Path

from mlflow_ae5_server.backup.artifacts import ArtifactSource, FolderArtifacts
from mlflow_ae5_server.backup.object_store_artifacts import ObjectStoreArtifacts
from mlflow_ae5_server.common import object_store
from mlflow_ae5_server.common.folders import local_folder
from mlflow_ae5_server.common.redaction import scrub


def open_artifacts(location: str, exclude: frozenset[Path] = frozenset()) -> ArtifactSource:
    """The store at MLFLOW_ARTIFACTS_DESTINATION. Files in `exclude` (resolved paths) are no artifacts."""
    if (folder := local_folder(location)) is not None:
        return FolderArtifacts(folder, exclude)
    return ObjectStoreArtifacts(object_store.open_store(location), scrub(location))
