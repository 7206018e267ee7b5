"""Drill: a snapshot is restored into a scratch place, a server is started on it, used, and everything is removed.

Nothing of it can reach the real data: the scratch database is a file or schema of its own, the artifacts lie in a
folder of its own, and the server is told of nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mlflow_ae5_server.commands import restore
from mlflow_ae5_server.common import keys
from mlflow_ae5_server.common.errors import (
    ConfigurationError,
    CredentialsError,
    DamagedError,
    ProjectError,
    StorageError,
)
from mlflow_ae5_server.common.folders import local_folder
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.common.report import Report
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.common.text import amount
from mlflow_ae5_server.database import dialects, migration, schema
from mlflow_ae5_server.database.connection import Database, check_uri, connect_engine
from mlflow_ae5_server.drill import checks as drill_checks
from mlflow_ae5_server.drill import scratch as scratch_folder
from mlflow_ae5_server.drill.api import MlflowApi
from mlflow_ae5_server.drill.checks import Check
from mlflow_ae5_server.drill.server import TemporaryServer, serving
from mlflow_ae5_server.repository import check as verify
from mlflow_ae5_server.restore import preflight
from mlflow_ae5_server.restore.files import refuse_names
from mlflow_ae5_server.restore.steps import RestoreSource
from mlflow_ae5_server.restore.target import FolderTarget

FAILED = 1  # exit code of a drill whose checks did not all pass
_ROOM = 1.1
_LOADED = frozenset({"artifacts", "database"})  # checks that compare the snapshot with itself, before any server runs


def run(settings: Settings, report: Report, options: argparse.Namespace) -> int:
    """Restore `options.snapshot` into a scratch place, prove it there, remove it. Returns the exit code."""
    store = check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    destination = settings.value("MLFLOW_ARTIFACTS_DESTINATION") or ""
    backups = settings.value("MLFLOW_TRACKING_BACKUP_DESTINATION")
    if not backups:
        raise ConfigurationError("MLFLOW_TRACKING_BACKUP_DESTINATION is not set", "set it as for Backup")
    source = restore.find(backups, options.snapshot)
    report.add(**restore.describe(source, store), recovery_seconds=None, checks=[], models_read=0)
    restore.tell_keys(source, report)
    schema.require_supported(source.part.revision, f"the snapshot {source.snapshot.id}")
    if store.file is None:
        restore.wait(settings, store)
    parent = scratch_parent(destination, backups)
    drill = _Drill(source, report)
    with scratch_folder.scratch_folder(parent) as folder, _scratch_database(store, folder) as copy:
        # Also that the list is no longer than the manifest says, from which the room is reckoned.
        refuse_names(source.repository.files(source.snapshot), FolderTarget(folder / "artifacts"))
        _require_room(parent, source)
        say(f"restoring {source.snapshot.id} to {copy.shown} and {folder}")
        report.add(dialect={"source": source.part.dialect, "target": copy.dialect})
        drill.run(TemporaryServer(folder, copy, folder / "artifacts"), destination)
    drill.add(_nothing_left(folder))
    return _conclude(source, drill.checks, report)


def _conclude(source: RestoreSource, checks: list[Check], report: Report) -> int:
    """The exit code. Where the snapshot seems to be damaged it is read as a whole, so that all of the damage is named,
    and noted for the next backup to store anew."""
    failed = [check for check in checks if not check.passed]
    report.add(outcome="failed" if failed else "done")
    if not failed:
        return 0
    report.add(error="; ".join(f"{check.name}: {check.detail}" for check in failed))
    if any(check.damage for check in failed):
        found = preflight.check(source.repository, source.snapshot).verified
        if found.found:
            report.add(**verify.fields(source.snapshot, found))
        if found.found or any(check.damage and check.name in _LOADED for check in failed):
            return DamagedError.exit_code
    return FAILED


def scratch_parent(destination: str, backups: str) -> Path:
    """Where a snapshot's artifacts have room: beside the real ones, beside the backups, else a temporary folder."""
    for location in (destination, backups):
        folder = local_folder(location) if location else None
        if folder is not None and folder.is_dir() and os.access(folder.resolve().parent, os.W_OK):
            return folder.resolve().parent
    return Path(tempfile.gettempdir())


