"""PostgreSQL: one snapshot of the server's own, COPY out of it, digests beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlflow_ae5_server.common.errors import (
    ConfigurationError,
    CredentialsError,
    DamagedError,
    InUseError,
    ProjectError,
    SchemaError,
    StorageError,
    UnreachableError,
)
from mlflow_ae5_server.database import checks as databases
from mlflow_ae5_server.database import columns as shape
from mlflow_ae5_server.database import digest_workers, schema
from mlflow_ae5_server.database.checks import Database
from mlflow_ae5_server.database.columns import Column, TableColumns, listed, quoted
from mlflow_ae5_server.database.records import DatabasePart, DatabaseState, TablePart
from mlflow_ae5_server.database.sqlite import judge
from mlflow_ae5_server.repository.interfaces import BlobSink

if TYPE_CHECKING:
    import psycopg

CHUNK = 4 * 1024 * 1024  # bytes
APPLICATION = "mlflow-ae5-maintenance"
# However the server, the database or the role is configured: text forms that are exact and mean the same everywhere.
EXACT = "SET datestyle = 'ISO'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET timezone = 'UTC'"


def connect_arguments(database: Database) -> dict[str, Any]:
    """What psycopg (3) needs, from the URI as SQLAlchemy reads it. Holds the password."""
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
    from sqlalchemy.engine import make_url

    dialect: Any = PGDialect_psycopg
    _none, arguments = dialect().create_connect_args(make_url(database.uri))
    arguments.pop("context", None)
    return {"connect_timeout": 10, **arguments, "application_name": APPLICATION}


@contextlib.contextmanager
def connected(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A psycopg connection, closed at the end; its errors are ours."""
    try:
        import psycopg
    except ImportError:
        raise ConfigurationError(
            f"a snapshot of {database.shown} needs the package psycopg (version 3), which is not installed",
            "use the environment `default` (the commands without `Minimum`), or add psycopg[binary]",
        ) from None
    with translated(database), contextlib.closing(psycopg.connect(**connect_arguments(database))) as connection:
        with connection.cursor() as cursor:
            cursor.execute(EXACT)
            stay_in_schema(cursor, database)
        connection.commit()
        yield connection


def stay_in_schema(cursor: Any, database: Database) -> None:
    """Make the current schema the whole search path: tables of other schemas are another application's."""
    cursor.execute("SELECT current_setting('search_path'), current_schema()")
    path, here = cursor.fetchone()
    if here is None:
        raise databases.no_schema(database, path)
    cursor.execute("SELECT set_config('search_path', quote_ident(current_schema()), false)")


@contextlib.contextmanager
def translated(database: Database) -> Iterator[None]:
    """Errors of psycopg, also those wrapped by SQLAlchemy, as ours."""
    import psycopg
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg.Error):
            raise
        raise _meaning(error.orig, database) from None
    except psycopg.Error as error:
        raise _meaning(error, database) from None


def _meaning(error: Any, database: Database) -> ProjectError:
    """By SQLSTATE class: 08, 57P connection; 42501 rights; 53 resources; 22, 23 the data; else the words."""
    state: str = error.sqlstate or ""
    reason = databases.reason(error)
    where = (getattr(error.diag, "context", None) or "").splitlines()
    told = f"{reason} ({where[0]})" if where else reason
    if state == "42501":
        return CredentialsError(
            f"the user of {database.shown} lacks a right: {reason}",
            "let the user own the database, or grant it that right (CREATE on the schema, SELECT on the tables)",
        )
    if state == "55P03":
        return InUseError(f"{database.shown} is in use: {reason}", "stop whatever works on that database")
    if state == "53100":
        return StorageError(f"the disk of {database.shown} is full: {reason}", "make room there")
    if state.startswith(("22", "23", "54")):
        return ConfigurationError(f"{database.shown} cannot hold a row of the snapshot: {told}", "report this row")
    if (final := databases._final(reason, database)) is not None:
        return final
    if not state or state.startswith(("08", "57", "53", "25", "58")):
        return UnreachableError(f"the database {database.shown} was lost: {reason}", "check it and its network")
    return ConfigurationError(f"{database.shown} refused a statement: {told}", "see the log of the database")


def dump(database: Database, objects: BlobSink) -> DatabasePart:
    import psycopg

    with connected(database) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction(), connection.cursor() as cursor:
            revision, tables, others = contents(cursor, database.shown)
            shapes = shape.of_postgresql(cursor, tables)
            with contextlib.ExitStack() as stack:
                children = [stack.enter_context(child) for child in _children(cursor, database, list(shapes.values()))]
                streams = {table: _copy_out(cursor, shapes[table], objects) for table in tables}
                found = _results(children, database)
            server = str(connection.info.parameter_status("server_version"))
    for table, (rows, _objects) in streams.items():
        if rows != found[table][0]:
            raise DamagedError(f"{table} was read twice and had {rows} rows, then {found[table][0]}", "try again")
    parts = (TablePart(t, *found[t], objects=streams[t][1], columns=shapes[t].names) for t in tables)
    return DatabasePart("postgresql", server, revision, tuple(parts), (), others)


