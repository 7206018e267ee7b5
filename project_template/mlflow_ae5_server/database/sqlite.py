"""SQLite databases: dump, digests and state. A snapshot has the whole file."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from mlflow_ae5_server.common.errors import SchemaMismatch, SnapshotDamaged
from mlflow_ae5_server.common.text import shown
from mlflow_ae5_server.common.work_folder import work_folder
from mlflow_ae5_server.database import schema
from mlflow_ae5_server.database.columns import Column, TableColumns, kind_of, limit_of, listed, quoted
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.database.contents import DELETED_RUNS, DatabasePart, DatabaseState, Digests, TablePart, state_of
from mlflow_ae5_server.database.digests import DigestWorker, shares, task_of
from mlflow_ae5_server.database.sqlite_file import SIDE_FILES, backup, file_of, reading
from mlflow_ae5_server.repository.blob_types import BlobSink

# MLflow's triggers do no more than refuse a row.
_MLFLOW_TRIGGER = re.compile(r"CREATE TRIGGER \w+ BEFORE \w+ ON \w+ [^;()]* BEGIN SELECT RAISE\(ABORT, '[^']*'\); END")
CHUNK = 4 * 1024 * 1024  # bytes; a multiple of every page size, so that unchanged pages make unchanged chunks


def dump(database: Database, objects: BlobSink) -> DatabasePart:
    source = file_of(database)
    # Beside the database there is room for a copy; among the temporary files of a container there may be none.
    parent = source.parent if os.access(source.parent, os.W_OK | os.X_OK) else None
    with reading(source), work_folder(parent) as folder:
        copy = folder / "copy.sqlite"
        backup(source, copy)
        with reading(copy) as connection:
            revision, tables, others = mlflow_tables(connection, database.shown)
            shapes = [columns_of(connection, table) for table in tables]
            parts = _shares(connection, shapes)
            (deleted_runs,) = connection.execute(DELETED_RUNS).fetchone()
        with contextlib.ExitStack() as stack:
            workers = [stack.enter_context(_worker(copy, part)) for part in parts]
            file = _store(copy, objects)
            found = _results(workers, copy, shapes)
    table_parts = tuple(TablePart(table, *found[table]) for table in tables)
    return DatabasePart("sqlite", sqlite3.sqlite_version, revision, table_parts, file, others, deleted_runs)


def digests(database: Database) -> Digests:
    """Digests of the file in place: nobody must be writing to it."""
    file = file_of(database)
    with reading(file) as connection:
        _revision, tables, _others = mlflow_tables(connection, database.shown)
        shapes = [columns_of(connection, table) for table in tables]
        parts = _shares(connection, shapes)
        connection.execute("BEGIN")  # a lock that keeps writers out while the children read
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        with contextlib.ExitStack() as stack:
            return _results([stack.enter_context(_worker(file, part)) for part in parts], file, shapes)


def state(database: Database) -> DatabaseState:
    file = file_of(database)
    if not file.exists():
        sides = [file.with_name(file.name + side) for side in SIDE_FILES]
        leftovers = tuple(side.name for side in sides if side.exists() and side.stat().st_size > 0)
        # SQLite would apply these side files to any new file of that name.
        return DatabaseState("foreign", others=leftovers) if leftovers else DatabaseState("empty")
    try:
        with reading(file) as connection:
            present = _names(connection)
            own = schema.all_tables() & _tables(connection)
            revision = _revision(connection) if schema.VERSION_TABLE in own else None
            counts = [f"SELECT count(*) FROM {quoted(table)}" for table in own - {schema.VERSION_TABLE}]  # noqa: S608
            rows = sum(connection.execute(query).fetchone()[0] for query in counts)
    except SnapshotDamaged:
        return DatabaseState("foreign", others=(file.name,))
    return state_of(own, present - own, revision, rows)


def mlflow_tables(connection: sqlite3.Connection, subject: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Schema revision, MLflow's tables and others. Raises SchemaMismatch."""
    tables = _tables(connection)
    revision = _revision(connection) if schema.VERSION_TABLE in tables else None
    own = schema.require_tables(revision, tables, subject)
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
    if strange := [shown(name) for name, sql in triggers if not _MLFLOW_TRIGGER.fullmatch(" ".join(sql.split()))]:
        raise SchemaMismatch(
            f"{subject} has triggers that are not MLflow's: {', '.join(strange)}",
            "remove them (DROP TRIGGER): they would also run in a restored database, unseen",
        )
    return str(revision), tuple(sorted(own)), tuple(sorted(_names(connection) - own))


def _names(connection: sqlite3.Connection) -> set[str]:
    query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    return {row[0] for row in connection.execute(query)}


def _tables(connection: sqlite3.Connection) -> set[str]:
    """Tables with rows of their own, without views and virtual tables."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
    return {row[0] for row in connection.execute(query)}


def _revision(connection: sqlite3.Connection) -> str | None:
    row = connection.execute(f"SELECT version_num FROM {schema.VERSION_TABLE}").fetchone()  # noqa: S608 - constant
    return str(row[0]) if row else None


def columns_of(connection: sqlite3.Connection, table: str) -> TableColumns:
    # cid, name, type, notnull, default, pk (position in the key), hidden (2, 3: generated)
    rows = [row for row in connection.execute(f"PRAGMA table_xinfo({quoted(table)})") if row[6] == 0]
    columns = [
        Column(name, kind_of(declared), limit_of(declared), small=declared.upper() == "INTEGER", nullable=not must)
        for _number, name, declared, must, _default, _key, _hidden in rows
    ]
    key = tuple(row[1] for row in sorted(rows, key=lambda row: row[5]) if row[5])
    return TableColumns(table, tuple(sorted(columns, key=lambda column: column.name)), key)


def _shares(connection: sqlite3.Connection, shapes: Sequence[TableColumns]) -> list[list[TableColumns]]:
    sized = []
    for table in shapes:
        (rows,) = connection.execute(f"SELECT coalesce(max(rowid), 0) FROM {quoted(table.name)}").fetchone()  # noqa: S608
        sized.append((rows * len(table.columns), table))
    return shares(sized, worth=20_000)


def _worker(file: Path, shapes: Sequence[TableColumns], broken_text: bool = False) -> DigestWorker:
    tables = [task_of(table, f"SELECT {listed(table.names)} FROM {quoted(table.name)}") for table in shapes]  # noqa: S608
    return DigestWorker({"dialect": "sqlite", "file": str(file), "tables": tables, "broken_text": broken_text})


def _results(workers: Sequence[DigestWorker], file: Path, shapes: Sequence[TableColumns]) -> Digests:
    results: Digests = {}
    try:
        for worker in workers:
            results |= worker.result()
    except RuntimeError as error:
        if "Could not decode to UTF-8" in str(error):
            with _worker(file, shapes, broken_text=True) as worker:
                return worker.result()
        raise SnapshotDamaged(
            f"{file} cannot be read to the end: {error}", "check it with PRAGMA integrity_check"
        ) from None
    return results


def _store(file: Path, objects: BlobSink) -> tuple[str, ...]:
    chunk = memoryview(bytearray(CHUNK))
    with file.open("rb") as stream:
        return tuple(objects.put(chunk[:size]).sha256 for size in iter(lambda: stream.readinto(chunk), 0))


def uri_for(file: Path) -> str:
    return f"sqlite:///{file.absolute()}"
