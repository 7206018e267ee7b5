"""Checks before a restore changes anything: is the snapshot intact, does it fit the target, is the target free?"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from mlflow_ae5_server.common.errors import (
    Configuration,
    LoginFailed,
    RepositoryFailed,
    SnapshotDamaged,
    TargetInUse,
    TargetNotEmpty,
)
from mlflow_ae5_server.common.folders import local_folder, nearest_existing, real
from mlflow_ae5_server.common.report import say
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.common.text import amount, counted, moment
from mlflow_ae5_server.database import dump, locks, mysql_saved_copy, saved_copy, schema
from mlflow_ae5_server.database.connection import Database, connect_engine, wait_until_ready
from mlflow_ae5_server.database.contents import DIALECTS, DatabasePart, DatabaseState
from mlflow_ae5_server.repository.check import CheckResult, note, state, verify
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.repository import Repository
from mlflow_ae5_server.restore.journal import RestoreJournalFile, SavedCopy, new_name, now
from mlflow_ae5_server.restore.saved_copies import SavedCopies, SavedSize

_DATABASE_WAIT = 20.0  # seconds at most
_ROOM = 1.05  # times the size of the snapshot


@dataclass(frozen=True)
class Preflight:
    """The check of a snapshot's blobs."""

    verified: CheckResult
    seconds: float  # that reading them took

    def require_intact(self, snapshot: Manifest) -> None:
        result = self.verified
        if not result.damaged_total:
            return
        named = [f"{blob.get('object') or blob.get('name')}: {blob['what']}" for blob in result.damaged[:3]]
        more = "; and more" if result.damaged_total > len(named) else ""
        raise SnapshotDamaged(
            f"the snapshot {snapshot.id} is damaged in {result.damaged_total} of "
            f"{counted(result.of_objects, 'objects')}: {'; '.join(named)}{more}",
            "nothing was changed; choose another one with --snapshot ID, and verify the backups",
        )


def refuse_kind(snapshot: Manifest, part: DatabasePart, store: Database) -> None:
    """Raise SchemaMismatch for a newer schema, Configuration for a kind of database that is not supported."""
    schema.require_supported(part.revision, f"the snapshot {snapshot.id}")
    if store.dialect not in DIALECTS:
        raise Configuration(
            f"a snapshot cannot be restored into {store.shown}: it is {store.dialect}",
            f"restore into {' or '.join(DIALECTS)}",
        )


def check(repository: Repository, snapshot: Manifest) -> Preflight:
    """Read every blob of a snapshot. Damage is in the result, not raised.

    A restore reads them once more, although that takes long from an object store: damage that shows when the target is
    already half written costs more.
    """
    say(f"checking snapshot {snapshot.id} of {moment(snapshot.started)} (MLflow {snapshot.mlflow_version})")
    started = time.monotonic()
    result = verify(repository, snapshot)
    with contextlib.suppress(RepositoryFailed):  # the repository may be mounted read-only
        before = state(repository, snapshot.name)
        if result.damaged_total or before is None or not before.damaged:  # a check of the rows may have found some
            note(repository, snapshot, result)
    checked = Preflight(result, time.monotonic() - started)
    read = f"{result.checked_objects} of {counted(result.of_objects, 'objects')} ({amount(result.checked_bytes)})"
    say(f"{read} read in {checked.seconds:.1f} s, {result.damaged_total or 'none'} damaged")
    return checked


# The target


def wait_for_database(settings: Settings, store: Database) -> None:
    """Wait for a database that does not answer yet, but not for a SQLite file that does not exist."""
    if store.file is None or store.file.is_file():
        seconds = min(_DATABASE_WAIT, settings.seconds("MLFLOW_TRACKING_DATABASE_WAIT"))
        wait_until_ready(store, seconds, say=say)


