"""Load rows into MySQL: into a scratch database, then all tables move at once.

Each CREATE TABLE commits there, so a load into the target itself could not be rolled back.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlflow_ae5_server.common.errors import Configuration
from mlflow_ae5_server.database import mysql, mysql_saved_copy, schema
from mlflow_ae5_server.database.columns import TableColumns
from mlflow_ae5_server.database.connection import Database, connect_engine, reason_of
from mlflow_ae5_server.database.mysql import fits_single, is_single, lossless, quoted

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

Block = Sequence[tuple[Any, ...]]
_AT_ONCE = 500  # rows
# Whatever the server is set to: values that do not fit are refused, and an experiment with the number 0 keeps it.
_MODE = "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION"


class MysqlLoad:
    """The tables of an empty schema, to be filled."""

    def __init__(self, connection: Connection, shapes: Iterable[TableColumns]) -> None:
        self._connection = connection
        self.shapes = {shape.name: shape for shape in shapes}

    def rows(self, table: str, columns: Sequence[str], blocks: Iterable[Block]) -> None:
        """Raises Configuration naming the table that cannot hold a row."""
        from sqlalchemy.exc import DataError, IntegrityError

        names = ", ".join(map(quoted, columns))
        insert = f"INSERT INTO {quoted(table)} ({names}) VALUES ({', '.join(['%s'] * len(columns))})"  # noqa: S608
        single = [columns.index(column.name) for column in self.shapes[table].columns if is_single(column)]
        for block in blocks:
            for value, position in ((row[position], position) for row in block for position in single):
                if value is not None and not fits_single(value):
                    name = f"{table}.{columns[position]}"
                    raise _cannot_store(f"{name} has the number {value!r}, of which MySQL stores the first digits only")
            try:
                for start in range(0, len(block), _AT_ONCE):
                    self._connection.exec_driver_sql(insert, [tuple(row) for row in block[start : start + _AT_ONCE]])
            except (DataError, IntegrityError) as error:
                raise _cannot_store(f"{table} has a row that MySQL refuses ({reason_of(error)})") from None

    def same(self, table: str, column: str, values: Sequence[str]) -> dict[str, int]:
        """Texts equal to others in the column's collation: text -> group."""
        name, values = quoted(f"mlflow_ae5_{secrets.token_hex(4)}"), list(values)
        limit = self.shapes[table].column(column).limit
        fitting = [(number, text) for number, text in enumerate(values) if limit is None or len(text) <= limit]
        run = self._connection.exec_driver_sql
        run(f"CREATE TABLE {name} SELECT 0 AS number, {quoted(column)} AS value FROM {quoted(table)} LIMIT 0")  # noqa: S608
        for start in range(0, len(fitting), _AT_ONCE):
            run(f"INSERT INTO {name} VALUES (%s, %s)", fitting[start : start + _AT_ONCE])  # noqa: S608
        window = f"SELECT number, MIN(number) OVER w AS first, COUNT(*) OVER w AS many FROM {name} WINDOW w AS "  # noqa: S608
        equal = run(f"SELECT number, first FROM ({window} (PARTITION BY value)) groups_of_values WHERE many > 1").all()  # noqa: S608
        run(f"DROP TABLE {name}")
        return {values[number]: first for number, first in equal}


@contextlib.contextmanager
def loading(target: Database, revision: str, *, dry_run: bool = False) -> Iterator[MysqlLoad]:
    """All or nothing: the tables move to `target` at the end, unless dry_run."""
    with mysql_saved_copy.scratch(target) as scratch:
        with connect_engine(lossless(scratch)).connect() as connection:
            schema.create(connection, revision)
            connection.commit()
        with mysql.connected(scratch) as connection:
            connection.exec_driver_sql(f"SET SESSION sql_mode = '{_MODE}', foreign_key_checks = 0")
            shapes = mysql.columns_of(connection, sorted(schema.own_tables(revision)), scratch.shown)
            for shape in shapes:  # migrations write rows too
                connection.exec_driver_sql(f"DELETE FROM {quoted(shape.name)}")  # noqa: S608
            yield MysqlLoad(connection, shapes)
            if not dry_run:
                connection.commit()
                mysql_saved_copy.move_in(scratch, target, schema.own_tables(revision))


def _cannot_store(what: str) -> Configuration:
    return Configuration(
        what, "change or remove that value in the original, and take a new snapshot; or restore into another database"
    )
