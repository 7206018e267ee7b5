"""Load rows into PostgreSQL, in one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mlflow_ae5_server.database import schema
from mlflow_ae5_server.database.columns import listed, quoted
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.database.postgresql import (
    APPLICATION,
    EXACT,
    columns_of,
    connected,
    stay_in_schema,
    translated,
)

_MANY = 1000  # rows for which an index is made faster after them than along with them


class PostgresqlLoad:
    """The transaction of a load: schema, rows, then indexes and keys.

    expected: the number of rows to come, by table.
    """

    def __init__(self, database: Database, connection: Any, revision: str, expected: Mapping[str, int]) -> None:
        self.database = database
        self._connection = connection
        self._cursor = connection.connection.dbapi_connection.cursor()
        stay_in_schema(self._cursor, database)
        schema.create(connection, revision)
        self._cursor.execute(EXACT)
        self._own = sorted(schema.own_tables(revision))
        self.shapes = columns_of(self._cursor, self._own)
        filled = [table for table in self._own if expected.get(table, 0)]
        self._rebuild = _strip(self._cursor, filled, [table for table in filled if expected[table] > _MANY])
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
        if self._rebuild:
            self._cursor.execute(";\n".join(self._rebuild))
        _advance_sequences(self._cursor, self._own)
        self._connection.commit()


@contextlib.contextmanager
def loading(database: Database, revision: str, expected: Mapping[str, int]) -> Iterator[PostgresqlLoad]:
    """All or nothing: `finish()` commits, an exception rolls back."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    with connected(database):  # raises our errors for a login that fails
        pass
    uri = database.uri.replace("+psycopg2://", "+psycopg://", 1)
    arguments = {"connect_timeout": 10, "application_name": APPLICATION}
    engine = create_engine(uri, poolclass=NullPool, connect_args=arguments)
    with translated(database), engine.connect() as connection, connection.begin():
        yield PostgresqlLoad(database, connection, revision, expected)


def _strip(cursor: Any, filled: Sequence[str], large: Sequence[str]) -> list[str]:
    """Drop foreign keys of `filled` tables, keys and indexes of `large` ones.

    Returns the statements that recreate all of it.
    """
    cursor.execute(
        """SELECT c.conrelid::regclass::text, quote_ident(c.conname), c.contype = 'f', pg_get_constraintdef(c.oid)
           FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
             LEFT JOIN pg_class r ON r.oid = c.confrelid
           WHERE n.nspname = current_schema()
             AND (c.contype = 'f' AND (t.relname = ANY(%(filled)s)
                    OR r.relnamespace = t.relnamespace AND r.relname = ANY(%(large)s))
                  OR c.contype IN ('p', 'u') AND t.relname = ANY(%(large)s))
           ORDER BY c.contype = 'f' DESC, 1, 2""",
        {"filled": list(filled), "large": list(large)},
    )
    constraints = cursor.fetchall()
    cursor.execute(
        """SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
           FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
           WHERE n.nspname = current_schema() AND t.relname = ANY(%s)
             AND NOT EXISTS (
               SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x'))
           ORDER BY 1""",
        [list(large)],
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
        """SELECT t.relname, a.attname, pg_get_serial_sequence(format('%%I.%%I', n.nspname, t.relname), a.attname)
           FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
             JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
           WHERE n.nspname = current_schema() AND t.relname = ANY(%s)""",
        [list(tables)],
    )
    for table, column, sequence in cursor.fetchall():
        if sequence:
            cursor.execute(
                f"SELECT setval(%s, greatest(max({quoted(column)}), 1), coalesce(max({quoted(column)}) >= 1, false)) "  # noqa: S608
                f"FROM {quoted(table)}",
                [sequence],
            )
