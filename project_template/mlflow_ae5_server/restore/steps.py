"""Restore one snapshot in ordered steps, so that it can be killed anywhere and run again.

The restore journal names the next step before anything of it is done. The steps that save the present data are not
repeated once they are complete. Every later step is: it checks what is there, and trusts nothing of the first run.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from mlflow_ae5_server.common import progress
from mlflow_ae5_server.common.errors import SchemaMismatch, SnapshotDamaged, TargetNotEmpty
from mlflow_ae5_server.common.report import say
from mlflow_ae5_server.common.text import counted, counted_files
from mlflow_ae5_server.database import dump, migration, saved_copy, schema
from mlflow_ae5_server.database.connection import connect_engine
from mlflow_ae5_server.database.schema import inspect_schema
from mlflow_ae5_server.restore.files import RestoreCounts
from mlflow_ae5_server.restore.journal import (
    RESTORE_STEPS,
    RestoreInProgress,
    RestoreJournalFile,
    SavedCopy,
    new_name,
    now,
    this_process,
)
from mlflow_ae5_server.restore.preflight import RestoreTarget, TargetState
from mlflow_ae5_server.restore.source import RestoreSource
from mlflow_ae5_server.restore.target import ArtifactTarget


@dataclass
class RestoreResult:
    artifacts: RestoreCounts = field(default_factory=RestoreCounts)
    database_identical: bool | None = None  # None: an interrupted run had verified it, and has upgraded the schema
    saved_copy: str | None = None
    upgraded: dict[str, str] | None = None


@dataclass
class Restore:
    """One restore of `source` into `target`. The caller holds the maintenance lock."""

    source: RestoreSource
    target: RestoreTarget
    artifacts: ArtifactTarget
    journal: RestoreJournalFile
    replace: bool  # save the present data instead of refusing it
    upgrade: bool  # an older schema, to that of the installed MLflow
    matching: RestoreCounts | None = None  # the artifacts of the snapshot, where they are there already and stay
    resumed: bool = False  # past the steps that save: the data at the target may be of this restore
    result: RestoreResult = field(default_factory=RestoreResult)

    def run(self, observed: TargetState) -> RestoreResult:
        if observed.has_database and self.replace:
            saved_copy.settle(self.target.store)  # refused before anything is written down
        begin(self, observed)
        with progress.phase("save-data"):
            self.target.save_data(self.journal, RESTORE_STEPS)
        for step in (restore_artifacts, load_database, upgrade_schema, finish):
            step(self)
        return self.result


def begin(restore: Restore, observed: TargetState) -> None:
    """Write the restore into the journal, or resume the interrupted one. Raises TargetNotEmpty."""
    journal, snapshot, stay = restore.journal, restore.source.snapshot.id, restore.matching is not None
    previous = journal.running
    if previous is not None and previous.snapshot == snapshot:
        say(f"resuming the restore of {snapshot}, {previous.start}: {previous.step}")
        restore.resumed = not previous.is_saving
        return
    if not restore.replace:
        observed.refuse_occupied()
    if previous is not None and previous.is_saving:  # a part of the data is in that saved copy: the rest follows
        copy = journal.find(previous.save_as)
        if copy is not None and copy.artifacts_stay and not stay:
            copy = dataclasses.replace(copy, artifacts_stay=False, artifacts=observed.contents is not None)
        running = dataclasses.replace(
            previous, snapshot=snapshot, started=now(), started_by=this_process(), artifacts_stay=stay
        )
        journal.begin(running, copy)
        return
    save_as, copy = None, None
    if observed.has_database if stay else observed.occupied:
        # The data of an interrupted restore is saved too, but it is not what an undo brings back.
        save_as = new_name("saved" if previous is None else "failed")
        artifacts = observed.contents is not None and not stay
        copy = SavedCopy(save_as, snapshot, now(), observed.has_database, artifacts, stay, restore.target.store.shown)
    original = save_as if previous is None else previous.original
    first = "save-database" if save_as else "restore-artifacts"
    journal.begin(RestoreInProgress(first, snapshot, now(), this_process(), save_as, original, stay), copy)


def restore_artifacts(restore: Restore) -> None:
    """Write every file, read it back and compare it."""
    counts = restore.matching if restore.matching is not None else _write_artifacts(restore)
    restore.result.artifacts = counts
    say(f"{counted_files(counts.files, counts.bytes)} identical to the snapshot, {counts.written} written")
    if restore.journal.require_running().step == "restore-artifacts":
        restore.journal.enter("load-database")


def _write_artifacts(restore: Restore) -> RestoreCounts:
    try:
        return restore.source.write_artifacts(restore.artifacts, again=restore.resumed)
    except TargetNotEmpty:
        if not (restore.resumed and restore.replace):
            raise
    name = new_name("failed")
    restore.journal.add(SavedCopy(name, restore.source.snapshot.id, now(), database=False, artifacts=True))
    say(f"{restore.target.saved_copies.shown} holds files that are not in the snapshot: saving all of them as {name}")
    restore.target.saved_copies.save(name)
    return restore.source.write_artifacts(restore.artifacts, again=False)


def load_database(restore: Restore) -> None:
    """Load the database, all or nothing, after all files; read its tables back and compare them."""
    source, store = restore.source, restore.target.store
    upgrading = restore.journal.require_running().step == "upgrade-schema"
    observed = restore.target.observe()
    observed.refuse_user()
    if observed.has_database:
        if source.is_loaded(store):
            restore.result.database_identical = True
            return
        if upgrading and source.is_outdated and observed.database.revision == schema.latest():
            return  # an interrupted run loaded it, compared it and upgraded its schema
        _save_unexpected_database(restore, observed, allowed=restore.replace or upgrading)
    try:
        source.load_database(store)
    except SnapshotDamaged:
        if dump.state(store).kind != "empty":  # loaded, and different
            _save_unexpected_database(restore, observed, allowed=True)
        raise
    say(f"{source.part.contents} identical to the snapshot")
    restore.result.database_identical = True


def _save_unexpected_database(restore: Restore, observed: TargetState, *, allowed: bool) -> None:
    """Move a database to a saved copy that this restore did not load, or that is incomplete."""
    observed.refuse_foreign()
    if not allowed:
        raise TargetNotEmpty(
            f"since the restore of {restore.source.snapshot.id} was interrupted, "
            f"{counted(observed.database.rows, 'rows')} that are not in the snapshot were written to "
            f"{restore.target.store.shown}",
            "run it again with --replace, which saves them",
        )
    name = restore.target.save_unexpected_database(restore.journal, restore.source.snapshot.id)
    say(f"saved the tables of {restore.target.store.shown} as {name}")


def upgrade_schema(restore: Restore) -> None:
    """Upgrade an older schema by MLflow's own migrations."""
    if not restore.upgrade:
        return
    before, snapshot = restore.source.part.revision, restore.source.snapshot.id
    state = inspect_schema(connect_engine(restore.target.store))
    if before == state.expected:
        return
    restore.journal.enter("upgrade-schema")
    if state.state != "current":
        say(f"upgrading the schema of the snapshot from {before} to {state.expected}")
        ended = migration.migrate(restore.target.store)
        if ended.exit_code:
            raise SchemaMismatch(
                f"the snapshot {snapshot} is restored, but its schema {before} could not be upgraded: {ended.error}",
                "run it again with the release that made the snapshot, which knows that schema",
            )
    restore.result.upgraded = {"revision": before, "new_revision": state.expected}


def finish(restore: Restore) -> None:
    """Complete moved tables, and close the journal."""
    saved_copy.complete(restore.target.store)
    restore.result.saved_copy = restore.journal.require_running().original
    restore.journal.end()
