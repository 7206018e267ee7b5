"""One collection on one database, from plan to report."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from mlflow_ae5_server.common import progress
from mlflow_ae5_server.common.contract import EXIT_CODES
from mlflow_ae5_server.common.errors import ProjectError
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.common.report import Report, say
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.gc import cascade, summary
from mlflow_ae5_server.gc.destinations import Destinations, choose_destination, server_of
from mlflow_ae5_server.gc.journal import GcJournal, journal_folder
from mlflow_ae5_server.gc.locations import SERVER, BadLocationError, artifact_folder, canonical_by
from mlflow_ae5_server.gc.orphans import handle_orphans
from mlflow_ae5_server.gc.plan import GcItem, GcPlan, SkippedItem, make_plan
from mlflow_ae5_server.gc.registry import Registry
from mlflow_ae5_server.gc.removal import Removal
from mlflow_ae5_server.gc.stores import FolderStore, Store, StoreError, map_adaptively
from mlflow_ae5_server.gc.tables import MODELS, RUNS
from mlflow_ae5_server.gc.transactions import DeletingConnection

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

_LOCAL_THREADS, _REMOTE_THREADS = 2, 8  # folders removed at a time
_SAMPLE = 100  # runs and models that are searched in the destination where the server does not answer


class Collector:
    """One collection. server_problem: why the server cannot be used; None if it can."""

    def __init__(
        self,
        settings: Settings,
        report: Report,
        store: Database,
        engine: Engine,
        limit: int,
        include_registered: bool,
        server_problem: ProjectError | None,
        pool: ThreadPoolExecutor,
        step: Callable[[str], None],
    ) -> None:
        self._settings, self._report, self._store, self._engine = settings, report, store, engine
        self._limit, self._server_problem, self._pool, self._step = limit, server_problem, pool, step
        self._registry = Registry(include_registered)
        self._is_local = False

    def collect(self, older_than: str, orphan_mode: str, dry_run: bool) -> int:
        """Returns the exit code."""
        with progress.phase("find-expired"), self._engine.connect() as connection:
            self._registry.refresh(connection)
            canonical = canonical_by(self._settings.value("MLFLOW_ARTIFACTS_DESTINATION"))
            plan = make_plan(connection, self._limit, self._registry, canonical)
        destinations = self._destinations(plan)
        self._measure(plan, destinations)
        summary.show_plan(plan, older_than, dry_run)
        handle = functools.partial(
            handle_orphans, self._engine, destinations, self._registry, self._limit, orphan_mode, self._report
        )
        if dry_run:
            self._report.add(outcome="dry-run", **summary.planned_fields(plan))
            handle(dry_run=True)
            return 0
        failures = self._remove(plan, destinations)
        failures += handle(dry_run=False)
        self._report.add(outcome="incomplete" if failures else "done")
        return EXIT_CODES["incomplete"] if failures else 0

    # where artifacts are ---------------------------------------------------------------------------------------------

    def _destinations(self, plan: GcPlan) -> Destinations:
        uri, problem = self._settings.value("MLFLOW_TRACKING_URI"), self._server_problem
        server = server_of(uri, os.environ) if problem is None else None
        expired = [i.location.path for i in plan.owners() if i.location is not None and i.location.root == SERVER]
        setting = self._settings.value("MLFLOW_ARTIFACTS_DESTINATION")
        destination, reason = choose_destination(setting, server, expired, self._sample)
        if destination is not None and destination.through_server and reason:
            say(f"deletes artifacts through the server: {scrub(reason)}")
        if destination is None and problem is not None and expired and len(expired) == sum(1 for _ in plan.owners()):
            raise problem  # nothing could be removed without the server
        reasons = [reason, problem.message if problem else ""]
        return Destinations(destination, uri, scrub("; ".join(filter(None, reasons))))

    def _sample(self) -> list[str]:
        """Artifact paths of some runs and models, below the server's root."""
        paths = []
        with self._engine.connect() as connection:
            for key, uri in ((RUNS.c.run_uuid, RUNS.c.artifact_uri), (MODELS.c.model_id, MODELS.c.artifact_location)):
                for owner, text in connection.execute(select(key, uri).limit(_SAMPLE)):
                    try:
                        location = artifact_folder(text, owner)
                    except BadLocationError:
                        continue
                    if location.root == SERVER:
                        paths.append(location.path)
        return paths

    def _measure(self, plan: GcPlan, destinations: Destinations) -> None:
        """Set the sizes of all items; skip those whose artifacts cannot be read."""

        def measure(item: GcItem) -> SkippedItem | None:
            phase.advance()
            if item.location is None:
                return None
            try:
                item.size = destinations.size(item.location)
            except StoreError as error:
                return SkippedItem(item.kind, item.id, scrub(str(error)), True)
            return None

        owners = list(plan.owners())
        with progress.phase("measure", "items", len(owners)) as phase:
            skips, self._is_local = map_adaptively(self._pool, measure, owners)
        plan.skip([skip for skip in skips if skip is not None])

    def _journal(self, destinations: Destinations) -> GcJournal | None:
        destination: Store | None = destinations.destination
        if self._store.file is not None:
            destination = FolderStore(Path("/"), journal_folder(self._store.file))
        return GcJournal(destination, self._store.uri) if destination is not None else None

    # removing --------------------------------------------------------------------------------------------------------

    def _remove(self, plan: GcPlan, destinations: Destinations) -> int:
        """Returns how many items failed."""
        datasets = 0
        due = len(plan.runs) + len(plan.logged_models) + len(plan.experiments) + plan.traces
        with (
            progress.phase("delete-expired", "items", due) as phase,
            DeletingConnection(self._store, self._engine) as writer,
        ):
            removal = Removal(
                writer,
                cascade.Cascade(self._engine),
                self._registry,
                destinations,
                self._journal(destinations),
                self._limit,
                threads=_LOCAL_THREADS if self._is_local else _REMOTE_THREADS,
                step=self._step,
            )
            removal.counts.on_removed = phase.advance
            try:
                removal.resume()
                removal.remove(plan)
                datasets = self._remove_unused_datasets(writer, removal)
            finally:
                removal.close()
                self._report.add(**summary.removal_fields(plan, removal.counts, datasets))  # also when stopped
        summary.show_skipped(removal.counts.skipped)
        return sum(skip.failed for skip in (*plan.skipped, *removal.counts.skipped))

    def _remove_unused_datasets(self, writer: DeletingConnection, removal: Removal) -> int:
        """Delete inputs of deleted runs, and datasets that nothing refers to any more."""
        count, delete = cascade.unused_datasets()
        with self._engine.connect() as connection:
            unused = connection.execute(count).scalar_one()
        if not unused and not removal.counts.removed:
            return 0
        with writer.transaction() as connection:
            for statement in cascade.unused_inputs():
                removal.counts.rows += max(0, connection.execute(statement).rowcount)
            datasets = max(0, connection.execute(delete).rowcount)
        removal.counts.rows += datasets
        return datasets
