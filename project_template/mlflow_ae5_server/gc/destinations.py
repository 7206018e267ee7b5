"""Which store a location is in, and proof that what this job takes for the server's artifacts is just that."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from mlflow_ae5_server.common import folders
from mlflow_ae5_server.common.errors import ConfigurationError, ProjectError
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.gc.locations import LOCAL, SERVER, Location
from mlflow_ae5_server.gc.object_store import ObjectStore
from mlflow_ae5_server.gc.remote import MlflowStore, ServerStore
from mlflow_ae5_server.gc.stores import FolderStore, Store, TroubleError

_LISTINGS = 3  # times that two listings may differ, because the server is at work
_SAMPLES = 3


class Destinations:
    """All stores of one collection. `destination` is where the server's artifacts are; None where nobody knows."""

    def __init__(self, destination: Store | None, tracking_uri: str | None, problem: str) -> None:
        self.destination = destination
        self._own_hosts = {urlsplit(tracking_uri).netloc.lower()} if tracking_uri else set()
        self._problem = problem
        self._stores: dict[str, Store] = {}

    def of(self, location: Location) -> Store:
        """Raises TroubleError where the store cannot be used."""
        root = location.root
        if root.startswith(SERVER):
            host = root.removeprefix(SERVER).strip("/")
            if host and host not in self._own_hosts:
                raise TroubleError(f"its artifacts are behind another server, {host}")
            if self.destination is None:
                raise TroubleError(self._problem)
            return self.destination
        if root not in self._stores:
            self._stores[root] = self._open(root)
        return self._stores[root]

    @staticmethod
    def _open(root: str) -> Store:
        if root == LOCAL:
            return FolderStore(Path("/"))
        if root.startswith("s3://"):
            return ObjectStore.open(root)
        return MlflowStore(root)


def open_destination(destination: str | None) -> Store:
    """The store that MLFLOW_ARTIFACTS_DESTINATION names. Raises TroubleError where it cannot be used from here."""
    if not destination:
        raise TroubleError("MLFLOW_ARTIFACTS_DESTINATION is not set")
    try:
        folder = folders.local_folder(destination)
    except ConfigurationError as error:
        raise TroubleError(error.message) from None
    if folder is not None:
        if not folder.is_dir():
            raise TroubleError(f"there is no folder {folder}")
        return FolderStore(folder)
    if destination.startswith("s3://"):
        return ObjectStore.open(destination)
    return MlflowStore(destination.rstrip("/"))


def settle(
    destination: str | None,
    server: ServerStore | None,
    due: list[str],
    known: Callable[[], list[str]],
) -> tuple[Store | None, str]:
    """The store to use for what the server keeps, and why, if not directly.

    Working directly on a folder that is not the server's would remove rows and leave their artifacts for ever. So the
    server, where it answers, must list what is there; where it does not, artifacts of known runs must be there. `due`
    and `known` are paths below the server's root.
    """
    direct: Store | None = None
    reason = ""
    try:
        direct = open_destination(destination)
    except TroubleError as error:
        reason = str(error)
    if server is not None:
        if direct is not None:
            try:
                if _agree(direct, server, due):
                    return direct, ""
                reason = f"{direct.shown} is not where the server keeps its artifacts"
            except TroubleError as error:
                reason = str(error)
        return server, reason
    if direct is None:
        return None, reason
    if not due or any(_files(direct, path) for path in [*due[:200], *known()]):
        return direct, ""
    return None, f"no artifact of a known run is in {direct.shown}, so it may not be the server's"


def _agree(direct: Store, server: ServerStore, due: list[str]) -> bool:
    for _ in range(_LISTINGS):
        if direct.top() == server.top():
            break
    else:
        return False
    for path in due[:: max(1, len(due) // _SAMPLES)][:_SAMPLES]:
        try:
            ours = direct.look(path)
        except TroubleError as error:  # one that will be skipped
            print(f"warning: {scrub(str(error))}", file=sys.stderr, flush=True)
            continue
        theirs = server.look(path)
        if (ours.files if ours else 0) != (theirs.files if theirs else 0):
            return False
    return True


def _files(store: Store, path: str) -> int:
    try:
        size = store.look(path)
    except TroubleError:
        return 0
    return size.files if size else 0


def server_of(uri: str | None, environ: Mapping[str, str]) -> ServerStore:
    """The tracking server as this job is told to reach it; check before with Prober."""
    token = environ.get("MLFLOW_TRACKING_TOKEN")
    verify: bool | str = environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or environ.get("REQUESTS_CA_BUNDLE") or True
    if environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in {"true", "1"}:
        verify = False
    return ServerStore(uri or "", {"Authorization": f"Bearer {token}"} if token else {}, verify)


def unusable(problem: ProjectError | None, reason: str) -> str:
    """Why nobody can get at the server's artifacts: neither directly nor through the server."""
    return scrub("; ".join(part for part in (reason, problem.message if problem else "") if part))
