"""One collection on one database: plan, guards that need the artifacts, removal, leftovers, orphans."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from mlflow_ae5_server.common.errors import ProjectError
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.common.report import Report
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.gc import cascade, orphans, plan, summary
from mlflow_ae5_server.gc.destinations import Destinations, server_of, settle, unusable
from mlflow_ae5_server.gc.journal import PARTLY, GcJournal, journal_folder
from mlflow_ae5_server.gc.locations import SERVER, BadLocationError, canonical, own_folder
from mlflow_ae5_server.gc.plan import GcItem, GcPlan, SkippedItem
from mlflow_ae5_server.gc.registry import Registry
from mlflow_ae5_server.gc.removal import Removal
from mlflow_ae5_server.gc.stores import FolderStore, Store, TroubleError, spread
from mlflow_ae5_server.gc.tables import MODELS, RUNS
from mlflow_ae5_server.gc.transactions import DeletingConnection

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

_HANDS_NEAR, _HANDS_FAR = 2, 8  # folders removed at a time
_KNOWN = 100  # runs and models that are looked for where the server does not answer


class Collector:
    """`problem` is why the server cannot be used, None if it can."""

    def __init__(
        self,
        settings: Settings,
        report: Report,
        store: Database,
        engine: Engine,
        limit: int,
        include_registered: bool,
        problem: ProjectError | None,
        pool: ThreadPoolExecutor,
        step: Callable[[str], None],
    ) -> None:
        self._settings, self._report, self._store, self._engine = settings, report, store, engine
        self._limit, self._problem, self._pool, self._step = limit, problem, pool, step
        self._registry = Registry(include_registered)
        self._near = False

    def collect(self, older_than: str, orphan_mode: str, dry_run: bool) -> int:
        """Returns the exit code."""
        with self._engine.connect() as connection:
            self._registry.refresh(connection)
            same = canonical(self._settings.value("MLFLOW_ARTIFACTS_DESTINATION"))
            todo = plan.make(connection, self._limit, self._registry, same)
        destinations = self._destinations(todo)
        self._measure(todo, destinations)
        summary.show(todo, older_than, dry_run)
        if dry_run:
            self._report.add(outcome="dry-run", **summary.planned(todo))
            self._orphans(destinations, orphan_mode, dry_run)
            return 0
        troubles = self._remove(todo, destinations)
        troubles += self._orphans(destinations, orphan_mode, dry_run)
        self._report.add(outcome="incomplete" if troubles else "done")
        return PARTLY if troubles else 0

    # where artifacts are ---------------------------------------------------------------------------------------------

    def _destinations(self, todo: GcPlan) -> Destinations:
        uri = self._settings.value("MLFLOW_TRACKING_URI")
        server = server_of(uri, os.environ) if self._problem is None else None
        due = [i.location.path for i in todo.owners() if i.location is not None and i.location.root == SERVER]
        destination, reason = settle(self._settings.value("MLFLOW_ARTIFACTS_DESTINATION"), server, due, self._known)
        if destination is not None and destination.through_server and reason:
            print(f"works through the server: {scrub(reason)}", file=sys.stderr, flush=True)
        problem = unusable(self._problem, reason)
        destinations = Destinations(destination, uri, problem)
        if destination is None and self._problem is not None and due and len(due) == sum(1 for _ in todo.owners()):
            raise self._problem  # nothing could be done without the server: nothing is
        return destinations

    def _known(self) -> list[str]:
        """Where a few runs and models have their artifacts, as paths below the server's root."""
        paths = []
        with self._engine.connect() as connection:
            for key, uri in ((RUNS.c.run_uuid, RUNS.c.artifact_uri), (MODELS.c.model_id, MODELS.c.artifact_location)):
                for owner, text in connection.execute(select(key, uri).limit(_KNOWN)):
                    try:
                        location = own_folder(text, owner)
                    except BadLocationError:
                        continue
                    if location.root == SERVER:
                        paths.append(location.path)
        return paths

    def _measure(self, todo: GcPlan, destinations: Destinations) -> None:
        """Sizes of all that goes; what cannot be looked at, or leads elsewhere, is left out."""

        def look(item: GcItem) -> SkippedItem | None:
            if item.location is None:
                return None
            try:
                item.size = destinations.of(item.location).look(item.location.path)
            except TroubleError as error:
                return SkippedItem(item.kind, item.id, scrub(str(error)), True)
            return None

        skips, self._near = spread(self._pool, look, list(todo.owners()))
        if troubles := [skip for skip in skips if skip is not None]:
            todo.drop(troubles)

    def _journal(self, destinations: Destinations) -> GcJournal | None:
        destination: Store | None = destinations.destination
        if self._store.file is not None:
            destination = FolderStore(Path("/"), journal_folder(self._store.file))
        return GcJournal(destination, self._store.uri) if destination is not None else None

    # doing it --------------------------------------------------------------------------------------------------------

    def _remove(self, todo: GcPlan, destinations: Destinations) -> int:
        """Returns the number of troubles."""
        datasets = 0
        with DeletingConnection(self._store, self._engine) as writer:
            removal = Removal(
                writer,
                cascade.Cascade(self._engine),
                self._registry,
                destinations,
                self._journal(destinations),
                hands=_HANDS_NEAR if self._near else _HANDS_FAR,
                step=self._step,
            )
            try:
                removal.finish_earlier()
                removal.carry_out(todo)
                datasets = self._sweep(writer, removal)
            finally:
                removal.close()
                # also when stopped: what was done is done
                self._report.add(**summary.done(todo, removal.tally, datasets))
        summary.show_skipped(removal.tally.skipped)
        return sum(skip.trouble for skip in (*todo.skipped, *removal.tally.skipped))

    def _sweep(self, writer: DeletingConnection, removal: Removal) -> int:
        """Inputs of runs that are gone, and the datasets that nothing refers to any more."""
        count, remove = cascade.unused_datasets()
        with self._engine.connect() as connection:
            unused = connection.execute(count).scalar_one()
        if not unused and not removal.tally.removed:
            return 0
        with writer.transaction() as connection:
            for statement in cascade.unused_inputs():
                removal.tally.rows += max(0, connection.execute(statement).rowcount)
            datasets = max(0, connection.execute(remove).rowcount)
        removal.tally.rows += datasets
        return datasets

    def _orphans(self, destinations: Destinations, mode: str, dry_run: bool) -> int:
        if mode == "ignore":
            return 0
        removed = []
        troubles: list[str] = []
        if destinations.destination is None:
            print("orphans: the server's artifacts cannot be reached")
            self._report.add(orphans={"mode": mode, "error": "the server's artifacts cannot be reached"})
            return 1
        try:
            with self._engine.connect() as connection:
                found = orphans.find(connection, destinations.destination, self._registry, self._limit)
            held = found.held(mode)
            removing = mode.startswith("remove") and not dry_run and not held
            summary.show_orphans(found, removing)
            if held and mode.startswith("remove") and not dry_run:
                troubles.append(f"none is removed: {held}")
            elif held:
                print(f"orphans: none would be removed: {held}")
            for item in found.old if removing else ():
                try:
                    if destinations.destination.look(item.path) is not None:
                        destinations.destination.remove(item.path)
                    removed.append(item)
                except TroubleError as error:
                    troubles.append(f"{item.path}: {scrub(str(error))}")
            self._report.add(orphans=summary.orphan_fields(mode, found, removed, held))
        except TroubleError as error:
            troubles.append(scrub(str(error)))
            self._report.add(orphans={"mode": mode, "error": troubles[-1]})
        for trouble in troubles[:20]:
            print(f"orphans: {trouble}")
        return len(troubles)
