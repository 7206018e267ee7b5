"""The restore of one snapshot, step by step, so that it can be killed anywhere and run again.

    the ledger            says what is about to happen
    database aside        first, so that no database is left whose files have gone   (only with --replace)
    artifacts aside                                                                  (only with --replace)
    artifacts             each written, read back and compared
    database              last, all or nothing; its tables are read back and compared
    upgrade               by MLflow's own migrations, where the snapshot's schema is older
    the ledger            is closed

A run that finds the ledger open goes on from there. It trusts nothing of the first run but what was put aside: files
that are there are read and compared, and so is the database.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass

from mlflow_ae5_server.common.errors import DamagedError, NotEmptyError, ProjectError, SchemaError
from mlflow_ae5_server.common.text import amount
from mlflow_ae5_server.database import dialects, migration, schema
from mlflow_ae5_server.database.connection import Database, connect_engine
from mlflow_ae5_server.database.dialects import DatabasePart
from mlflow_ae5_server.database.schema import inspect_schema
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.repository import Repository
from mlflow_ae5_server.restore import files as recover_files
from mlflow_ae5_server.restore import preflight
from mlflow_ae5_server.restore.files import RestoreCounts
from mlflow_ae5_server.restore.journal import (
    SAVING,
    RestoreInProgress,
    RestoreJournal,
    RestoreJournalFile,
    SavedCopy,
    new_name,
    now,
    who,
)
from mlflow_ae5_server.restore.preflight import TargetState
from mlflow_ae5_server.restore.saved_copies import SavedCopies
from mlflow_ae5_server.restore.target import ArtifactTarget


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class RestoreSource:
    """A snapshot and where it is."""

    repository: Repository
    snapshot: Manifest
    part: DatabasePart
    shorten: bool = False  # free text that another kind of database cannot keep as it is

    def artifacts(self, target: ArtifactTarget, *, again: bool) -> RestoreCounts:
        """Every file to `target`; raises DamagedError where they are not those that the manifest counts."""
        return recover_files.restore(
            lambda: self.repository.files(self.snapshot), self.repository.reader(), target, again=again
        )

    def database(self, store: Database) -> None:
        """Into the empty `store`; raises DamagedError where what is then read from it is not the snapshot's."""
        expected = dialects.load(self.part, self.repository.reader(), store, shorten=self.shorten)
        if different := differences(expected, store):
            raise DamagedError(
                f"{', '.join(different[:5])} in {store.shown} is not what the snapshot {self.snapshot.id} has",
                "use another snapshot, and verify this one",
            )


def differences(desired: dict[str, tuple[int, str]], store: Database) -> list[str]:
    """The tables of `store` that differ in rows or digest."""
    found = dialects.digests(store)
    return sorted(name for name in desired.keys() | found.keys() if desired.get(name) != found.get(name))


@dataclass(frozen=True)
class RestoreResult:
    """`database_identical` is None where an interrupted run had proved it and upgraded the schema since."""

    restored: RestoreCounts
    database_identical: bool | None
    saved_copy: str | None
    upgraded: dict[str, str] | None


