"""PostgreSQL databases: dump, digests and state, from one snapshot by COPY."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlflow_ae5_server.common.errors import (
    Configuration,
    LoginFailed,
    ProjectError,
    RepositoryFailed,
    SnapshotDamaged,
    TargetInUse,
    Unreachable,
)
from mlflow_ae5_server.database import schema
from mlflow_ae5_server.database.character_sets import no_schema
from mlflow_ae5_server.database.columns import Column, TableColumns, kind_of, limit_of, listed, quoted
from mlflow_ae5_server.database.connection import Database, reason_of, refusal_of
from mlflow_ae5_server.database.contents import DELETED_RUNS, DatabasePart, DatabaseState, Digests, TablePart, state_of
from mlflow_ae5_server.database.digests import DigestWorker, shares, task_of
from mlflow_ae5_server.repository.blob_types import BlobSink

if TYPE_CHECKING:
    import psycopg

CHUNK = 4 * 1024 * 1024  # bytes
APPLICATION = "mlflow-ae5-maintenance"
# Text forms that are exact and mean the same everywhere, whatever the server, the database or the role is set to.
EXACT = "SET datestyle = 'ISO'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET timezone = 'UTC'"


def connect_arguments(database: Database) -> dict[str, Any]:
    """The arguments of psycopg (3) for this URI, the password among them."""
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
    from sqlalchemy.engine import make_url

    dialect: Any = PGDialect_psycopg
    _none, arguments = dialect().create_connect_args(make_url(database.uri))
    arguments.pop("context", None)
    return {"connect_timeout": 10, **arguments, "application_name": APPLICATION}


@contextlib.contextmanager
def connected(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A psycopg connection, closed at the end. Its errors become ours."""
    try:
        import psycopg
    except ImportError:
        raise Configuration(
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
    """Make the current schema the whole search path; others are not ours."""
    cursor.execute("SELECT current_setting('search_path'), current_schema()")
    path, current = cursor.fetchone()
    if current is None:
        raise no_schema(database, path)
    cursor.execute("SELECT set_config('search_path', quote_ident(current_schema()), false)")


@contextlib.contextmanager
def translated(database: Database) -> Iterator[None]:
    """Turn errors of psycopg, also those wrapped by SQLAlchemy, into ours."""
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
    """Our error by SQLSTATE, else by the message.

    08, 57P: connection; 42501: rights; 53: resources; 22, 23: the data.
    """
    state: str = error.sqlstate or ""
    reason = reason_of(error)
    where = (getattr(error.diag, "context", None) or "").splitlines()
    detail = f"{reason} ({where[0]})" if where else reason
    if state == "42501":
        return LoginFailed(
            f"the user of {database.shown} lacks a right: {reason}",
            "let the user own the database, or grant it that right (CREATE on the schema, SELECT on the tables)",
        )
    if state == "55P03":
        return TargetInUse(f"{database.shown} is in use: {reason}", "stop every program that uses that database")
    if state == "53100":
        return RepositoryFailed(f"the disk of {database.shown} is full: {reason}", "free disk space there")
    if state.startswith(("22", "23", "54")):
        return Configuration(f"{database.shown} cannot hold a row of the snapshot: {detail}", "report this row")
    if (refusal := refusal_of(reason, database)) is not None:
        return refusal
    if not state or state.startswith(("08", "57", "53", "25", "58")):
        return Unreachable(f"the database {database.shown} was lost: {reason}", "check it and its network")
    return Configuration(f"{database.shown} refused a statement: {detail}", "see the log of the database")


@contextlib.contextmanager
def _snapshot(database: Database) -> Iterator[Any]:
    """The cursor of a transaction that reads one state of the database."""
    import psycopg

    with connected(database) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction(), connection.cursor() as cursor:
            yield cursor


def dump(database: Database, objects: BlobSink) -> DatabasePart:
    with _snapshot(database) as cursor, contextlib.ExitStack() as stack:
        revision, tables, others = _mlflow_tables(cursor, database.shown)
        shapes = columns_of(cursor, tables)
        workers = [stack.enter_context(worker) for worker in _workers(cursor, database, list(shapes.values()))]
        streams = {table: _copy_out(cursor, shapes[table], objects) for table in tables}
        results = _results(workers, database)
        (deleted_runs,) = cursor.execute(DELETED_RUNS).fetchone()
        server = str(cursor.connection.info.parameter_status("server_version"))
    for table, (rows, _objects) in streams.items():
        if rows != results[table][0]:
            raise SnapshotDamaged(f"{table} was read twice and had {rows} rows, then {results[table][0]}", "try again")
    parts = (TablePart(t, *results[t], objects=streams[t][1], columns=shapes[t].names) for t in tables)
    return DatabasePart("postgresql", server, revision, tuple(parts), (), others, deleted_runs)


def digests(database: Database) -> Digests:
    with _snapshot(database) as cursor, contextlib.ExitStack() as stack:
        _revision, tables, _others = _mlflow_tables(cursor, database.shown)
        shapes = list(columns_of(cursor, tables).values())
        return _results([stack.enter_context(worker) for worker in _workers(cursor, database, shapes)], database)


def state(database: Database) -> DatabaseState:
    with connected(database) as connection, connection.cursor() as cursor:
        present = _relations(cursor)
        own = schema.all_tables() & set(present)
        tables = {name for name in own if present[name] in "rp"}
        revision = _revision_of(cursor) if schema.VERSION_TABLE in tables else None
        rows = 0
        for table in sorted(tables - {schema.VERSION_TABLE}):
            cursor.execute(f"SELECT count(*) FROM {quoted(table)}")  # noqa: S608
            rows += (cursor.fetchone() or (0,))[0]
    return state_of(own, set(present) - own, revision, rows)


def _mlflow_tables(cursor: Any, subject: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Schema revision, MLflow's tables and others. Raises SchemaMismatch."""
    present = _relations(cursor)
    tables = {name for name, kind in present.items() if kind in "rp"}
    revision = _revision_of(cursor) if schema.VERSION_TABLE in tables else None
    own = schema.require_tables(revision, tables, subject)
    return str(revision), tuple(sorted(own)), tuple(sorted(set(present) - own))


def _relations(cursor: Any) -> dict[str, str]:
    """Tables (r, p), views (v, m) and foreign tables (f): name -> kind."""
    cursor.execute(
        """SELECT c.relname, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"""
    )
    return dict(cursor.fetchall())


def _revision_of(cursor: Any) -> str | None:
    cursor.execute(f"SELECT version_num FROM {schema.VERSION_TABLE}")  # noqa: S608 - constant
    row = cursor.fetchone()
    return str(row[0]) if row else None


def columns_of(cursor: Any, tables: Iterable[str]) -> dict[str, TableColumns]:
    """The columns of `tables` in the current schema; `cursor` is psycopg's."""
    cursor.execute(
        """SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                  coalesce(array_position(i.indkey::int[], a.attnum::int), -1)
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
           LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
           WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND c.relname = ANY(%s)
             AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
           ORDER BY c.relname, a.attname COLLATE "C" """,
        [list(tables)],
    )
    found: dict[str, list[tuple[Column, int]]] = {}
    for table, name, declared, must, position in cursor.fetchall():
        column = Column(name, kind_of(declared), limit_of(declared), declared in ("integer", "smallint"), not must)
        found.setdefault(table, []).append((column, position))
    return {
        table: TableColumns(
            table,
            tuple(sorted((column for column, _position in columns), key=lambda column: column.name)),
            tuple(column.name for column, position in sorted(columns, key=lambda entry: entry[1]) if position >= 0),
        )
        for table, columns in found.items()
    }


def _workers(cursor: Any, database: Database, shapes: Sequence[TableColumns]) -> Iterator[DigestWorker]:
    """Child processes that see exactly what the transaction of `cursor` sees."""
    cursor.execute("SELECT pg_export_snapshot()")
    snapshot = cursor.fetchone()[0]
    sizes = dict(
        cursor.execute(
            "SELECT c.relname, pg_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = current_schema() AND c.relkind = 'r'"
        ).fetchall()
    )
    connect = connect_arguments(database)
    for share in shares([(sizes.get(table.name, 0), table) for table in shapes], worth=2_000_000):
        tables = []
        for table in share:
            values = ", ".join(map(_canonical, table.columns))
            tables.append(task_of(table, f"SELECT {values} FROM {quoted(table.name)}"))  # noqa: S608
        yield DigestWorker({"dialect": "postgresql", "connect": connect, "snapshot": snapshot, "tables": tables})


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


def _results(workers: Sequence[DigestWorker], database: Database) -> Digests:
    results: Digests = {}
    try:
        for worker in workers:
            results |= worker.result()
    except RuntimeError as error:
        reason = reason_of(error)
        refusal = refusal_of(reason, database)
        raise refusal or Unreachable(f"{database.shown} could not be read to the end: {reason}", "try again") from None
    return results


def _copy_out(cursor: Any, table: TableColumns, objects: BlobSink) -> tuple[int, tuple[str, ...]]:
    """Store a table's rows. Returns their number, and the blobs."""
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
    """The rows of a COPY command, from libpq: psycopg's iterator is slow."""
    from psycopg import errors
    from psycopg.pq import ExecStatus

    libpq, encoding = connection.pgconn, connection.info.encoding
    started = libpq.exec_(command.encode(encoding))
    if started.status != ExecStatus.COPY_OUT:
        raise errors.error_from_result(started, encoding)
    length, data = libpq.get_copy_data(0)
    while length > 0:
        yield bytes(data)
        length, data = libpq.get_copy_data(0)
    while (result := libpq.get_result()) is not None:
        if result.status != ExecStatus.COMMAND_OK:
            raise errors.error_from_result(result, encoding)
    if length != -1:
        raise errors.ConnectionFailure("the connection was lost in the middle of a table")
