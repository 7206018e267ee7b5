"""Migrate a database's schema to the installed MLflow, or rehearse that on a copy.

A rehearsal copies the database in one transaction while the server runs. The copy lies beside the real database, which
is not written to.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import shutil
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow_ae5_server.common import progress
from mlflow_ae5_server.common.errors import NoRoom, RepositoryFailed, SchemaMismatch
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.common.report import Report, say
from mlflow_ae5_server.common.text import amount, counted
from mlflow_ae5_server.common.work_folder import work_folder
from mlflow_ae5_server.database import dump, load, saved_copy, schema
from mlflow_ae5_server.database.connection import Database, connect_engine
from mlflow_ae5_server.database.schema import SchemaState
from mlflow_ae5_server.repository.blob_index import BlobIndex
from mlflow_ae5_server.repository.blobs import BlobReader, BlobWriter
from mlflow_ae5_server.repository.folder_backend import FolderBackend


@dataclass(frozen=True)
class MigrationResult:
    """How MLflow's migrations ended."""

    exit_code: int  # 0: the schema is what MLflow needs
    error: str  # one line, empty where all went well
    after: SchemaState


def migrate(store: Database) -> MigrationResult:
    """Run MLflow's own migrations on `store`.

    The caller holds the maintenance lock, or has a database of its own.
    """
    pending = len(schema.pending_revisions(schema.schema_of(store)))
    with progress.phase("migrate", "migrations", pending) as phase, _counted(phase):
        code, error = _upgrade(store)
        if code == 0 and pending:
            phase.advance()  # the last one has ended
    after = schema.schema_of(store)
    if code == 0 and after.state != "current":
        code = SchemaMismatch.exit_code
        error = f"the schema is at revision {after.found} after the migrations, but MLflow needs {after.expected}"
        if after.missing:
            error = f"tables are missing after the migrations: {schema.missing_tables(after)}"
    return MigrationResult(code, error, after)


@contextlib.contextmanager
def _counted(phase: progress.Phase) -> Iterator[None]:
    """Count the migrations that end: alembic logs each one when it begins."""
    started = itertools.count()

    def count(record: logging.LogRecord) -> bool:
        if record.msg == "Running %s" and next(started):
            phase.advance()
        return True

    logger = logging.getLogger("alembic.runtime.migration")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addFilter(count)
    try:
        yield
    finally:
        logger.removeFilter(count)
        logger.setLevel(level)


def _upgrade(store: Database) -> tuple[int, str]:
    """Run `mlflow db upgrade` here, so that the URI is in no list of processes.

    Only KeyboardInterrupt and Interrupted leave here as exceptions.
    """
    import click
    from mlflow.db import commands

    try:
        commands.main(["upgrade", store.uri], prog_name="mlflow db", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code, _line(error)
    except click.Abort:
        raise KeyboardInterrupt from None
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        return code, f"mlflow db ended with {code}" if code else ""
    except Exception as error:
        traceback.print_exc()
        return 1, _line(error)
    return 0, ""


def _line(error: Exception) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return scrub(f"{type(error).__name__}: {text}")[:300]


def rehearse(store: Database, report: Report) -> int:
    """Migrate a copy of `store`, and report it. Returns the exit code."""
    before = schema.inspect_schema(connect_engine(store))
    migrations = [
        {"revision": revision, "what": schema.describe_revision(revision)}
        for revision in schema.pending_revisions(before)
    ]
    report.add(revision=before.found, expected_revision=before.expected, migrations=migrations, migration_seconds=0.0)
    if before.missing or before.state in {"empty", "unknown"}:
        schema.require_current(before, store)
    if not migrations:
        say(f"nothing to migrate: {store.shown} is at the revision of the installed MLflow, {before.found}")
        report.add(outcome="rehearsed")
        return 0
    for step in migrations:
        say(f"  applying {step['revision']}: {step['what']}")
    _require_room(store)
    # Beside a SQLite file there is surely room for a file of its kind; else among the temporary files.
    parent = store.file.parent if store.file is not None else None
    with work_folder(parent) as folder, contextlib.closing(BlobIndex()) as index:
        backend = FolderBackend(folder)
        try:
            part = dump.dump(store, BlobWriter(backend, index))
        except NoRoom:
            raise RepositoryFailed(
                f"{folder.parent} cannot hold the copy: no space left on device",
                "free disk space there, or set TMPDIR elsewhere",
            ) from None
        say(f"copied {part.contents}; migrating the copy")
        report.add(rows=part.rows, tables=len(part.tables))
        with saved_copy.scratch(store) as copy:
            load.load(part, BlobReader(backend), copy)
            return _migrate_copy(copy, report)


def _migrate_copy(copy: Database, report: Report) -> int:
    started = time.monotonic()
    result = migrate(copy)
    seconds = round(time.monotonic() - started, 2)
    report.add(migration_seconds=seconds)
    if result.exit_code:
        report.add(
            error=result.error,
            hint="do not upgrade; the real database is unchanged and works with the installed release",
        )
        return result.exit_code
    with progress.phase("count-rows"):
        rows = sum(count for count, _digest in dump.digests(copy).values())
    say(f"the copy is at revision {result.after.found} after {seconds:g} s, with {counted(rows, 'rows')}")
    report.add(outcome="rehearsed", rows_after=rows)
    return 0


def _require_room(store: Database) -> None:
    if store.file is None:
        return
    size, free = store.file.stat().st_size, shutil.disk_usage(store.file.parent).free
    if free < 3 * size:  # the packed copy, the copy itself, and what SQLite rewrites while it changes tables
        raise RepositoryFailed(
            f"a rehearsal needs about {amount(3 * size)} next to {store.shown}, but only {amount(free)} are free",
            "free disk space there",
        )
