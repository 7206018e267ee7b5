"""Load a snapshot of any dialect into a new SQLite file."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlflow_ae5_server.common import durable
from mlflow_ae5_server.common.errors import ANOTHER_SNAPSHOT, ProjectError, RepositoryFailed, SnapshotDamaged
from mlflow_ae5_server.common.text import amount, shown
from mlflow_ae5_server.common.work_folder import storage_errors, work_folder
from mlflow_ae5_server.database import copy_text, schema, sqlite, sqlite_file
from mlflow_ae5_server.database.columns import TableColumns, listed, quoted
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.database.contents import DatabasePart
from mlflow_ae5_server.repository.blob_types import BlobSource


def load(part: DatabasePart, objects: BlobSource, target: Database) -> None:
    path = sqlite_file.file_of(target)
    with storage_errors(path.parent):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with work_folder(path.parent) as folder:
        new = folder / "new.sqlite"
        write_file(part, objects, new)
        sqlite_file.publish(new, path)


def write_file(part: DatabasePart, objects: BlobSource, file: Path) -> None:
    """Write a snapshot's database to a new SQLite file.

    Raises SnapshotDamaged, RepositoryFailed.
    """
    if part.dialect == "sqlite":
        _join_blobs(part, objects, file)
    else:
        _insert_rows(part, objects, file)


def _join_blobs(part: DatabasePart, objects: BlobSource, file: Path) -> None:
    size, free = (len(part.file) - 1) * sqlite.CHUNK, shutil.disk_usage(file.parent).free
    if size > free:
        raise RepositoryFailed(
            f"the snapshot's database needs {amount(size)} in {file.parent}, but only {amount(free)} are free",
            "free disk space there",
        )
    with (
        storage_errors(file.parent),
        os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out,
    ):
        for sha256 in part.file:
            out.write(objects.get(sha256))
        out.flush()
        os.fsync(out.fileno())
    try:
        with sqlite_file.reading(file) as connection:
            revision, _tables, _others = sqlite.mlflow_tables(connection, "it")
    except ProjectError as error:
        raise SnapshotDamaged(f"the snapshot's SQLite file is not valid: {error.message}", ANOTHER_SNAPSHOT) from None
    if revision != part.revision:
        raise SnapshotDamaged(
            f"the snapshot's SQLite file is at revision {shown(revision)}, its manifest says {part.revision}",
            ANOTHER_SNAPSHOT,
        )


def _insert_rows(part: DatabasePart, objects: BlobSource, file: Path) -> None:
    _create(file, part.revision)
    with (
        sqlite_file.translated(file),
        contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for table in part.tables:
            connection.execute(f"DELETE FROM {quoted(table.name)}")  # noqa: S608 - migrations write rows too
            columns = sqlite.columns_of(connection, table.name)
            marks = ", ".join("?" * len(table.columns))
            insert = f"INSERT INTO {quoted(table.name)} ({listed(table.columns)}) VALUES ({marks})"  # noqa: S608
            try:
                for block in copy_text.read_table(table, columns, objects):
                    connection.executemany(insert, block)
            except (OverflowError, sqlite3.IntegrityError) as error:
                raise SnapshotDamaged(
                    f"the snapshot's table {table.name} has a row that no database accepts: {error}", ANOTHER_SNAPSHOT
                ) from None
        connection.execute("COMMIT")
        connection.execute("PRAGMA synchronous = FULL")
    durable.flush(file)


def _create(file: Path, revision: str) -> None:
    """Create a file with MLflow's schema at `revision`."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    engine = create_engine(sqlite.uri_for(file), poolclass=NullPool)
    with sqlite_file.translated(file), engine.connect() as connection, connection.begin():
        schema.create(connection, revision)
    file.chmod(0o600)


def row_blocks(connection: sqlite3.Connection, table: TableColumns) -> Iterator[Sequence[tuple[Any, ...]]]:
    """All rows of a table, in blocks."""
    cursor = connection.execute(f"SELECT {listed(table.names)} FROM {quoted(table.name)}")  # noqa: S608
    while block := cursor.fetchmany(100):
        yield block
