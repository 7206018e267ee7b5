"""MySQL databases: dump, digests and state. Tested on MariaDB only.

A dump is one consistent snapshot, which only InnoDB gives. MySQL stores JSON in a form of its own (MariaDB does not),
and a snapshot has that form.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlflow_ae5_server.common.errors import (
    Configuration,
    LoginFailed,
    RepositoryFailed,
    TargetInUse,
    Unreachable,
)
from mlflow_ae5_server.database import copy_text, schema
from mlflow_ae5_server.database.columns import Column, TableColumns, kind_of
from mlflow_ae5_server.database.connection import Database, connect_engine, reason_of, refusal_of
from mlflow_ae5_server.database.contents import DELETED_RUNS, DatabasePart, DatabaseState, Digests, TablePart, state_of
from mlflow_ae5_server.database.digests import digest_of
from mlflow_ae5_server.repository.blob_types import BlobSink

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.engine.reflection import Inspector

CHUNK = 4 * 1024 * 1024  # bytes
_BLOCK = 200  # rows
# Error numbers of MySQL
DENIED = {1044, 1045, 1142, 1143, 1227}  # access, or this command
_FULL = {1021, 1114}
_OCTETS = {"TINYTEXT": 2**8 - 1, "TEXT": 2**16 - 1, "MEDIUMTEXT": 2**24 - 1, "BLOB": 2**16 - 1}
_LOCK_TIMEOUT = 1205


@contextlib.contextmanager
def connected(database: Database) -> Iterator[Connection]:
    """A connection. Its errors become ours."""
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    try:
        with connect_engine(lossless(database)).connect() as connection:
            # While a blob is uploaded no rows are read, and after a minute the server would close the connection.
            connection.exec_driver_sql("SET SESSION net_write_timeout = 3600")
            yield connection
    except SQLAlchemyError as error:
        reason = reason_of(error)
        number = getattr(getattr(error, "orig", None), "args", (0,))[0]
        if (refusal := refusal_of(reason, database)) is not None:
            raise refusal from None
        if number == _LOCK_TIMEOUT:
            raise TargetInUse(
                f"{database.shown} is in use: {reason}", "stop every program that uses that database"
            ) from None
        if number in _FULL:
            raise RepositoryFailed(f"the disk of {database.shown} is full: {reason}", "free disk space there") from None
        if number in DENIED:
            raise LoginFailed(f"the user of {database.shown} lacks a right: {reason}", "grant it") from None
        if isinstance(error, DBAPIError) and (error.connection_invalidated or number in {2003, 2006, 2013}):
            raise Unreachable(f"the database {database.shown} was lost: {reason}", "check it") from None
        raise Configuration(f"{database.shown} refused a statement: {reason}", "see its log") from None


def lossless(database: Database) -> Database:
    """`database` with a character set that has every character."""
    from sqlalchemy.engine import make_url

    url = make_url(database.uri).update_query_dict({"charset": "utf8mb4"})
    return replace(database, uri=url.render_as_string(hide_password=False))


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def is_single(column: Column) -> bool:
    """Whether it is a FLOAT, which has 32 bits."""
    return column.kind == "float" and column.small


def shortest(single: float) -> float:
    """The shortest number with the same 32 bits: 0.1, not 0.10000000149011612."""
    tries = (float(f"{single:.{digits}g}") for digits in (6, 7, 8))
    return next((short for short in tries if struct.pack("f", short) == struct.pack("f", single)), single)


def fits_single(value: float) -> bool:
    """Whether a FLOAT returns this number as it was written."""
    try:
        return value == shortest(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return False


@contextlib.contextmanager
def _snapshot(database: Database) -> Iterator[tuple[Connection, str, list[TableColumns], tuple[str, ...]]]:
    """A read-only snapshot: connection, revision, MLflow's tables, other names."""
    with connected(database) as connection:
        tables, others = _names(connection)
        revision = _revision(connection) if schema.VERSION_TABLE in tables else None
        own = schema.require_tables(revision, tables, database.shown)
        shapes = columns_of(connection, sorted(own), database.shown)
        connection.rollback()
        connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        yield connection, str(revision), shapes, tuple(sorted((tables | others) - own))


def dump(database: Database, objects: BlobSink) -> DatabasePart:
    with _snapshot(database) as (connection, revision, shapes, others):
        parts = tuple(_dump_table(connection, table, objects) for table in shapes)
        deleted_runs = int(connection.exec_driver_sql(DELETED_RUNS).scalar() or 0)
        server = str(connection.exec_driver_sql("SELECT VERSION()").scalar())
    return DatabasePart("mysql", server, revision, parts, (), others, deleted_runs)