def contents(cursor: Any, shown: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Schema revision, MLflow's tables and others, in the current schema. Raises SchemaError."""
    found = relations(cursor)
    present = {name for name, kind in found.items() if kind in "rp"}
    revision = revision_of(cursor) if schema.VERSION_TABLE in present else None
    if revision is None:
        raise SchemaError(f"{shown} has no MLflow schema", "check MLFLOW_BACKEND_STORE_URI and its search_path")
    schema.require_known(revision, shown)
    own = schema.own_tables(revision)
    if missing := own - present:
        raise SchemaError(
            f"{shown} is at schema revision {revision}, but lacks its tables {', '.join(sorted(missing))}",
            "restore a snapshot of it",
        )
    return revision, tuple(sorted(own)), tuple(sorted(set(found) - own))


def relations(cursor: Any) -> dict[str, str]:
    """Tables (r, p), views (v, m) and foreign tables (f) of the current schema: name -> kind."""
    cursor.execute(
        """SELECT c.relname, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"""
    )
    return dict(cursor.fetchall())


def revision_of(cursor: Any) -> str | None:
    cursor.execute(f"SELECT version_num FROM {schema.VERSION_TABLE}")  # noqa: S608 - constant
    row = cursor.fetchone()
    return str(row[0]) if row else None


def _children(
    cursor: Any, database: Database, shapes: Sequence[TableColumns]
) -> Iterator[digest_workers.DigestWorkers]:
    """Child processes that see exactly what the transaction of `cursor` sees."""
    cursor.execute("SELECT pg_export_snapshot()")
    snapshot = cursor.fetchone()[0]
    sizes = dict(
        cursor.execute(
            "SELECT c.relname, pg_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = current_schema() AND c.relkind = 'r'"
        ).fetchall()
    )
    for share in digest_workers.shares([(sizes.get(table.name, 0), table) for table in shapes], worth=2_000_000):
        tables = [digest_workers.task_of(table, _canonical_query(table)) for table in share]
        connect = connect_arguments(database)
        yield digest_workers.DigestWorkers(
            {"dialect": "postgresql", "connect": connect, "snapshot": snapshot, "tables": tables}
        )


def _canonical_query(table: TableColumns) -> str:
    return f"SELECT {', '.join(map(_canonical, table.columns))} FROM {quoted(table.name)}"  # noqa: S608


def _canonical(column: Column) -> str:
    """See digests.py."""
    name = quoted(column.name)
    return {
        "bool": f"{name}::int",
        "float": f"nullif({name}::float8, 'NaN') + 0",
        "text": f"{name}::text",
        "json": f"{name}::text",
        "date": f"{name}::text",
    }.get(column.kind, name)


def _results(children: Sequence[digest_workers.DigestWorkers], database: Database) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    for child in children:
        try:
            found |= child.result()
        except RuntimeError as error:
            reason = databases.reason(error)
            final = databases._final(reason, database)
            raise final or UnreachableError(
                f"{database.shown} could not be read through: {reason}", "try again"
            ) from None
    return found


def _copy_out(cursor: Any, table: TableColumns, objects: BlobSink) -> tuple[int, tuple[str, ...]]:
    """Number of rows, and the objects of their stream."""
    rows, chunks, waiting, size = 0, [], [], 0
    for row in _copied_rows(cursor.connection, f"COPY {quoted(table.name)} ({listed(table.names)}) TO STDOUT"):
        waiting.append(row)
        size += len(row)
        rows += 1
        if size >= CHUNK:
            chunks += _put(waiting, objects)
            waiting, size = [], 0
    return rows, tuple(chunks + _put(waiting, objects))


def _put(rows: Sequence[bytes], objects: BlobSink) -> list[str]:
    data = b"".join(rows)
    return [objects.put(data[start : start + CHUNK]).sha256 for start in range(0, len(data), CHUNK)]


def _copied_rows(connection: psycopg.Connection[Any], command: str) -> Iterator[bytes]:
    """A row at a time as libpq hands it out: psycopg's own iterator takes four times as long."""
    from psycopg import errors
    from psycopg.pq import ExecStatus

    libpq, encoding = connection.pgconn, connection.info.encoding
    begun = libpq.exec_(command.encode(encoding))
    if begun.status != ExecStatus.COPY_OUT:
        raise errors.error_from_result(begun, encoding)
    length, data = libpq.get_copy_data(0)
    while length > 0:
        yield bytes(data)
        length, data = libpq.get_copy_data(0)
    while (result := libpq.get_result()) is not None:
        if result.status != ExecStatus.COMMAND_OK:
            raise errors.error_from_result(result, encoding)
    if length != -1:
        raise errors.ConnectionFailure("the connection was lost in the middle of a table")


def digests(database: Database) -> dict[str, tuple[int, str]]:
    import psycopg

    with connected(database) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction(), connection.cursor() as cursor, contextlib.ExitStack() as stack:
            _revision, tables, _others = contents(cursor, database.shown)
            shapes = shape.of_postgresql(cursor, tables)
            children = [stack.enter_context(child) for child in _children(cursor, database, list(shapes.values()))]
            return _results(children, database)


def state(database: Database) -> DatabaseState:
    with connected(database) as connection, connection.cursor() as cursor:
        found = relations(cursor)
        own = schema.all_tables() & set(found)
        real = {name for name in own if found[name] in "rp"}
        revision = revision_of(cursor) if schema.VERSION_TABLE in real else None
        rows = 0
        for table in sorted(real - {schema.VERSION_TABLE}):
            cursor.execute(f"SELECT count(*) FROM {quoted(table)}")  # noqa: S608
            rows += (cursor.fetchone() or (0,))[0]
    return judge(own, set(found) - own, revision, rows)