@dataclass(frozen=True)
class RestoreTarget:
    """The database and the artifacts that a restore writes."""

    store: Database
    destination: str
    saved_copies: SavedCopies

    def journal(self) -> RestoreJournalFile:
        """Read the restore journal."""
        return RestoreJournalFile(self.saved_copies)

    def save_data(self, journal: RestoreJournalFile, steps: tuple[str, ...], *, database: bool = True) -> None:
        """Move the present data to the saved copy in the first two of `steps`, those that are not done yet.

        The database before the artifacts: none is left whose files are gone. `journal` forgets the start of a run that
        is refused there.
        """
        running, (first, second, then) = journal.require_running(), steps[:3]
        if running.step == first:
            if running.save_as and database and self.observe().has_database:
                say(f"saving the tables of {self.store.shown} as {running.save_as}")
                with journal.reverted_if_refused(lambda: saved_copy.saved_names(self.store)):
                    saved_copy.save_copy(self.store, running.save_as)
            journal.enter(second)
        if journal.require_running().step == second:
            if running.save_as and not running.artifacts_stay and self.saved_copies.contents() is not None:
                say(f"saving the artifacts of {self.saved_copies.shown} as {running.save_as}")
                self.saved_copies.save(running.save_as)
            journal.enter(then)

    def save_unexpected_database(self, journal: RestoreJournalFile, snapshot: str) -> str:
        """Move tables that the restore of `snapshot` or its undo did not expect. Returns the name of the saved copy."""
        copy = SavedCopy(new_name("failed"), snapshot, now(), database=True, artifacts=False)
        with journal.listed(copy, lambda: saved_copy.saved_names(self.store)):
            saved_copy.save_copy(self.store, copy.name)
        return copy.name

    def observe(self) -> TargetState:
        state = dump.state(self.store)
        if self.store.dialect == "sqlite" and state.kind == "empty" and state.others:
            # Tables that are not MLflow's: the file is replaced as a whole, and they would be lost.
            state = DatabaseState("foreign", others=state.others)
        return TargetState(self, locks.in_use(self.store), state, self.saved_copies.contents())


@dataclass(frozen=True)
class TargetState:
    target: RestoreTarget
    user: str | None  # the server that runs on the database, for a person
    database: DatabaseState
    contents: SavedSize | None  # the artifacts

    @property
    def has_database(self) -> bool:
        return self.database.kind != "empty"

    @property
    def occupied(self) -> bool:
        return self.has_database or self.contents is not None

    def refuse_user(self) -> None:
        if self.user is not None:
            raise TargetInUse(
                f"{self.user} runs on {self.target.store.shown}",
                "stop the deployment, then run this again; nothing was changed",
            )

    def refuse_foreign(self) -> None:
        """Raise TargetNotEmpty for tables that are not of this MLflow: they are not moved, --replace or not."""
        if self.database.kind == "foreign":
            what = f"schema revision {self.database.revision}" if self.database.revision else "an unknown schema"
            names = ", ".join((*self.database.tables, *self.database.others)[:5])
            raise TargetNotEmpty(
                f"{self.target.store.shown} holds tables that are not of this MLflow ({what}): {names}",
                "use an empty database, or move them yourself; --replace does not touch them",
            )

    def refuse_occupied(self) -> None:
        contents = []
        if self.has_database:
            tables, rows = counted(len(self.database.tables), "tables"), counted(self.database.rows, "rows")
            contents.append(f"{self.target.store.shown} holds {tables} with {rows}")
        if self.contents is not None:
            contents.append(f"{self.target.saved_copies.shown} holds {self.contents}")
        if contents:
            raise TargetNotEmpty(
                " and ".join(contents),
                "restore into an empty database and artifact store, or use --replace, which saves all of it for --undo",
            )


def refuse_rights(target: RestoreTarget, *, replace: bool) -> None:
    """Raise LoginFailed where the account cannot create what a restore creates."""
    store = target.store
    if store.file is not None:
        _require_writable(store.file.parent, "MLFLOW_BACKEND_STORE_URI")
    elif store.dialect == "postgresql":
        _require_create(store, replace=replace)
    elif store.dialect == "mysql":
        mysql_saved_copy.require_right(store)
    if (folder := local_folder(target.destination)) is not None:
        _require_writable(folder, "MLFLOW_ARTIFACTS_DESTINATION")


