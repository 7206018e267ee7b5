"""The names of restores at the top of the artifact destination, which no client may reach.

Where the destination is a mounted volume or a whole bucket, the restore journal and saved copies lie in it, and MLflow
would give them, or write over them, for whoever has a token. All its requests reach a store through one of these
repositories, and there the paths are decoded: so this is where they are looked at.
"""

from __future__ import annotations

import inspect
import os
import posixpath
from collections.abc import Callable
from typing import Any

from mlflow_ae5_server.common.errors import ConfigurationError
from mlflow_ae5_server.common.folders import local_folder
from mlflow_ae5_server.gc.stores import JOURNAL
from mlflow_ae5_server.restore.saved_copies import RESERVED

# What takes a path of a client.
_METHODS = (
    *("log_artifact", "log_artifacts", "log_artifact_from_stream", "log_artifact_from_async_stream"),
    *("list_artifacts", "get_local_path", "download_artifacts", "delete_artifacts"),
    *("create_multipart_upload", "complete_multipart_upload", "abort_multipart_upload"),
    *("get_download_presigned_url", "create_presigned_upload_url"),
)
_FOLDER, _FILE = ("artifact_path", "path"), ("local_file", "artifact_file_name")


def keep_from_clients(destination: str) -> None:
    """Have MLflow's handlers open every repository with the names at the top of `destination` left out."""
    import mlflow.server.handlers

    handlers: Any = mlflow.server.handlers
    original = handlers.get_artifact_repository

    def opened(artifact_uri: str, *args: Any, **kwargs: Any) -> Any:
        return guard(original(artifact_uri, *args, **kwargs), artifact_uri, destination)

    handlers.get_artifact_repository = opened


def guard(repository: Any, uri: str, destination: str) -> Any:
    """`repository` at `uri`, whose methods refuse what is reserved, with 403; nothing of it is listed."""
    top = _below(uri, destination)
    if top is None or (top and not _is_reserved(top)):  # MLflow lets nobody climb up from there
        return repository
    for name in _METHODS:
        if (method := getattr(repository, name, None)) is not None:
            setattr(repository, name, _refusing(method, top))
    return repository


def _refusing(method: Callable[..., Any], top: str) -> Callable[..., Any]:
    signature, name = inspect.signature(method), method.__name__

    def refusing(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        folder = next((given[key] for key in _FOLDER if given.get(key)), "")
        file = next((posixpath.basename(str(given[key])) for key in _FILE if key in given), "")
        path = _plain(f"{top}/{folder}/{file}")
        if _is_reserved(path) or (not path and name == "delete_artifacts"):
            raise _refused()
        found = method(*args, **kwargs)
        if name != "list_artifacts":
            return found
        return [entry for entry in found if not _is_reserved(_plain(f"{top}/{entry.path}"))]

    return refusing


def _is_reserved(path: str) -> bool:
    """But for the journal of a garbage collection, which may have to go through the server, and is sealed."""
    return path.startswith(RESERVED) and path.partition("/")[0] != JOURNAL


def _refused() -> Exception:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    return MlflowException(f"Names that begin with {RESERVED} are reserved here", error_code=PERMISSION_DENIED)


def _plain(path: str) -> str:
    """Without what a file system makes nothing of: `//`, `/./`, `x/../`."""
    return posixpath.normpath(f"/{path}").lstrip("/")


def _below(uri: str, destination: str) -> str | None:
    """The path of `uri` within `destination`; None where it is elsewhere."""
    inner, outer = _place(uri), _place(destination)
    if inner == outer:
        return ""
    return _plain(inner.removeprefix(outer)) if inner.startswith(f"{outer}/") else None


def _place(uri: str) -> str:
    try:
        folder = local_folder(uri)
    except ConfigurationError:  # on another machine
        folder = None
    return os.path.realpath(folder) if folder is not None else uri.rstrip("/")
