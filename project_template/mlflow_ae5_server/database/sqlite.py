"""SQLite: copied under the writing server, kept as the file it is, its rows digested beside."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlflow_ae5_server.common import text
from mlflow_ae5_server.common.errors import DamagedError, ProjectError, SchemaError, StorageError
from mlflow_ae5_server.common.sizes import amount
from mlflow_ae5_server.database import columns as shape
from mlflow_ae5_server.database import digest_workers, schema
from mlflow_ae5_server.database.checks import Database
from mlflow_ae5_server.database.columns import TableColumns, listed, quoted
from mlflow_ae5_server.database.records import DatabasePart, DatabaseState, TablePart
from mlflow_ae5_server.database.sqlite_file import SIDE_FILES, backup, file_of, reading, translated
from mlflow_ae5_server.database.work_folder import storage_errors, workplace
from mlflow_ae5_server.repository.interfaces import BlobSink, BlobSource

_REFUSES = re.compile(r"CREATE TRIGGER \w+ BEFORE \w+ ON \w+ [^;()]* BEGIN SELECT RAISE\(ABORT, '[^']*'\); END")
CHUNK = 4 * 1024 * 1024  # bytes; a multiple of every page size, so that unchanged pages make unchanged chunks


def dump(database: Database, objects: BlobSink) -> DatabasePart:
    source = file_of(database)
    with reading(source), workplace(_writable(source.parent)) as folder:
        copy = folder / "copy.sqlite"
        backup(source, copy)
        with reading(copy) as connection:
            revision, tables, others = contents(connection, database.shown)
            shapes = [shape.of_sqlite(connection, table) for table in tables]
            shares = _shares(connection, shapes)
        with contextlib.ExitStack() as stack:
            children = [stack.enter_context(_hash(copy, share)) for share in shares]
            file = _store(copy, objects)
            found = _results(children, copy, shapes)
    parts = tuple(TablePart(table, *found[table]) for table in tables)
    return DatabasePart("sqlite", sqlite3.sqlite_version, revision, parts, file, others)


def _writable(folder: Path) -> Path | None:
    """Beside the database there is room for a copy; among the temporary files of a container there may be none."""
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def contents(connection: sqlite3.Connection, shown: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Schema revision, MLflow's tables and others. Raises SchemaError where this is not an MLflow database we know."""
    tables, present = _tables(connection), names(connection)
    revision = revision_of(connection) if schema.VERSION_TABLE in tables else None
    if revision is None:
        raise SchemaError(f"{shown} has no MLflow schema", "check MLFLOW_BACKEND_STORE_URI")
    schema.require_known(revision, shown)
    own = schema.own_tables(revision)
    if strange := _triggers(connection):
        raise SchemaError(
            f"{shown} has triggers that are not MLflow's: {', '.join(strange)}",
            "remove them (DROP TRIGGER): they would also run in a restored database, unseen",
        )
    if missing := own - tables:
        raise SchemaError(
            f"{shown} is at schema revision {revision}, but lacks its tables {', '.join(sorted(missing))}",
            "restore a snapshot of it",
        )
    return revision, tuple(sorted(own)), tuple(sorted(present - own))


def names(connection: sqlite3.Connection) -> set[str]:
    query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    return {row[0] for row in connection.execute(query)}


def _tables(connection: sqlite3.Connection) -> set[str]:
    """Those with rows of their own: to ask a view may take for ever, and a virtual table has none."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
    return {row[0] for row in connection.execute(query)}


def _triggers(connection: sqlite3.Connection) -> list[str]:
    """The names of those that do more than to refuse a row, which is all that MLflow's do."""
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
    return [
        text.shown(name) for name, sql in connection.execute(query) if not _REFUSES.fullmatch(" ".join(sql.split()))
    ]


def revision_of(connection: sqlite3.Connection) -> str | None:
    row = connection.execute(f"SELECT version_num FROM {schema.VERSION_TABLE}").fetchone()  # noqa: S608 - constant
    return str(row[0]) if row else None


def _shares(connection: sqlite3.Connection, shapes: Sequence[TableColumns]) -> list[list[TableColumns]]:
    sized = [(_about_rows(connection, table.name) * len(table.columns), table) for table in shapes]
    return digest_workers.shares(sized, worth=20_000)


def _about_rows(connection: sqlite3.Connection, table: str) -> int:
    return connection.execute(f"SELECT coalesce(max(rowid), 0) FROM {quoted(table)}").fetchone()[0] or 0  # noqa: S608