def _require_create(store: Database, *, replace: bool) -> None:
    from sqlalchemy import text

    query = (
        "SELECT quote_ident(current_user), quote_ident(current_database()), quote_ident(current_schema()), "
        "has_schema_privilege(current_schema(), 'CREATE'), has_database_privilege(current_database(), 'CREATE')"
    )
    with connect_engine(store).connect() as connection:
        user, name, path, tables, schemas = connection.execute(text(query)).one()
    if tables is False:  # None: there is no current schema, which is refused elsewhere
        raise LoginFailed(
            f"{user} cannot create tables in {store.shown} (schema {path})",
            f"GRANT CREATE, USAGE ON SCHEMA {path} TO {user}",
        )
    if replace and not schemas:
        raise LoginFailed(
            f"{user} cannot create a schema in {store.shown}, which --replace needs for the saved copy",
            f"GRANT CREATE ON DATABASE {name} TO {user}, or restore into an empty database",
        )


def _require_writable(folder: Path, setting: str) -> None:
    existing = nearest_existing(real(folder))
    if not existing.is_dir():
        raise Configuration(f"{existing} is a file, not a folder", f"set {setting} to another path")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise LoginFailed(
            f"{existing} is not writable", f"give this account write permission there, or set {setting} to another path"
        )


def refuse_tight(target: RestoreTarget, snapshot: Manifest, part: DatabasePart, *, artifacts: bool = True) -> None:
    """Raise RepositoryFailed where a disk has no room for the files of the snapshot, or for its database alone."""
    required: dict[int, tuple[Path, int]] = {}
    file = target.store.file
    for path, size in (
        (local_folder(target.destination), snapshot.artifacts.bytes if artifacts else 0),
        (file.parent if file is not None else None, database_size(part)),
    ):
        if path is not None:
            existing = nearest_existing(real(path))
            device = existing.stat().st_dev
            required[device] = (existing, required.get(device, (existing, 0))[1] + int(size * _ROOM))
    for existing, size in required.values():
        free = shutil.disk_usage(existing).free
        if free < size:
            raise RepositoryFailed(
                f"the snapshot {snapshot.id} needs {amount(size)} in {existing}, but only {amount(free)} are free",
                "free disk space there; nothing was changed",
            )


def refuse_nesting(target: RestoreTarget, backups: str) -> None:
    """Raise Configuration for a database or backups within the artifacts, which --replace would move."""
    folder = local_folder(target.destination)
    if folder is None:
        inner, outer = backups.rstrip("/") + "/", target.destination.rstrip("/") + "/"
        if inner.startswith(outer):
            raise Configuration(f"the backups {backups} are within the artifacts", "move them elsewhere")
        return
    root = os.path.realpath(folder)
    for path, what in ((target.store.file, "the database"), (local_folder(backups), "the backups")):
        if path is not None and f"{os.path.realpath(path)}/".startswith(f"{root}/"):
            raise Configuration(f"{what} {path} is within the artifacts {folder}", "move it elsewhere")


def database_size(part: DatabasePart) -> int:
    """The approximate size of the database in bytes."""
    from mlflow_ae5_server.database import sqlite

    return len(part.file) * sqlite.CHUNK if part.file else part.rows * 200


def estimate(checked: Preflight, snapshot: Manifest, part: DatabasePart) -> float:
    """Return the seconds a restore would take: reading as fast as the check, and low assumptions for the rest.

    100 MB/s of writing and reading back, 1,000 files/s; 10,000 rows/s into tables, or 25 MB/s as a file.
    """
    rows = database_size(part) / 25e6 if part.file else part.rows / 10e3
    return round(2 * checked.seconds + snapshot.artifacts.bytes / 100e6 + snapshot.artifacts.files / 1000 + rows + 1, 1)