class _Drill:
    """The steps; `checks` has one entry for each that was made, and nothing is made after one that failed."""

    def __init__(self, source: RestoreSource, report: Report) -> None:
        self.checks: list[Check] = []
        self._source = source
        self._report = report
        self._started = time.monotonic()

    def run(self, scratch: TemporaryServer, destination: str) -> None:
        if not self._try("artifacts", lambda: self._artifacts(scratch)):
            return
        if not self._try("database", lambda: self._database(scratch.store)):
            return
        self._try("keys", lambda: _read_encrypted(scratch.store))
        try:
            with serving(scratch) as api:
                seconds = round(time.monotonic() - self._started, 1)
                self._report.add(recovery_seconds=seconds)
                self.add(Check("server", True, f"answered from the restored database after {seconds:g} s"))
                self._try("experiments", lambda: drill_checks.count(api, self._source.part))
                for check in drill_checks.use(api):
                    self.add(check)
                self._models(api, destination)
        except ProjectError as error:
            self.add(Check("server", False, error.message))

    def add(self, check: Check) -> None:
        self.checks.append(check)
        say(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.detail}")
        self._report.add(checks=[{**entry.to_json(), "detail": scrub(entry.detail)} for entry in self.checks])

    def _try(self, name: str, step: drill_checks.Step) -> bool:
        check = drill_checks.attempt(name, step)
        self.add(check)
        return check.passed

    def _artifacts(self, scratch: TemporaryServer) -> str:
        done = self._source.artifacts(FolderTarget(scratch.artifacts), again=False)
        return f"{done.files} files ({amount(done.bytes)}), each read back and identical"

    def _database(self, store: Database) -> str:
        part = self._source.part
        try:
            self._source.database(store)
        except ConfigurationError:
            dialects.refused(part, self._source.repository.reader(), store)  # DamagedError where it is the snapshot's
            raise
        message = f"{part.rows} rows in {len(part.tables)} tables, each read back and identical"
        if part.revision == schema.latest():
            return message
        ended = migration.migrate(store)
        if ended.exit_code:
            raise StorageError(f"its schema {part.revision} cannot be upgraded: {ended.error}")
        return f"{message}; upgraded from {part.revision} to {schema.latest()}"

    def _models(self, api: MlflowApi, destination: str) -> None:
        def read() -> str:
            origin = self._source.snapshot.artifacts.source
            found = drill_checks.read_models(
                api, (destination, origin), self._source.repository.files(self._source.snapshot)
            )
            self._report.add(models_read=found.models)
            return found.message()

        self._try("models read back", read)


def _read_encrypted(store: Database) -> str:
    found = keys.examine(connect_engine(store), os.environ)
    if lost := [one for one in found if one.lost]:
        raise ConfigurationError("; ".join(keys.warnings(lost, os.environ)))
    read = ", ".join(f"{one.rows} {keys.PROTECTS[one.name]}" for one in found)
    return f"the keys at hand read what is encrypted: {read}"


@contextlib.contextmanager
def _scratch_database(store: Database, folder: Path) -> Iterator[Database]:
    """Of the kind of the real one: a file in `folder`, a schema of its own in the same PostgreSQL database, or a
    database of its own beside that of MySQL.

    Where the user may not make that, or the database is of another kind, a file has to do.
    """
    if store.dialect in {"postgresql", "mysql"}:
        with contextlib.ExitStack() as stack:
            try:
                copy = stack.enter_context(dialects.scratch(store))
            except CredentialsError as error:
                say(f"note: no scratch place in {store.shown}, so a SQLite file is used: {error.message}")
            else:
                yield copy
                return
    yield check_uri(f"sqlite:///{folder / 'scratch.sqlite'}")


def _require_room(parent: Path, source: RestoreSource) -> None:
    desired = int((source.snapshot.artifacts.bytes + preflight.database_size(source.part)) * _ROOM)
    free = shutil.disk_usage(parent).free
    if free < desired:
        raise StorageError(
            f"a drill needs {amount(desired)} in {parent}, and {amount(free)} are free",
            "make room there; nothing was restored",
        )


def _nothing_left(folder: Path) -> Check:
    if folder.exists():
        return Check("removed", False, f"{folder} could not be removed")
    return Check("removed", True, "the scratch place is gone")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
