"""Orphans: artifact folders of runs, logged models and traces that have no row.

Only folders with MLflow's own names count, below the server's artifact destination:
`EXPERIMENT/RUN`, `EXPERIMENT/models/MODEL` and `EXPERIMENT/traces/TRACE`, each also below `workspaces/WORKSPACE`.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from mlflow_ae5_server.common import progress
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.common.report import Report
from mlflow_ae5_server.common.text import amount, counted
from mlflow_ae5_server.gc.destinations import Destinations
from mlflow_ae5_server.gc.locations import LOCAL, SERVER, WORKSPACES, BadLocationError, parse
from mlflow_ae5_server.gc.plan import EXPLAINED, unusual_locations
from mlflow_ae5_server.gc.registry import Registry
from mlflow_ae5_server.gc.stores import ArtifactFolder, Store, StoreError
from mlflow_ae5_server.gc.summary import show_more
from mlflow_ae5_server.gc.tables import MODELS, RUNS, TRACES

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

_ID = re.compile(r"[0-9a-f]{32}")
_BELOW = {"models": re.compile(r"m-[0-9a-f]{32}\Z"), "traces": re.compile(r"tr-[0-9a-f]{32}\Z")}
_KEYS: dict[str, Any] = {"run": RUNS.c.run_uuid, "logged model": MODELS.c.model_id, "trace": TRACES.c.request_id}
_BATCH = 500  # folders in one query


@dataclass
class Orphans:
    """Artifact folders without a row."""

    old: list[ArtifactFolder] = field(default_factory=list)  # these may be removed
    recent: list[ArtifactFolder] = field(default_factory=list)  # changed after the limit; these stay
    with_row: int = 0  # folders that have one

    def guard(self, mode: str) -> str:
        """Why no orphan may be removed; empty if they may.

        Too few folders with a row mean that the store is probably another database's. `remove` requires at least as
        many folders with a row as without, `remove-all` at least one.
        """
        without = len(self.old) + len(self.recent)
        if without and not self.with_row:
            return "nothing there belongs to this database"
        if without > self.with_row and mode != "remove-all":
            return (
                f"{counted(without, 'orphaned artifact folders')}, and only {self.with_row} that belong to this "
                "database; if it is the right store, MLFLOW_TRACKING_GC_ORPHANS=remove-all deletes them"
            )
        return ""


def handle_orphans(
    engine: Engine,
    destinations: Destinations,
    registry: Registry,
    limit: int,
    mode: str,
    report: Report,
    *,
    dry_run: bool,
) -> int:
    """Show or remove orphans, and report them. Returns the number of problems. limit: milliseconds."""
    if mode == "ignore":
        return 0
    problems: list[str] = []
    try:
        destination = destinations.server()
        with progress.phase("find-orphans", "folders") as phase, engine.connect() as connection:
            orphans = _find(connection, destination, registry, limit, phase.advance)
        guard, may_remove = orphans.guard(mode), mode.startswith("remove") and not dry_run
        _show(orphans, may_remove and not guard)
        if guard and may_remove:
            problems.append(f"nothing was deleted: {guard}")
        elif guard:
            print(f"orphans: nothing would be deleted: {guard}")
        removed = _remove(destination, orphans, problems) if may_remove and not guard else []
        report.add(orphans=_fields(mode, orphans, removed, guard))
    except StoreError as error:
        problems.append(scrub(str(error)))
        report.add(orphans={"mode": mode, "error": problems[-1]})
    for problem in problems[:20]:
        print(f"orphans: {problem}")
    return len(problems)


def _find(
    connection: Connection, destination: Store, registry: Registry, limit: int, examined: Callable[[int], None]
) -> Orphans:
    registry.refresh(connection)
    mentioned, unusual = _mentioned(connection, destination)
    orphans = Orphans()
    folders = _owner_folders(destination)
    while batch := list(itertools.islice(folders, _BATCH)):
        rows: set[str] = set()
        for kind, key in _KEYS.items():
            if ids := [owner for k, owner, _ in batch if k == kind]:
                rows.update(connection.execute(select(key).where(key.in_(ids))).scalars())
        orphans.with_row += len(rows)
        for _kind, owner, path in batch:
            if owner in rows or owner.rpartition("-")[2] in mentioned or registry.protects(owner):
                continue
            if any(path == top or path.startswith(f"{top}/" if top else "") for top in unusual):
                continue
            folder = destination.folder(path)
            (orphans.old if folder.newest * 1000 <= limit else orphans.recent).append(folder)
        examined(len(batch))
    return orphans


def _owner_folders(destination: Store) -> Iterator[tuple[str, str, str]]:
    """(kind, id, path)"""
    for experiment in _experiment_folders(destination):
        for name in destination.folders(experiment):
            if _ID.fullmatch(name):
                yield "run", name, f"{experiment}/{name}"
            elif (form := _BELOW.get(name)) is not None:
                kind = "logged model" if name == "models" else "trace"
                for owner in destination.folders(f"{experiment}/{name}"):
                    if form.match(owner):
                        yield kind, owner, f"{experiment}/{name}/{owner}"


def _experiment_folders(destination: Store) -> Iterator[str]:
    for top in destination.folders(""):
        if top.isdigit():
            yield top
        elif top == WORKSPACES:
            for workspace in destination.folders(top):
                inside = f"{top}/{workspace}"
                yield from (f"{inside}/{name}" for name in destination.folders(inside) if name.isdigit())


def _mentioned(connection: Connection, destination: Store) -> tuple[set[str], set[str]]:
    """Ids in locations that MLflow did not choose, and these locations as paths of the store."""
    ids: set[str] = set()
    paths: set[str] = set()
    shown = destination.shown.rstrip("/") + "/"
    for owner, uri in unusual_locations(connection):
        ids.update(_ID.findall(uri))
        if owner.startswith("experiment "):
            continue  # an experiment's folder holds those of its runs
        try:
            location = parse(uri)
        except BadLocationError:
            continue
        url = f"{location.root}/{location.path}"
        if location.root == SERVER:
            paths.add(location.path)
        elif location.root == LOCAL and "://" not in destination.shown:
            inside = os.path.relpath(os.path.realpath("/" + location.path), os.path.realpath(destination.shown))
            if not inside.startswith(".."):
                paths.add("" if inside == "." else inside)
        elif f"{url}/".startswith(shown):
            paths.add(url.removeprefix(shown.rstrip("/")).strip("/"))
    return ids, paths


def _show(orphans: Orphans, removing: bool) -> None:
    verb = "deleting" if removing else "found"
    print(f"{verb} {counted(len(orphans.old), 'orphaned artifact folders')}, {amount(_bytes(orphans.old))}")
    for folder in orphans.old[:EXPLAINED]:
        print(f"  {folder.path}  {amount(folder.size.bytes)}")
    show_more(orphans.old)
    if orphans.recent:
        print(f"kept {len(orphans.recent)} more that changed recently")


def _remove(destination: Store, orphans: Orphans, problems: list[str]) -> list[ArtifactFolder]:
    removed = []
    for folder in orphans.old:
        try:
            if destination.size(folder.path) is not None:
                destination.remove(folder.path)
            removed.append(folder)
        except StoreError as error:
            problems.append(f"{folder.path}: {scrub(str(error))}")
    return removed


def _fields(mode: str, orphans: Orphans, removed: list[ArtifactFolder], guard: str) -> dict[str, Any]:
    return {
        "mode": mode,
        "folders": len(orphans.old) + len(orphans.recent),
        "recent": len(orphans.recent),
        "bytes": _bytes(orphans.old),
        "removed": len(removed),
        "removed_bytes": _bytes(removed),
        "remaining": len(orphans.old) - len(removed),
        **({"guard": guard} if guard else {}),
    }


def _bytes(folders: Iterable[ArtifactFolder]) -> int:
    return sum(folder.size.bytes for folder in folders)
