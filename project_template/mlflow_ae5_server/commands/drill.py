"""Drill: restore a snapshot to a temporary location and check a server on it.

It cannot reach the real data: the temporary database is a file or schema of its own, the artifacts are restored to a
folder of their own, and the server receives no other address.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mlflow_ae5_server.common import keys, progress
from mlflow_ae5_server.common.errors import (
    Configuration,
    LoginFailed,
    ProjectError,
    RepositoryFailed,
    SnapshotDamaged,
)
from mlflow_ae5_server.common.folders import local_folder
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.common.report import Report, say, warn
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.common.text import amount, counted_files
from mlflow_ae5_server.common.work_folder import work_folder
from mlflow_ae5_server.database import load, migration, saved_copy, schema
from mlflow_ae5_server.database.connection import Database, check_uri, connect_engine
from mlflow_ae5_server.drill import server_checks
from mlflow_ae5_server.drill.api import MlflowApi
from mlflow_ae5_server.drill.server import TemporaryServer, serving
from mlflow_ae5_server.drill.server_checks import Check
from mlflow_ae5_server.repository.check import report_fields
from mlflow_ae5_server.restore import preflight
from mlflow_ae5_server.restore.files import refuse_names
from mlflow_ae5_server.restore.source import RestoreSource, find_source
from mlflow_ae5_server.restore.target import FolderTarget

FAILED = 1  # exit code of a drill whose checks did not all pass
_ROOM = 1.1  # of what the snapshot needs
_LOADED = frozenset({"artifacts", "database"})  # checks of the snapshot itself, before any server runs


def run(settings: Settings, report: Report, options: argparse.Namespace) -> int:
    """Restore a snapshot to a temporary location, check it, remove it."""
    store = check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    destination = settings.value("MLFLOW_ARTIFACTS_DESTINATION") or ""
    backups = settings.required("MLFLOW_TRACKING_BACKUP_DESTINATION", "set it to the destination of the Backup command")
    source = find_source(backups, options.snapshot)
    report.add(**source.describe(store), recovery_seconds=None, checks=[], models_read=0)
    source.report_keys(report)
    schema.require_supported(source.part.revision, f"the snapshot {source.snapshot.id}")
    if store.file is None:
        preflight.wait_for_database(settings, store)
    parent = temporary_parent(destination, backups)
    drill = _Drill(source, report)
    progress.start("Drill", without=() if source.is_outdated else ("migrate",))
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(work_folder(parent))
        copy = stack.enter_context(_temporary_database(store, folder))
        # This also checks that the list is no longer than the manifest says, on which the required space is based.
        refuse_names(source.repository.files(source.snapshot), FolderTarget(folder / "artifacts"))
        _require_room(parent, source)
        say(f"restoring {source.snapshot.id} to {copy.shown} and {folder}")
        report.add(dialect={"source": source.part.dialect, "target": copy.dialect})
        drill.run(TemporaryServer(folder, copy, folder / "artifacts"), destination)
        with progress.phase("delete-temporary"):
            stack.close()
    removed = not folder.exists()
    drill.add(Check("removed", removed, "all temporary data deleted" if removed else f"{folder} could not be deleted"))
    return _conclude(source, drill.checks, report)


def _conclude(source: RestoreSource, checks: list[Check], report: Report) -> int:
    """The exit code, after a full check of a snapshot that seems to be damaged.

    That check reports all of the damage, and records it so that the next backup stores it again.
    """
    failed = [check for check in checks if not check.passed]
    report.add(outcome="failed" if failed else "done")
    if not failed:
        return 0
    report.add(error="; ".join(f"{check.name}: {check.detail}" for check in failed))
    if any(check.damage for check in failed):
        result = preflight.check(source.repository, source.snapshot).verified
        if result.damaged_total:
            report.add(**report_fields(source.snapshot, result))
        if result.damaged_total or any(check.damage and check.name in _LOADED for check in failed):
            return SnapshotDamaged.exit_code
    return FAILED


def temporary_parent(destination: str, backups: str) -> Path:
    """A folder with room: next to the artifacts, to the backups, or the default."""
    for location in (destination, backups):
        folder = local_folder(location) if location else None
        if folder is not None and folder.is_dir() and os.access(folder.resolve().parent, os.W_OK):
            return folder.resolve().parent
    return Path(tempfile.gettempdir())


class _Drill:
    """The steps of a drill."""

    def __init__(self, source: RestoreSource, report: Report) -> None:
        self.checks: list[Check] = []
        self._source = source
        self._report = report
        self._started = time.monotonic()

    def run(self, temporary: TemporaryServer, destination: str) -> None:
        if not self._try("artifacts", lambda: self._artifacts(temporary)):
            return
        if not self._try("database", lambda: self._database(temporary.store)):
            return
        self._try("keys", lambda: _read_encrypted(temporary.store))
        try:
            with contextlib.ExitStack() as stack:
                with progress.phase("start-server"):
                    api = stack.enter_context(serving(temporary))
                seconds = round(time.monotonic() - self._started, 1)
                self._report.add(recovery_seconds=seconds)
                self.add(Check("server", True, f"ready on the restored database after {seconds:g} s"))
                with progress.phase("test-server"):
                    self._try("experiments", lambda: server_checks.count(api, self._source.part))
                    for check in server_checks.use(api):
                        self.add(check)
                with progress.phase("read-models"):
                    self._try("models read back", lambda: self._models(api, destination))
        except ProjectError as error:
            self.add(Check("server", False, error.message))

    def add(self, check: Check) -> None:
        self.checks.append(check)
        say(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.detail}")
        self._report.add(checks=[{**entry.to_json(), "detail": scrub(entry.detail)} for entry in self.checks])

    def _try(self, name: str, step: server_checks.Step) -> bool:
        check = server_checks.attempt(name, step)
        self.add(check)
        return check.passed

    def _artifacts(self, temporary: TemporaryServer) -> str:
        done = self._source.write_artifacts(FolderTarget(temporary.artifacts), again=False)
        return f"{counted_files(done.files, done.bytes)}, all read back and identical"

    def _database(self, store: Database) -> str:
        part = self._source.part
        try:
            self._source.load_database(store)
        except Configuration:
            # Only for its SnapshotDamaged, where the snapshot is the cause.
            load.refused(part, self._source.repository.reader(), store)
            raise
        message = f"{part.contents}, all read back and identical"
        if not self._source.is_outdated:
            return message
        ended = migration.migrate(store)
        if ended.exit_code:
            raise RepositoryFailed(f"its schema {part.revision} cannot be upgraded: {ended.error}")
        return f"{message}; upgraded from {part.revision} to {schema.latest()}"

    def _models(self, api: MlflowApi, destination: str) -> str:
        snapshot = self._source.snapshot
        destinations = (destination, snapshot.artifacts.source)
        result = server_checks.read_models(api, destinations, self._source.repository.files(snapshot))
        self._report.add(models_read=result.models)
        return result.message()


def _read_encrypted(store: Database) -> str:
    encrypted = keys.examine(connect_engine(store), os.environ)
    if lost := [one for one in encrypted if one.lost]:
        raise Configuration("; ".join(keys.warnings(lost, os.environ)))
    rows = ", ".join(f"{one.rows} {keys.PROTECTS[one.name]}" for one in encrypted)
    return f"the current keys decrypt everything: {rows}"


@contextlib.contextmanager
def _temporary_database(store: Database, folder: Path) -> Iterator[Database]:
    """A temporary database of the same kind, or else an SQLite file in `folder`.

    That is a schema in the same PostgreSQL database, or a database on the same MySQL server; an SQLite file where the
    account may not create that.
    """
    if store.dialect in {"postgresql", "mysql"}:
        with contextlib.ExitStack() as stack:
            try:
                copy = stack.enter_context(saved_copy.scratch(store))
            except LoginFailed as error:
                warn(f"an SQLite file was used instead of {store.shown}: {error.message}")
            else:
                yield copy
                return
    yield check_uri(f"sqlite:///{folder / 'drill.sqlite'}")


def _require_room(parent: Path, source: RestoreSource) -> None:
    needed = int((source.snapshot.artifacts.bytes + preflight.database_size(source.part)) * _ROOM)
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise RepositoryFailed(
            f"a drill needs {amount(needed)} in {parent}, but only {amount(free)} are free",
            "free disk space there; nothing was restored",
        )
