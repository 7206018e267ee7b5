"""The store of each artifact location.

Also the check that this job sees the same artifacts as the server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from mlflow_ae5_server.common import folders
from mlflow_ae5_server.common.errors import Configuration
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.common.report import say
from mlflow_ae5_server.gc.bucket_store import BucketStore
from mlflow_ae5_server.gc.locations import LOCAL, SERVER, Location
from mlflow_ae5_server.gc.remote import MlflowStore, ServerStore
from mlflow_ae5_server.gc.stores import FolderStore, Store, StoredSize, StoreError

_LISTINGS = 3  # times that two listings may differ, because users write meanwhile
_SAMPLES = 3


class Destinations:
    """All stores of one collection.

    destination: the store of the server's artifacts; None where it cannot be reached, because of `problem`.
    """

    def __init__(self, destination: Store | None, tracking_uri: str | None, problem: str) -> None:
        self.destination = destination
        self._own_hosts = {urlsplit(tracking_uri).netloc.lower()} if tracking_uri else set()
        self._problem = problem
        self._stores: dict[str, Store] = {}

    def size(self, location: Location) -> StoredSize | None:
        return self._store(location).size(location.path)

    def remove(self, location: Location) -> None:
        self._store(location).remove(location.path)

    def remove_empty(self, location: Location) -> None:
        self._store(location).remove_empty(location.path)

    def server(self) -> Store:
        """The store of the server's artifacts. Raises StoreError."""
        if self.destination is None:
            raise StoreError(f"the server's artifacts cannot be reached: {self._problem}")
        return self.destination

    def _store(self, location: Location) -> Store:
        root = location.root
        if root.startswith(SERVER):
            host = root.removeprefix(SERVER).strip("/")
            if host and host not in self._own_hosts:
                raise StoreError(f"its artifacts are behind another server, {host}")
            return self.server()
        if root not in self._stores:
            self._stores[root] = FolderStore(Path("/")) if root == LOCAL else _open_url(root)
        return self._stores[root]


def _open_url(url: str) -> Store:
    return BucketStore.open(url) if url.startswith("s3://") else MlflowStore(url.rstrip("/"))


def open_destination(destination: str | None) -> Store:
    """The store of MLFLOW_ARTIFACTS_DESTINATION. Raises StoreError."""
    if not destination:
        raise StoreError("MLFLOW_ARTIFACTS_DESTINATION is not set")
    try:
        folder = folders.local_folder(destination)
    except Configuration as error:
        raise StoreError(error.message) from None
    if folder is None:
        return _open_url(destination)
    if not folder.is_dir():
        raise StoreError(f"there is no folder {folder}")
    return FolderStore(folder)


def choose_destination(
    destination: str | None, server: ServerStore | None, expired: Sequence[str], sample: Callable[[], Sequence[str]]
) -> tuple[Store | None, str]:
    """The store for the server's artifacts; why, if it is not the destination.

    A folder that is not the server's would let rows go and leave their artifacts for ever. So the destination must list
    what the server lists; without a server, artifacts of a run in the database must be there. expired, sample: paths
    below the server's root of what will be removed, and of some runs.
    """
    direct: Store | None = None
    reason = ""
    try:
        direct = open_destination(destination)
        if server is not None:
            if _lists_the_same(direct, server, expired):
                return direct, ""
            reason = f"{direct.shown} is not where the server keeps its artifacts"
    except StoreError as error:
        reason = str(error)
    if server is not None or direct is None:
        return server, reason
    if not expired or any(_has_files(direct, path) for path in [*expired[:200], *sample()]):
        return direct, ""
    return None, f"no artifact of a run in the database is in {direct.shown}, so it may not be the server's"


def _lists_the_same(direct: Store, server: ServerStore, expired: Sequence[str]) -> bool:
    if not any(direct.top() == server.top() for _ in range(_LISTINGS)):
        return False
    for path in expired[:: max(1, len(expired) // _SAMPLES)][:_SAMPLES]:
        try:
            ours = direct.size(path)
        except StoreError as error:  # one that will be skipped
            say(f"warning: {scrub(str(error))}")
            continue
        theirs = server.size(path)
        if (ours.files if ours else 0) != (theirs.files if theirs else 0):
            return False
    return True


def _has_files(store: Store, path: str) -> bool:
    try:
        size = store.size(path)
    except StoreError:
        return False
    return size is not None and size.files > 0


def server_of(uri: str | None, environ: Mapping[str, str]) -> ServerStore:
    """The tracking server, with this job's token and trust settings."""
    token = environ.get("MLFLOW_TRACKING_TOKEN")
    verify: bool | str = environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or environ.get("REQUESTS_CA_BUNDLE") or True
    if environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in {"true", "1"}:
        verify = False
    return ServerStore(uri or "", {"Authorization": f"Bearer {token}"} if token else {}, verify)
