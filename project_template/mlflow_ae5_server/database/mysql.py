"""MySQL, through SQLAlchemy. Its tests run on MariaDB, on machines that have one; MySQL itself was never tried.

A dump is one consistent snapshot, which only InnoDB gives. MySQL keeps JSON in a form of its own (MariaDB does not),
and that form is what a snapshot of it has.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlflow_ae5_server.common.errors import (
    ConfigurationError,
    CredentialsError,
    InUseError,
    SchemaError,
    StorageError,
    UnreachableError,
)
from mlflow_ae5_server.database import checks as databases
from mlflow_ae5_server.database import columns as shape
from mlflow_ae5_server.database import copy_text, schema
from mlflow_ae5_server.database import digests as canonical
from mlflow_ae5_server.database.checks import Database
from mlflow_ae5_server.database.columns import Column, TableColumns
from mlflow_ae5_server.database.records import DatabasePart, DatabaseState, TablePart
from mlflow_ae5_server.database.sqlite import judge
from mlflow_ae5_server.repository.interfaces import BlobSink

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.engine.reflection import Inspector

CHUNK = 4 * 1024 * 1024  # bytes
_BLOCK = 200  # rows
# Error numbers of MySQL
DENIED = {1044, 1045, 1142, 1143, 1227}  # access, or this command
_FULL = {1021, 1114}
_OCTETS = {"TINYTEXT": 2**8 - 1, "TEXT": 2**16 - 1, "MEDIUMTEXT": 2**24 - 1, "BLOB": 2**16 - 1}
_HELD = 1205  # somebody held on to a table for too long


@contextlib.contextmanager
def connected(database: Database) -> Iterator[Connection]:
    """A connection whose errors are ours."""
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    try:
        with databases.connect_engine(lossless(database)).connect() as connection:
            # While an object is uploaded nobody takes rows, and after a minute the server would hang up.
            connection.exec_driver_sql("SET SESSION net_write_timeout = 3600")
            yield connection
    except SQLAlchemyError as error:
        reason = databases.reason(error)
        number = getattr(getattr(error, "orig", None), "args", (0,))[0]
        if (final := databases._final(reason, database)) is not None:
            raise final from None
        if number == _HELD:
            raise InUseError(f"{database.shown} is in use: {reason}", "stop whatever works on that database") from None
        if number in _FULL:
            raise StorageError(f"the disk of {database.shown} is full: {reason}", "make room there") from None
        if number in DENIED:
            raise CredentialsError(f"the user of {database.shown} lacks a right: {reason}", "grant it") from None
        if isinstance(error, DBAPIError) and (error.connection_invalidated or number in {2003, 2006, 2013}):
            raise UnreachableError(f"the database {database.shown} was lost: {reason}", "check it") from None
        raise ConfigurationError(f"{database.shown} refused a statement: {reason}", "see its log") from None


def lossless(database: Database) -> Database:
    """Through any other character set the server would send `?` for what that does not have."""
    from sqlalchemy.engine import make_url

    url = make_url(database.uri).update_query_dict({"charset": "utf8mb4"})
    return replace(database, uri=url.render_as_string(hide_password=False))


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _select(table: TableColumns) -> str:
    # Asked for as it is, a FLOAT comes with six digits.
    columns = (f"{quoted(c.name)} + 0e0" if is_single(c) else quoted(c.name) for c in table.columns)
    return f"SELECT {', '.join(columns)} FROM {quoted(table.name)}"  # noqa: S608


def is_single(column: Column) -> bool:
    return column.kind == "float" and column.small


def _snapshot(connection: Connection) -> None:
    connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")


def dump(database: Database, objects: BlobSink) -> DatabasePart:
    with connected(database) as connection:
        revision, tables, others = _contents(connection, database.shown)
        shapes = shapes_of(connection, tables, database.shown)
        server = str(connection.exec_driver_sql("SELECT VERSION()").scalar())
        connection.rollback()
        _snapshot(connection)
        parts = tuple(_dump_table(connection, table, objects) for table in shapes)
    return DatabasePart("mysql", server, revision, parts, (), others)


def _dump_table(connection: Connection, table: TableColumns, objects: BlobSink) -> TablePart:
    chunks: list[str] = []
    waiting = bytearray()

    def kept() -> Iterator[tuple[Any, ...]]:
        for block in _rows(connection, table):
            waiting.extend(copy_text.write(block))
            while len(waiting) >= CHUNK:
                chunks.append(objects.put(bytes(waiting[:CHUNK])).sha256)
                del waiting[:CHUNK]
            yield from map(_canonical, block)

    rows, digest = canonical.digest_of(table.name, table.names, table.json, kept())
    if waiting:
        chunks.append(objects.put(bytes(waiting)).sha256)
    return TablePart(table.name, rows, digest, tuple(chunks), table.names)


def _rows(connection: Connection, table: TableColumns) -> Iterator[list[tuple[Any, ...]]]:
    """Blocks of plain values."""
    plain = [_PLAIN.get("single" if is_single(column) else column.kind) for column in table.columns]
    converted = [
        (scratch_database, function) for scratch_database, function in enumerate(plain) if function is not None
    ]
    result = connection.execution_options(stream_results=True).exec_driver_sql(_select(table))
    while block := result.fetchmany(_BLOCK):
        rows = [list(row) for row in block]
        for row in rows:
            for scratch_database, function in converted:
                row[scratch_database] = None if row[scratch_database] is None else function(row[scratch_database])
        yield [tuple(row) for row in rows]


def shortest(single: float) -> float:
    """What was written, as far as 32 bits can tell: of 0.1, whose value there is 0.10000000149011612."""
    tries = (float(f"{single:.{digits}g}") for digits in (6, 7, 8))
    return next((short for short in tries if struct.pack("f", short) == struct.pack("f", single)), single)


_PLAIN: dict[str, Callable[[Any], Any]] = {"date": str, "single": shortest}


def _canonical(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value + 0.0 if isinstance(value, float) else value for value in row)


def digests(database: Database) -> dict[str, tuple[int, str]]:
    with connected(database) as connection:
        _revision, tables, _others = _contents(connection, database.shown)
        shapes = shapes_of(connection, tables, database.shown)
        connection.rollback()
        _snapshot(connection)
        return {
            table.name: canonical.digest_of(
                table.name,
                table.names,
                table.json,
                (_canonical(r) for block in _rows(connection, table) for r in block),
            )
            for table in shapes
        }


def _contents(connection: Connection, shown: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    from sqlalchemy import inspect

    inspector = inspect(connection)
    tables, views = set(inspector.get_table_names()), set(inspector.get_view_names())
    revision = _revision(connection) if schema.VERSION_TABLE in tables else None
    if revision is None:
        raise SchemaError(f"{shown} has no MLflow schema", "check MLFLOW_BACKEND_STORE_URI")
    schema.require_known(revision, shown)
    own = schema.own_tables(revision)
    if missing := own - tables:
        raise SchemaError(
            f"{shown} is at schema revision {revision}, but lacks its tables {', '.join(sorted(missing))}",
            "restore a snapshot of it",
        )
    return revision, tuple(sorted(own)), tuple(sorted((tables | views) - own))


def _revision(connection: Connection) -> str | None:
    found = connection.exec_driver_sql(f"SELECT version_num FROM {schema.VERSION_TABLE}").scalar()  # noqa: S608
    return None if found is None else str(found)


def shapes_of(connection: Connection, tables: Iterable[str], shown: str) -> list[TableColumns]:
    from sqlalchemy import inspect

    query = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND engine <> 'InnoDB'"
    if others := {str(row[0]) for row in connection.exec_driver_sql(query)} & set(tables):
        raise ConfigurationError(
            f"{shown} keeps {', '.join(sorted(others))} in another engine than InnoDB, so no snapshot is of one moment",
            "stop the server, and ALTER TABLE ... ENGINE=InnoDB for each of them",
        )
    inspector, json = inspect(connection), _json_of_mariadb(connection)
    return [_shape(inspector, table, json) for table in tables]


def _json_of_mariadb(connection: Connection) -> set[tuple[str, str]]:
    """Tables and columns. MariaDB has no type JSON: a text with a condition stands for it."""
    if not getattr(connection.dialect, "is_mariadb", False):
        return set()
    query = "SELECT table_name, check_clause FROM information_schema.check_constraints WHERE constraint_schema = "
    found = connection.exec_driver_sql(query + "DATABASE()").all()
    return {(table, name) for table, text in found for name in re.findall(r"json_valid\(`(\w+)`\)", text, re.I)}


def _shape(inspector: Inspector, table: str, json: set[tuple[str, str]]) -> TableColumns:
    columns = []
    for found in inspector.get_columns(table):
        if not found.get("computed"):
            name, declared = found["name"], str(found["type"])
            kind = "json" if (table, name) in json else shape.kind_of(declared)
            if getattr(found["type"], "display_width", None) == 1:
                kind = "bool"  # a TINYINT(1)
            limit = getattr(found["type"], "length", None) if kind == "text" else None
            octets = _OCTETS.get(declared.partition(" ")[0])
            columns.append(Column(name, kind, limit, declared == "FLOAT", bool(found["nullable"]), octets))
    return TableColumns(table, tuple(sorted(columns, key=lambda column: column.name)))


def state(database: Database) -> DatabaseState:
    from sqlalchemy import inspect

    with connected(database) as connection:
        inspector = inspect(connection)
        tables, views = set(inspector.get_table_names()), set(inspector.get_view_names())
        own = schema.all_tables() & tables
        revision = _revision(connection) if schema.VERSION_TABLE in own else None
        rows = 0
        for table in own - {schema.VERSION_TABLE}:
            rows += connection.exec_driver_sql(f"SELECT count(*) FROM {quoted(table)}").scalar() or 0  # noqa: S608
    return judge(own, (tables | views) - own, revision, rows)
