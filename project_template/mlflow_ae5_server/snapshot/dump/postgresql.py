"""PostgreSQL: one snapshot of the server's own, COPY out and in, indexes and constraints built after the rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlflow_ae5_server import database as databases
from mlflow_ae5_server.database import Database
from mlflow_ae5_server.errors import (
    ConfigurationError,
    CredentialsError,
    DamagedError,
    InUseError,
    ProjectError,
    SchemaError,
    StorageError,
    UnreachableError,
)
from mlflow_ae5_server.snapshot.dump import hasher, schema, shape
from mlflow_ae5_server.snapshot.dump.records import DatabasePart, State, TablePart
from mlflow_ae5_server.snapshot.dump.shape import Column, Shape, listed, quoted
from mlflow_ae5_server.snapshot.dump.sqlite import judge
from mlflow_ae5_server.snapshot.objects import ObjectWriter

if TYPE_CHECKING:
    import psycopg

CHUNK = 4 * 1024 * 1024  # bytes
_NAME = "mlflow-ae5-maintenance"
# However the server, the database or the role is configured: text forms that are exact and mean the same everywhere.
_EXACT = "SET datestyle = 'ISO'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET timezone = 'UTC'"


def connect_arguments(database: Database) -> dict[str, Any]:
    """What psycopg (3) needs, from the URI as SQLAlchemy reads it. Holds the password."""
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
    from sqlalchemy.engine import make_url

    dialect: Any = PGDialect_psycopg
    _none, arguments = dialect().create_connect_args(make_url(database.uri))
    arguments.pop("context", None)
    return {"connect_timeout": 10, **arguments, "application_name": _NAME}


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
        connection.execute(_EXACT)
        connection.commit()
        yield connection


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
    reason = databases._reason(error)
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


def dump(database: Database, objects: ObjectWriter) -> DatabasePart:
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
        """SELECT relname, relkind::text FROM pg_class
           WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')"""
    )
    return dict(cursor.fetchall())


def revision_of(cursor: Any) -> str | None:
    cursor.execute(f"SELECT version_num FROM {schema.VERSION_TABLE}")  # noqa: S608 - constant
    row = cursor.fetchone()
    return str(row[0]) if row else None


def _children(cursor: Any, database: Database, shapes: Sequence[Shape]) -> Iterator[hasher.Hasher]:
    """Child processes that see exactly what the transaction of `cursor` sees."""
    cursor.execute("SELECT pg_export_snapshot()")
    snapshot = cursor.fetchone()[0]
    sizes = dict(
        cursor.execute(
            "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relnamespace = current_schema()::regnamespace "
            "AND relkind = 'r'"
        ).fetchall()
    )
    for share in hasher.shares([(sizes.get(table.name, 0), table) for table in shapes], worth=2_000_000):
        tables = [hasher.task_of(table, _canonical_query(table)) for table in share]
        connect = connect_arguments(database)
        yield hasher.Hasher({"dialect": "postgresql", "connect": connect, "snapshot": snapshot, "tables": tables})


def _canonical_query(table: Shape) -> str:
    return f"SELECT {', '.join(map(_canonical, table.columns))} FROM {quoted(table.name)}"  # noqa: S608


def _canonical(column: Column) -> str:
    """See canonical.py."""
    name = quoted(column.name)
    return {
        "bool": f"{name}::int",
        "float": f"nullif({name}::float8, 'NaN') + 0",
        "text": f"{name}::text",
        "json": f"{name}::text",
        "date": f"{name}::text",
    }.get(column.kind, name)


def _results(children: Sequence[hasher.Hasher], database: Database) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    for child in children:
        try:
            found |= child.result()
        except RuntimeError as error:
            reason = databases._reason(error)
            final = databases._final(reason, database)
            raise final or UnreachableError(
                f"{database.shown} could not be read through: {reason}", "try again"
            ) from None
    return found


def _copy_out(cursor: Any, table: Shape, objects: ObjectWriter) -> tuple[int, tuple[str, ...]]:
    rows, chunks, waiting = 0, [], bytearray()
    with cursor.copy(f"COPY {quoted(table.name)} ({listed(table.names)}) TO STDOUT") as stream:
        for row in stream:
            waiting += row
            rows += 1  # libpq hands out one row at a time
            if len(waiting) >= CHUNK:
                chunks.append(objects.put(bytes(waiting)).sha256)
                waiting.clear()
    if waiting:
        for start in range(0, len(waiting), CHUNK):
            chunks.append(objects.put(bytes(waiting[start : start + CHUNK])).sha256)
    return rows, tuple(chunks)


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