def _dump_table(connection: Connection, table: TableColumns, objects: BlobSink) -> TablePart:
    chunks: list[str] = []
    waiting = bytearray()

    def store(block: list[tuple[Any, ...]]) -> None:
        waiting.extend(copy_text.write(block))
        while len(waiting) >= CHUNK:
            chunks.append(objects.put(bytes(waiting[:CHUNK])).sha256)
            del waiting[:CHUNK]

    rows, digest = _digest(connection, table, store)
    if waiting:
        chunks.append(objects.put(bytes(waiting)).sha256)
    return TablePart(table.name, rows, digest, tuple(chunks), table.names)


def digests(database: Database) -> Digests:
    with _snapshot(database) as (connection, _revision, shapes, _others):
        return {table.name: _digest(connection, table, lambda _block: None) for table in shapes}


def _digest(
    connection: Connection, table: TableColumns, store: Callable[[list[tuple[Any, ...]]], None]
) -> tuple[int, str]:
    def canonical() -> Iterator[list[tuple[Any, ...]]]:
        for block in _rows(connection, table):
            store(block)
            yield [tuple(value + 0.0 if isinstance(value, float) else value for value in row) for row in block]

    return digest_of(table.name, table.names, table.json, canonical())


def _rows(connection: Connection, table: TableColumns) -> Iterator[list[tuple[Any, ...]]]:
    """Blocks of plain values."""
    plain = [shortest if is_single(column) else str if column.kind == "date" else None for column in table.columns]
    converted: list[tuple[int, Callable[[Any], Any]]] = [(n, function) for n, function in enumerate(plain) if function]
    # Selected as it is, a FLOAT comes with six digits.
    columns = (f"{quoted(c.name)} + 0e0" if is_single(c) else quoted(c.name) for c in table.columns)
    query = f"SELECT {', '.join(columns)} FROM {quoted(table.name)}"  # noqa: S608
    result = connection.execution_options(stream_results=True).exec_driver_sql(query)
    while block := result.fetchmany(_BLOCK):
        rows = [list(row) for row in block]
        for row in rows:
            for position, function in converted:
                row[position] = None if row[position] is None else function(row[position])
        yield [tuple(row) for row in rows]


def _names(connection: Connection) -> tuple[set[str], set[str]]:
    """Tables and views."""
    from sqlalchemy import inspect

    inspector = inspect(connection)
    return set(inspector.get_table_names()), set(inspector.get_view_names())


def _revision(connection: Connection) -> str | None:
    value = connection.exec_driver_sql(f"SELECT version_num FROM {schema.VERSION_TABLE}").scalar()  # noqa: S608
    return None if value is None else str(value)


def state(database: Database) -> DatabaseState:
    with connected(database) as connection:
        tables, views = _names(connection)
        own = schema.all_tables() & tables
        revision = _revision(connection) if schema.VERSION_TABLE in own else None
        counts = [f"SELECT count(*) FROM {quoted(table)}" for table in own - {schema.VERSION_TABLE}]  # noqa: S608
        rows = sum(connection.exec_driver_sql(query).scalar() or 0 for query in counts)
    return state_of(own, (tables | views) - own, revision, rows)


def columns_of(connection: Connection, tables: Iterable[str], shown: str) -> list[TableColumns]:
    from sqlalchemy import inspect

    query = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND engine <> 'InnoDB'"
    if others := {str(row[0]) for row in connection.exec_driver_sql(query)} & set(tables):
        raise Configuration(
            f"{shown} has {', '.join(sorted(others))} in another engine than InnoDB, without consistent snapshots",
            "stop the server, and ALTER TABLE ... ENGINE=InnoDB for each of them",
        )
    inspector, json = inspect(connection), _json_of_mariadb(connection)
    return [_columns_of_table(inspector, table, json) for table in tables]


def _json_of_mariadb(connection: Connection) -> set[tuple[str, str]]:
    """(table, column) of MariaDB's JSON, which is a text with a condition."""
    if not getattr(connection.dialect, "is_mariadb", False):
        return set()
    query = "SELECT table_name, check_clause FROM information_schema.check_constraints WHERE constraint_schema = "
    checks = connection.exec_driver_sql(query + "DATABASE()").all()
    return {(table, name) for table, text in checks for name in re.findall(r"json_valid\(`(\w+)`\)", text, re.I)}


def _columns_of_table(inspector: Inspector, table: str, json: set[tuple[str, str]]) -> TableColumns:
    columns = []
    for found in inspector.get_columns(table):
        if not found.get("computed"):
            name, declared = found["name"], str(found["type"])
            kind = "json" if (table, name) in json else kind_of(declared)
            if getattr(found["type"], "display_width", None) == 1:
                kind = "bool"  # a TINYINT(1)
            limit = getattr(found["type"], "length", None) if kind == "text" else None
            octets = _OCTETS.get(declared.partition(" ")[0])
            columns.append(Column(name, kind, limit, declared == "FLOAT", bool(found["nullable"]), octets))
    return TableColumns(table, tuple(sorted(columns, key=lambda column: column.name)))
