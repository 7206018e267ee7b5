"""MySQL, through SQLAlchemy. Tried by hand on MariaDB 10.11: dumped under writes, loaded, digests compared with SQLite.
No test runs against one.

A dump is one consistent snapshot (InnoDB). A load cannot be undone by the database, because each CREATE TABLE there
commits: when it fails, the tables it made are dropped; when it is killed, they are left, and `state` names them. MySQL
keeps JSON in a form of its own, so digests of tables with JSON columns may differ from those of other dialects.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlflow_ae5_server import database as databases
from mlflow_ae5_server.database import Database
from mlflow_ae5_server.errors import ConfigurationError, CredentialsError, SchemaError, UnreachableError
from mlflow_ae5_server.snapshot.dump import canonical, schema, shape, stream
from mlflow_ae5_server.snapshot.dump.records import DatabasePart, State, TablePart
from mlflow_ae5_server.snapshot.dump.shape import Column, Shape
from mlflow_ae5_server.snapshot.dump.sqlite import judge
from mlflow_ae5_server.snapshot.objects import ObjectWriter

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

CHUNK = 4 * 1024 * 1024  # bytes
_BLOCK = 200  # rows
_DENIED = {1044, 1045, 1142, 1143, 1227}  # error numbers of MySQL: access, or this command, denied


@contextlib.contextmanager
def connected(database: Database) -> Iterator[Connection]:
    """A connection whose errors are ours."""
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    try:
        with databases.connect_engine(database).connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        reason = databases._reason(error)
        number = getattr(getattr(error, "orig", None), "args", (0,))[0]
        if (final := databases._final(reason, database)) is not None:
            raise final from None
        if number in _DENIED:
            raise CredentialsError(f"the user of {database.shown} lacks a right: {reason}", "grant it") from None
        if isinstance(error, DBAPIError) and (error.connection_invalidated or number in {2003, 2006, 2013}):
            raise UnreachableError(f"the database {database.shown} was lost: {reason}", "check it") from None
        raise ConfigurationError(f"{database.shown} refused a statement: {reason}", "see its log") from None


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _select(table: Shape) -> str:
    return f"SELECT {', '.join(map(_quoted, table.names))} FROM {_quoted(table.name)}"  # noqa: S608


def _snapshot(connection: Connection) -> None:
    connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")


def dump(database: Database, objects: ObjectWriter) -> DatabasePart:
    with connected(database) as connection:
        revision, tables, others = _contents(connection, database.shown)
        shapes = [_shape(connection, table) for table in tables]
        server = str(connection.exec_driver_sql("SELECT VERSION()").scalar())
        connection.rollback()
        _snapshot(connection)
        parts = tuple(_dump_table(connection, table, objects) for table in shapes)
    return DatabasePart("mysql", server, revision, parts, (), others)


def _dump_table(connection: Connection, table: Shape, objects: ObjectWriter) -> TablePart:
    chunks: list[str] = []
    waiting = bytearray()

    def kept() -> Iterator[tuple[Any, ...]]:
        for block in _rows(connection, table):
            waiting.extend(stream.write(block))
            while len(waiting) >= CHUNK:
                chunks.append(objects.put(bytes(waiting[:CHUNK])).sha256)
                del waiting[:CHUNK]
            yield from map(_canonical, block)

    rows, digest = canonical.digest_of(table.name, table.names, table.json, kept())
    if waiting:
        chunks.append(objects.put(bytes(waiting)).sha256)
    return TablePart(table.name, rows, digest, tuple(chunks), table.names)


def _rows(connection: Connection, table: Shape) -> Iterator[list[tuple[Any, ...]]]:
    """Blocks of plain values, as the driver gives them but for dates."""
    dates = [place for place, column in enumerate(table.columns) if column.kind == "date"]
    result = connection.execution_options(stream_results=True).exec_driver_sql(_select(table))
    while block := result.fetchmany(_BLOCK):
        rows = [list(row) for row in block]
        for row in rows:
            for place in dates:
                row[place] = None if row[place] is None else str(row[place])
        yield [tuple(row) for row in rows]


def _canonical(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value + 0.0 if isinstance(value, float) else value for value in row)


def digests(database: Database) -> dict[str, tuple[int, str]]:
    with connected(database) as connection:
        _revision, tables, _others = _contents(connection, database.shown)
        shapes = [_shape(connection, table) for table in tables]
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


def _shape(connection: Connection, table: str) -> Shape:
    from sqlalchemy import inspect

    columns = []
    for found in inspect(connection).get_columns(table):
        if not found.get("computed"):
            declared = str(found["type"])
            columns.append(Column(found["name"], shape.kind_of(declared), nullable=bool(found["nullable"])))
    return Shape(table, tuple(sorted(columns, key=lambda column: column.name)))


def state(database: Database) -> State:
    from sqlalchemy import inspect

    with connected(database) as connection:
        inspector = inspect(connection)
        tables, views = set(inspector.get_table_names()), set(inspector.get_view_names())
        own = schema.all_tables() & tables
        revision = _revision(connection) if schema.VERSION_TABLE in own else None
        rows = 0
        for table in own - {schema.VERSION_TABLE}:
            rows += connection.exec_driver_sql(f"SELECT count(*) FROM {_quoted(table)}").scalar() or 0  # noqa: S608
    return judge(own, (tables | views) - own, revision, rows)


class Loading:
    """Rows into tables just made; as postgresql_load.Loading."""

    def __init__(self, connection: Connection, revision: str) -> None:
        self._connection = connection
        schema.create(connection, revision)
        connection.commit()
        self.shapes = {table: _shape(connection, table) for table in sorted(schema.own_tables(revision))}
        # The default experiment has the number 0, which MySQL would take for "the next one".
        for statement in (
            "SET SESSION sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO')",
            "SET SESSION foreign_key_checks = 0",
        ):
            connection.exec_driver_sql(statement)
        for table in self.shapes:
            connection.exec_driver_sql(f"DELETE FROM {_quoted(table)}")  # noqa: S608 - migrations write rows too

    def rows(self, table: str, columns: Sequence[str], blocks: Iterable[Sequence[tuple[Any, ...]]]) -> None:
        from sqlalchemy import column, insert
        from sqlalchemy import table as named

        into = insert(named(table, *map(column, columns)))
        for block in blocks:
            self._connection.execute(into, [dict(zip(columns, row, strict=True)) for row in block])

    def finish(self) -> None:
        self._connection.commit()


@contextlib.contextmanager
def loading(database: Database, revision: str) -> Iterator[Loading]:
    with connected(database) as connection:
        try:
            yield Loading(connection, revision)
        except BaseException:
            with contextlib.suppress(Exception):  # the first error is the one to tell
                connection.rollback()
                connection.exec_driver_sql("SET SESSION foreign_key_checks = 0")
                for table in schema.own_tables(revision):
                    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_quoted(table)}")
            raise