@dataclass
class Restore:
    """One restore of `source` into `store` and `target`. The caller holds the maintenance lock."""

    source: RestoreSource
    store: Database
    target: ArtifactTarget
    saved_copies: SavedCopies
    journal_file: RestoreJournalFile

    def run(
        self, found: TargetState, *, replace: bool, migrate: bool, same: RestoreCounts | None = None
    ) -> RestoreResult:
        """same: the artifacts of the snapshot are there already, and stay."""
        if found.has_database and replace:
            dialects.settle(self.store)  # refused before anything is written down
        before = self.journal_file.restore_journal if self.journal_file.running is None else None
        again = self._begin(found, replace=replace, in_place=same is not None)
        self._put_aside(before)
        restored = same if same is not None else self._artifacts(again=again, replace=replace)
        say(
            f"{restored.files} files ({amount(restored.bytes)}) are there as in the snapshot, "
            f"{restored.written} written"
        )
        identical = self._database(replace=replace)
        upgraded = self._upgrade() if migrate else None
        dialects.complete(self.store)
        kept = self._running().kept
        self.journal_file.end()
        return RestoreResult(restored, identical, kept, upgraded)

    def _running(self) -> RestoreInProgress:
        if self.journal_file.running is None:
            raise AssertionError("the ledger was opened")
        return self.journal_file.running

    def _begin(self, found: TargetState, *, replace: bool, in_place: bool) -> bool:
        """Open the ledger, or find it open: then True. Raises NotEmptyError."""
        old, snapshot = self.journal_file.running, self.source.snapshot.id
        if old is not None and old.snapshot == snapshot:
            say(f"going on with the restore of {snapshot} that {old.who} began {old.started}, at: {old.phase}")
            return old.phase not in SAVING
        if not replace:
            preflight.refuse_occupied(found, self.store, self.saved_copies)
        if old is not None and old.phase in SAVING:  # half of the old data has gone there: the other half follows
            entry = self.journal_file.kept(old.aside)
            if entry is not None and entry.in_place and not in_place:
                entry = dataclasses.replace(entry, in_place=False, artifacts=found.contents is not None)
            running = dataclasses.replace(old, snapshot=snapshot, who=who(), started=now(), in_place=in_place)
            self.journal_file.begin(running, entry)
            return False
        aside = None
        if found.has_database if in_place else found.occupied:
            # What an unfinished restore has left is not what an undo is for.
            aside = new_name("failed" if old is not None else "kept")
        kept = old.kept if old is not None else aside
        contents = found.contents is not None and not in_place
        entry = None
        if aside is not None:
            entry = SavedCopy(aside, snapshot, now(), found.has_database, contents, in_place, self.store.shown)
        phase = "save-database" if aside else "artifacts"
        self.journal_file.begin(RestoreInProgress(phase, snapshot, now(), who(), aside, kept, in_place), entry)
        return False

    def _put_aside(self, before: RestoreJournal | None) -> None:
        """`before` is the ledger as it was when this run opened it, None where it was open: what could not be put
        aside is not left written down as kept."""
        aside = self._running().aside
        if self._running().phase == "save-database":
            if aside is not None and preflight.look(self.store, self.saved_copies).has_database:
                say(f"keeping the tables of {self.store.shown} aside as {aside}")
                self.journal_file.or_unsay(before, lambda: dialects.save_copy(self.store, aside))
            self.journal_file.turn("save-artifacts")
        if self._running().phase == "save-artifacts":
            if aside is not None and not self._running().in_place and self.saved_copies.contents() is not None:
                say(f"keeping the artifacts of {self.saved_copies.shown} aside as {aside}")
                self.saved_copies.aside(aside)
            self.journal_file.turn("artifacts")

    def _artifacts(self, *, again: bool, replace: bool) -> RestoreCounts:
        try:
            return self.source.artifacts(self.target, again=again)
        except NotEmptyError:
            if not (again and replace):
                raise
        name = new_name("failed")
        self.journal_file.keep(SavedCopy(name, self.source.snapshot.id, now(), database=False, artifacts=True))
        say(f"{self.saved_copies.shown} holds files that are not the snapshot's: keeping all of them aside as {name}")
        self.saved_copies.aside(name)
        return self.source.artifacts(self.target, again=False)

    def _database(self, *, replace: bool) -> bool | None:
        was = self._running().phase
        if was == "artifacts":
            self.journal_file.turn("database")
        found = preflight.look(self.store, self.saved_copies)
        preflight.refuse_user(found, self.store)
        if found.has_database:
            if self._is_the_snapshots():
                return True
            if was == "upgrade" and found.state.revision == schema.latest() != self.source.part.revision:
                return None
            self._displace(found, allowed=replace or was == "upgrade")
        try:
            self.source.database(self.store)
        except DamagedError:
            if dialects.state(self.store).kind != "empty":  # loaded, and not what was to be loaded
                self._displace(found, allowed=True)
            raise
        say(f"{self.source.part.rows} rows in {len(self.source.part.tables)} tables are there as in the snapshot")
        return True

    def _is_the_snapshots(self) -> bool:
        try:
            reader, shorten = self.source.repository.reader(), self.source.shorten
            return not differences(dialects.expected(self.source.part, reader, self.store, shorten=shorten), self.store)
        except ProjectError:  # a migration that was cut off leaves tables that are of no revision
            return False

    def _displace(self, found: TargetState, *, allowed: bool) -> None:
        """Out of the way with a database that this restore did not load, or half changed."""
        preflight.refuse_foreign(found, self.store)
        if not allowed:
            raise NotEmptyError(
                f"since the restore of {self.source.snapshot.id} was interrupted, {self.store.shown} has come to hold "
                f"{found.state.rows} rows that are not the snapshot's",
                "run it again with --replace, which keeps them aside",
            )
        name = new_name("failed")
        dialects.save_copy(self.store, name)
        self.journal_file.keep(SavedCopy(name, self.source.snapshot.id, now(), database=True, artifacts=False))
        say(f"kept the tables of {self.store.shown} aside as {name}")

    def _upgrade(self) -> dict[str, str] | None:
        before = self.source.part.revision
        found = inspect_schema(connect_engine(self.store))
        if before == found.expected:
            return None
        self.journal_file.turn("upgrade")
        if found.state != "current":
            say(f"the snapshot's schema is at {before}: upgrading it to {found.expected}")
            ended = migration.migrate(self.store)
            if ended.exit_code:
                raise SchemaError(
                    f"the snapshot {self.source.snapshot.id} is restored, and its schema could not be upgraded from "
                    f"{before}: {ended.error}",
                    "run it again with the release that made the snapshot, which knows that schema",
                )
        return {"revision": before, "new_revision": found.expected}
