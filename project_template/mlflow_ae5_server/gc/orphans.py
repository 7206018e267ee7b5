"""Artifact folders of runs, logged models and traces that have no row: what earlier collections left behind.

Only folders with MLflow's own names are looked at, below the server's artifact destination:
`EXPERIMENT/RUN`, `EXPERIMENT/models/MODEL` and `EXPERIMENT/traces/TRACE`, each also below `workspaces/WORKSPACE`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from mlflow_ae5_server.common.text import counted
from mlflow_ae5_server.gc.locations import LOCAL, SERVER, WORKSPACES, BadLocationError, parse
from mlflow_ae5_server.gc.plan import claims
from mlflow_ae5_server.gc.registry import Registry
from mlflow_ae5_server.gc.stores import FoundFolder, Store
from mlflow_ae5_server.gc.tables import MODELS, RUNS, TRACES

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_ID = re.compile(r"[0-9a-f]{32}")
_BELOW = {"models": re.compile(r"m-[0-9a-f]{32}\Z"), "traces": re.compile(r"tr-[0-9a-f]{32}\Z")}
_KEYS: dict[str, Any] = {"run": RUNS.c.run_uuid, "logged model": MODELS.c.model_id, "trace": TRACES.c.request_id}
_PART = 500


@dataclass
class Orphans:
    """`old` may be removed; `young` were written to after the limit, and stay. `known` folders have a row."""

    old: list[FoundFolder] = field(default_factory=list)
    young: list[FoundFolder] = field(default_factory=list)
    known: int = 0

    def held(self, mode: str) -> str:
        """Why none is removed, where that is so: most likely this is the store of another database. `remove` takes
        more folders without a row than with one for that, `remove-all` only a store without any that has one."""
        without = len(self.old) + len(self.young)
        if without and not self.known:
            return "nothing there belongs to this database"
        if without > self.known and mode != "remove-all":
            return (
                f"{counted(without, 'artifact folders')} without a row, and {self.known} with one: is that the store "
                "of this database? If it is, MLFLOW_TRACKING_GC_ORPHANS=remove-all removes them"
            )
        return ""


def find(connection: Connection, destination: Store, registry: Registry, limit: int) -> Orphans:
    """Folders without a row. limit: milliseconds. Raises TroubleError where no answer can be had."""
    registry.refresh(connection)
    mentioned, above = _mentioned(connection, destination)
    found = Orphans()
    for part in _parts(_folders(destination)):
        rows: set[str] = set()
        for kind, key in _KEYS.items():
            if ids := [owner for k, owner, _ in part if k == kind]:
                rows.update(connection.execute(select(key).where(key.in_(ids))).scalars())
        found.known += len(rows)
        for _kind, owner, path in part:
            plain = owner.rpartition("-")[2]
            if owner in rows or plain in mentioned or registry.protects(owner):
                continue
            if any(
                path == destination or path.startswith(f"{destination}/" if destination else "")
                for destination in above
            ):
                continue
            fields = destination.age(path)
            (found.old if fields.newest * 1000 <= limit else found.young).append(fields)
    return found


def _folders(destination: Store) -> Iterator[tuple[str, str, str]]:
    """(kind, id, path)"""
    for experiment in _experiments(destination):
        for name in destination.names(experiment):
            if _ID.fullmatch(name):
                yield "run", name, f"{experiment}/{name}"
            elif (form := _BELOW.get(name)) is not None:
                kind = "logged model" if name == "models" else "trace"
                for owner in destination.names(f"{experiment}/{name}"):
                    if form.match(owner):
                        yield kind, owner, f"{experiment}/{name}/{owner}"


def _experiments(destination: Store) -> Iterator[str]:
    for top in destination.names(""):
        if top.isdigit():
            yield top
        elif top == WORKSPACES:
            for workspace in destination.names(top):
                inside = f"{top}/{workspace}"
                yield from (f"{inside}/{name}" for name in destination.names(inside) if name.isdigit())


def _mentioned(connection: Connection, destination: Store) -> tuple[set[str], set[str]]:
    """Ids in the unusual locations of other rows, and the unusual locations themselves, as paths in the store."""
    ids: set[str] = set()
    destinations: set[str] = set()
    for owner, uri in claims(connection):
        ids.update(_ID.findall(uri))
        if owner.startswith("experiment "):
            continue  # an experiment's folder holds those of its runs; that is the rule
        try:
            location = parse(uri)
        except BadLocationError:
            continue
        if location.root == SERVER:
            destinations.add(location.path)
        elif location.root == LOCAL and destination.shown.find("://") < 0:
            inside = os.path.relpath(os.path.realpath("/" + location.path), os.path.realpath(destination.shown))
            if not inside.startswith(".."):
                destinations.add("" if inside == "." else inside)
        elif f"{location.root}/{location.path}/".startswith(destination.shown.rstrip("/") + "/"):
            destinations.add(f"{location.root}/{location.path}".removeprefix(destination.shown.rstrip("/")).strip("/"))
    return ids, destinations


def _parts(folders: Iterator[tuple[str, str, str]]) -> Iterator[list[tuple[str, str, str]]]:
    part: list[tuple[str, str, str]] = []
    for item in folders:
        part.append(item)
        if len(part) == _PART:
            yield part
            part = []
    if part:
        yield part
