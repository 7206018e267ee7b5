"""Into PostgreSQL: MLflow's schema, the rows by COPY, then keys and indexes, in one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mlflow_ae5_server.database import Database
from mlflow_ae5_server.snapshot.dump import schema, shape
from mlflow_ae5_server.snapshot.dump.postgresql import APPLICATION, EXACT, connected, translated
from mlflow_ae5_server.snapshot.dump.shape import listed, quoted


class Loading:
    """The one transaction of a load: MLflow's schema without indexes and keys, rows, then indexes and keys."""

    def __init__(self, database: Database, connection: Any, revision: str) -> None:
        self.database = database
        self._connection = connection
        schema.create(connection, revision)
        self._cursor = connection.connection.dbapi_connection.cursor()
        self._cursor.execute(EXACT)
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
    arguments = {"connect_timeout": 10, "application_name": APPLICATION}
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
