"""Artifact locations, as the database has them, and which ones are refused.

MLflow puts the artifacts of a run at `<experiment's location>/<run id>/artifacts`, those of a logged model at
`.../models/<model id>/artifacts`, those of a trace at `.../traces/<trace id>/artifacts`. A location that does
not end in the very id it belongs to is not this owner's folder, and is never deleted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from mlflow_ae5_server.restore.saved_copies import COPY_NAME, RESERVED

SERVER = "mlflow-artifacts:"  # below the server's own artifact root
WORKSPACES = "workspaces"  # folder in that root, with a folder for each workspace
LOCAL = "file:"  # below the root of this machine's file system
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):")
PROXY = "/api/2.0/mlflow-artifacts/artifacts"
WORKSPACE_HEADER = "X-MLFLOW-WORKSPACE"
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
# Saved copies of a restore, in the artifact store or beside it; see restore/saved_copies.py.
_SAVED = re.compile(rf"{re.escape(RESERVED)}|.+\.{COPY_NAME}\Z")


class BadLocationError(Exception):
    """Says in a few words what is wrong with a location."""


@dataclass(frozen=True, slots=True)
class Location:
    """A folder in a store."""

    root: str  # SERVER, LOCAL or `scheme://host`
    parts: tuple[str, ...]  # the names of the folders below it, as they are stored

    @property
    def path(self) -> str:
        return "/".join(self.parts)

    def ancestors(self) -> list[Location]:
        """Itself, and every folder above it except the root."""
        return [Location(self.root, self.parts[:length]) for length in range(len(self.parts), 0, -1)]


def parse(uri: str | None) -> Location:
    """The folder that `uri` means. Raises BadLocationError if that is ambiguous."""
    if not uri:
        raise BadLocationError("it has no artifact location")
    match = _SCHEME.match(uri)
    scheme, rest = (match["scheme"].lower(), uri[match.end() :]) if match else ("", uri)
    host = ""
    if match and rest.startswith("//"):
        host, _, rest = rest[2:].partition("/")
        rest = "/" + rest
    if scheme in {"", "file"}:
        if host not in {"", "localhost"}:
            raise BadLocationError("its artifact location names another machine")
        return Location(LOCAL, _local_parts(rest))
    if "?" in rest or "#" in rest:
        raise BadLocationError("its artifact location has a query")
    if scheme == "mlflow-artifacts":
        return Location(f"{SERVER}//{host.lower()}" if host else SERVER, _parts(rest, ambiguous="%"))
    if scheme in {"http", "https"}:
        _, proxy, rest = rest.partition(PROXY)
        if not proxy:
            raise BadLocationError("its artifact location is not one of an MLflow server")
        return Location(f"{SERVER}//{host.lower()}", _parts(rest, ambiguous="%"))
    if not host:
        raise BadLocationError("its artifact location names no store")
    return Location(f"{scheme}://{host}", _parts(rest))


def _local_parts(path: str) -> tuple[str, ...]:
    """The parts of a local path, which MLflow decodes once."""
    decoded = unquote(path)
    _parts(path)
    if not decoded.startswith("/"):
        decoded = f"{Path.cwd()}/{decoded.removeprefix('./')}"
    return _parts(decoded, ambiguous="%" if decoded != unquote(decoded) else "")


def _parts(path: str, ambiguous: str = "") -> tuple[str, ...]:
    parts = path.strip("/").split("/") if path.strip("/") else []
    for part in parts:
        plain = part
        while (decoded := unquote(plain)) != plain:
            plain = decoded
        if plain in {".", ".."} or "/" in plain or _CONTROL.search(plain) or (ambiguous and ambiguous in part):
            raise BadLocationError("its artifact location could lead out of its own folder")
        if not plain:
            raise BadLocationError("its artifact location has an empty name in it")
        if _SAVED.match(plain):
            raise BadLocationError("its artifact location is in a saved copy of a restore")
    return tuple(parts)


def workspace_of(path: str) -> str:
    """The workspace of a path below the server's root; empty for the default one."""
    top, _, rest = path.strip("/").partition("/")
    return rest.partition("/")[0] if top == WORKSPACES else ""


def canonical_by(destination: str | None) -> Callable[[Location], Location]:
    """A function that makes locations of the same folder equal.

    destination: the server's root.
    """
    try:
        base = _real(parse(destination)) if destination else None
    except BadLocationError:
        base = None

    def canonical(location: Location) -> Location:
        if location.root == SERVER and base is not None:
            return Location(base.root, base.parts + location.parts)
        return _real(location)

    return canonical


def _real(location: Location) -> Location:
    if location.root != LOCAL:
        return location
    return Location(LOCAL, Path(os.path.realpath(f"/{location.path}")).parts[1:])


def artifact_folder(uri: str | None, owner: str) -> Location:
    """The owner's own folder, `<owner>/artifacts`. Raises BadLocationError."""
    location = parse(uri)
    if location.parts[-2:] != (owner, "artifacts"):
        raise BadLocationError("its artifact location is not the folder of its own id")
    return location