def _hash(file: Path, shapes: Sequence[TableColumns], broken_text: bool = False) -> digest_workers.DigestWorkers:
    tables = [digest_workers.task_of(s, f"SELECT {listed(s.names)} FROM {quoted(s.name)}") for s in shapes]  # noqa: S608
    return digest_workers.DigestWorkers(
        {"dialect": "sqlite", "file": str(file), "tables": tables, "broken_text": broken_text}
    )


def _results(
    children: Sequence[digest_workers.DigestWorkers], file: Path, shapes: Sequence[TableColumns]
) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    try:
        for child in children:
            found |= child.result()
    except RuntimeError as error:
        if "Could not decode to UTF-8" in str(error):
            with _hash(file, shapes, broken_text=True) as child:
                return child.result()
        raise DamagedError(f"{file} cannot be read through: {error}", "check it with PRAGMA integrity_check") from None
    return found


def _store(file: Path, objects: BlobSink) -> tuple[str, ...]:
    chunk = memoryview(bytearray(CHUNK))
    with file.open("rb") as stream:
        return tuple(objects.put(chunk[:size]).sha256 for size in iter(lambda: stream.readinto(chunk), 0))


def digests(database: Database) -> dict[str, tuple[int, str]]:
    """Of the file in place: nobody must be writing to it."""
    file = file_of(database)
    with reading(file) as connection:
        _revision, tables, _others = contents(connection, database.shown)
        shapes = [shape.of_sqlite(connection, table) for table in tables]
        shares = _shares(connection, shapes)
        connection.execute("BEGIN")  # a lock that keeps writers out while the children read
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        with contextlib.ExitStack() as stack:
            return _results([stack.enter_context(_hash(file, share)) for share in shares], file, shapes)


def _holds(side: Path) -> bool:
    return side.exists() and side.stat().st_size > 0


def state(database: Database) -> DatabaseState:
    file = file_of(database)
    if not file.exists():
        orphans = tuple(file.name + side for side in SIDE_FILES if _holds(file.with_name(file.name + side)))
        # SQLite would take them for changes to whatever file comes to lie beside them.
        return DatabaseState("foreign", others=orphans) if orphans else DatabaseState("empty")
    try:
        with reading(file) as connection:
            present = names(connection)
            own = schema.all_tables() & _tables(connection)
            revision = revision_of(connection) if schema.VERSION_TABLE in own else None
            rows = sum(_count(connection, table) for table in own if table != schema.VERSION_TABLE)
    except DamagedError:
        return DatabaseState("foreign", others=(file.name,))
    return judge(own, present - own, revision, rows)


def judge(own: set[str] | frozenset[str], others: set[str], revision: str | None, rows: int) -> DatabaseState:
    """From what there is to what it is."""
    tables, beside = tuple(sorted(own)), tuple(sorted(others))
    if not own or (own == {schema.VERSION_TABLE} and revision is None):
        return DatabaseState("empty", tables, 0, None, beside)
    ours = revision is not None and schema.known(revision)  # complete or not: a migration may have broken off
    return DatabaseState("ours" if ours else "foreign", tables, rows, revision, beside)


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()[0])  # noqa: S608


def assemble(part: DatabasePart, objects: BlobSource, file: Path) -> None:
    """The SQLite file of a snapshot, at a new place, on disk for good. Raises DamagedError, StorageError."""
    size, free = (len(part.file) - 1) * CHUNK, shutil.disk_usage(file.parent).free
    if size > free:
        raise StorageError(
            f"the snapshot's database needs {amount(size)} in {file.parent}, and {amount(free)} are free",
            "make room there",
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
        with reading(file) as connection:
            revision, _tables, _others = contents(connection, "it")
    except ProjectError as error:
        raise DamagedError(
            f"the snapshot's SQLite file is not sound: {error.message}", "use another snapshot"
        ) from None
    if revision != part.revision:
        raise DamagedError(
            f"the snapshot's SQLite file is at revision {text.shown(revision)}, its manifest says {part.revision}",
            "use another snapshot",
        )


def uri_for(file: Path) -> str:
    return f"sqlite:///{file.absolute()}"


def row_blocks(
    connection: sqlite3.Connection, table: TableColumns, size: int = 100
) -> Iterator[Sequence[tuple[Any, ...]]]:
    cursor = connection.execute(f"SELECT {listed(table.names)} FROM {quoted(table.name)}")  # noqa: S608
    while block := cursor.fetchmany(size):
        yield block


def create(file: Path, revision: str) -> None:
    """A new file with MLflow's schema at `revision`."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    engine = create_engine(uri_for(file), poolclass=NullPool)
    with translated(file), engine.connect() as connection, connection.begin():
        schema.create(connection, revision)
    file.chmod(0o600)
