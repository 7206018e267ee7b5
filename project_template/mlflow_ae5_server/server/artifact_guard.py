"""Keep clients from reserved names, and from writing elsewhere.

Where the destination is a mounted volume or a whole bucket, the restore journal and saved copies lie in it, and MLflow
would serve or overwrite them for every client with a token. All its requests reach a store through one of MLflow's
artifact repositories, where paths are decoded already: so the check is there. A client may also give an experiment any
folder of this machine as its location, such as one with backups: older ones can be read, and nothing is written there.
"""

from __future__ import annotations

import inspect
import os
import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow_ae5_server.common.errors import Configuration
from mlflow_ae5_server.common.folders import local_folder
from mlflow_ae5_server.gc.stores import JOURNAL
from mlflow_ae5_server.restore.saved_copies import RESERVED

# Methods that take a path of a client.
_METHODS = (
    *("log_artifact", "log_artifacts", "log_artifact_from_stream", "log_artifact_from_async_stream"),
    *("list_artifacts", "get_local_path", "download_artifacts", "delete_artifacts"),
    *("create_multipart_upload", "complete_multipart_upload", "abort_multipart_upload"),
    *("get_download_presigned_url", "create_presigned_upload_url"),
)
_WRITE = ("log_", "delete_", "create_", "complete_", "abort_")
_FOLDER, _FILE = ("artifact_path", "path"), ("local_file", "artifact_file_name")


def install(destination: str, artifact_root: str) -> None:
    """Have MLflow's handlers guard every artifact repository.

    artifact_root: the default location of experiments.
    """
    import mlflow.server.handlers

    handlers: Any = mlflow.server.handlers
    original = handlers.get_artifact_repository

    def opened(artifact_uri: str, *args: Any, **kwargs: Any) -> Any:
        return guard(original(artifact_uri, *args, **kwargs), artifact_uri, destination, artifact_root)

    handlers.get_artifact_repository = opened


def guard(repository: Any, uri: str, destination: str, artifact_root: str = "") -> Any:
    """`repository` at `uri`, refusing reserved names (403) and not listing them.

    In a folder that is below neither `destination` nor `artifact_root` nothing is written.
    """
    top = _below(uri, destination)
    if top is None and Path(_location(uri)).is_absolute() and (not artifact_root or _below(uri, artifact_root) is None):
        for name in _METHODS:
            if name.startswith(_WRITE) and hasattr(repository, name):
                setattr(repository, name, _refuse_outside)
    if top is None or (top and not _is_reserved(top)):  # MLflow lets no path lead up from there
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
            raise _denied(f"Names that begin with {RESERVED} are reserved here")
        result = method(*args, **kwargs)
        if name != "list_artifacts":
            return result
        return [entry for entry in result if not _is_reserved(_plain(f"{top}/{entry.path}"))]

    return refusing


def _refuse_outside(*_args: Any, **_kwargs: Any) -> Any:
    raise _denied("This artifact location is a folder outside of the server's artifact destination: nothing is written")


def _is_reserved(path: str) -> bool:
    """Whether clients may not use this name; the sealed journal of gc is allowed."""
    return path.startswith(RESERVED) and path.partition("/")[0] != JOURNAL


def _denied(message: str) -> Exception:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    return MlflowException(message, error_code=PERMISSION_DENIED)


def _plain(path: str) -> str:
    """Without parts that a file system ignores: `//`, `/./`, `x/../`."""
    return posixpath.normpath(f"/{path}").lstrip("/")


def _below(uri: str, destination: str) -> str | None:
    """The path of `uri` within `destination`; None where it is elsewhere."""
    inner, outer = _location(uri), _location(destination)
    if inner == outer:
        return ""
    return _plain(inner.removeprefix(outer)) if inner.startswith(f"{outer}/") else None


def _location(uri: str) -> str:
    try:
        folder = local_folder(uri)
    except Configuration:  # on another machine
        folder = None
    return os.path.realpath(folder) if folder is not None else uri.rstrip("/")