def state(database: Database) -> State:
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


class Loading:
    """The one transaction of a load: MLflow's schema without indexes and keys, rows, then indexes and keys."""

    def __init__(self, database: Database, connection: Any, revision: str) -> None:
        self.database = database
        self._connection = connection
        schema.create(connection, revision)
        self._cursor = connection.connection.dbapi_connection.cursor()
        self._cursor.execute(_EXACT)
        self._own = sorted(schema.own_tables(revision))
        self.shapes = shape.of_postgresql(self._cursor, self._own)
        self._rebuild = _strip(self._cursor, self._own)
        # Migrations write rows too. And a table emptied here needs no second look at its rows by VACUUM (FREEZE).
        self._cursor.execute(f"TRUNCATE {listed(self._own)}")

    def stream(self, table: str, columns: Sequence[str], chunks: Iterable[bytes]) -> None:
        """Rows as COPY text."""
        with self._copy(table, columns) as copy:
            for chunk in chunks:
                copy.write(chunk)

    def rows(self, table: str, columns: Sequence[str], blocks: Iterable[Sequence[tuple[Any, ...]]]) -> None:
        with self._copy(table, columns) as copy:
            for block in blocks:
                for row in block:
                    copy.write_row(row)

    def _copy(self, table: str, columns: Sequence[str]) -> Any:
        return self._cursor.copy(f"COPY {quoted(table)} ({listed(columns)}) FROM STDIN (FREEZE)")

    def finish(self) -> None:
        self._cursor.execute("SET LOCAL maintenance_work_mem = '96MB'")
        self._cursor.execute(";\n".join(self._rebuild))
        _advance_sequences(self._cursor, self._own)
        self._connection.commit()


@contextlib.contextmanager
def loading(database: Database, revision: str) -> Iterator[Loading]:
    """All, or nothing: whatever is raised inside undoes everything. `finish()` makes it so."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    with connected(database):  # the errors of a first look, in plain words
        pass
    uri = database.uri.replace("+psycopg2://", "+psycopg://", 1)
    arguments = {"connect_timeout": 10, "application_name": _NAME}
    engine = create_engine(uri, poolclass=NullPool, connect_args=arguments)
    with translated(database), engine.connect() as connection, connection.begin():
        yield Loading(database, connection, revision)


def _strip(cursor: Any, tables: Sequence[str]) -> list[str]:
    """Drop foreign keys, other keys and indexes of `tables`; returns the statements that make them again."""
    cursor.execute(
        """SELECT c.conrelid::regclass::text, quote_ident(c.conname), c.contype = 'f', pg_get_constraintdef(c.oid)
           FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
           WHERE t.relnamespace = current_schema()::regnamespace AND t.relname = ANY(%s)
             AND c.contype IN ('p', 'u', 'f')
           ORDER BY c.contype = 'f' DESC, 1, 2""",
        [list(tables)],
    )
    constraints = cursor.fetchall()
    cursor.execute(
        """SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
           FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
           WHERE t.relnamespace = current_schema()::regnamespace AND t.relname = ANY(%s)
             AND NOT EXISTS (
               SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x'))
           ORDER BY 1""",
        [list(tables)],
    )
    indexes = cursor.fetchall()
    drop = [f"ALTER TABLE {table} DROP CONSTRAINT {name}" for table, name, _foreign, _text in constraints]
    drop += [f"DROP INDEX {name}" for name, _text in indexes]
    if drop:
        cursor.execute(";\n".join(drop))
    add = [(foreign, f"ALTER TABLE {table} ADD CONSTRAINT {name} {text}") for table, name, foreign, text in constraints]
    keys = [statement for foreign, statement in add if not foreign]
    return [*keys, *(text for _name, text in indexes), *(statement for foreign, statement in add if foreign)]


def _advance_sequences(cursor: Any, tables: Sequence[str]) -> None:
    """The next number of each numbered column comes after the highest there is."""
    cursor.execute(
        """SELECT t.relname, a.attname, pg_get_serial_sequence(quote_ident(t.relname), a.attname)
           FROM pg_class t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
           WHERE t.relnamespace = current_schema()::regnamespace AND t.relname = ANY(%s)""",
        [list(tables)],
    )
    for table, column, sequence in cursor.fetchall():
        if sequence:
            cursor.execute(
                f"SELECT setval(%s, greatest(max({quoted(column)}), 1), coalesce(max({quoted(column)}) >= 1, false)) "  # noqa: S608
                f"FROM {quoted(table)}",
                [sequence],
            )
