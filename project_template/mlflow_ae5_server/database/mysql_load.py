"""Into MySQL: schema and rows in a database beside it, from where all tables move to their place in one step.

Each CREATE TABLE commits there, so that a load into the place itself could not be undone.
"""

from __future__ import annotations

import contextlib
import secrets
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlflow_ae5_server.common.errors import ConfigurationError
from mlflow_ae5_server.database import mysql, mysql_saved_copy, schema
from mlflow_ae5_server.database.checks import Database, connect_engine, reason
from mlflow_ae5_server.database.columns import TableColumns
from mlflow_ae5_server.database.mysql import is_single, lossless, quoted

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

Block = Sequence[tuple[Any, ...]]
_AT_ONCE = 500  # rows
# However the server is configured: what does not fit is refused, and an experiment of the number 0 keeps it.
_MODE = "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION"


class MysqlLoad:
    """The tables of an empty schema, to be filled."""

    def __init__(self, connection: Connection, shapes: Iterable[TableColumns]) -> None:
        self._connection = connection
        self.shapes = {shape.name: shape for shape in shapes}

    def commit(self) -> None:
        self._connection.commit()

    def rows(self, table: str, columns: Sequence[str], blocks: Iterable[Block]) -> None:
        """Raises ConfigurationError naming the table that cannot hold a row."""
        from sqlalchemy.exc import DataError, IntegrityError

        names = ", ".join(map(quoted, columns))
        insert = f"INSERT INTO {quoted(table)} ({names}) VALUES ({', '.join(['%s'] * len(columns))})"  # noqa: S608
        single = [columns.index(column.name) for column in self.shapes[table].columns if is_single(column)]
        for block in blocks:
            for scratch_database in single:
                _require_single(table, columns[scratch_database], block, scratch_database)
            try:
                for start in range(0, len(block), _AT_ONCE):
                    self._connection.exec_driver_sql(insert, [tuple(row) for row in block[start : start + _AT_ONCE]])
            except (DataError, IntegrityError) as error:
                raise _cannot_keep(f"{table} has a row that MySQL refuses ({reason(error)})") from None

    def same(self, table: str, column: str, values: Sequence[str]) -> dict[str, int]:
        """Of these texts, those that the column's collation takes for the same: text -> number of the group."""
        name, values = quoted(f"mlflow_ae5_{secrets.token_hex(4)}"), list(values)
        limit = self.shapes[table].column(column).limit
        fitting = [(number, text) for number, text in enumerate(values) if limit is None or len(text) <= limit]
        run = self._connection.exec_driver_sql
        run(f"CREATE TABLE {name} SELECT 0 AS number, {quoted(column)} AS value FROM {quoted(table)} LIMIT 0")  # noqa: S608
        for start in range(0, len(fitting), _AT_ONCE):
            run(f"INSERT INTO {name} VALUES (%s, %s)", fitting[start : start + _AT_ONCE])  # noqa: S608
        window = f"SELECT number, MIN(number) OVER w AS first, COUNT(*) OVER w AS many FROM {name} WINDOW w AS "  # noqa: S608
        found = run(f"SELECT number, first FROM ({window} (PARTITION BY value)) groups_of_values WHERE many > 1").all()  # noqa: S608
        run(f"DROP TABLE {name}")
        return {values[number]: first for number, first in found}


@contextlib.contextmanager
def loading(target: Database, revision: str) -> Iterator[MysqlLoad]:
    """All, or nothing: the tables are moved to `target` when the block ends well."""
    with _prepared(target, revision) as (scratch_database, loading):
        yield loading
        loading.commit()
        mysql_saved_copy.move_in(scratch_database, target, schema.own_tables(revision))


@contextlib.contextmanager
def looking(target: Database, revision: str) -> Iterator[MysqlLoad]:
    """The same, and nothing is moved to `target`."""
    with _prepared(target, revision) as (_scratch_database, loading):
        yield loading


@contextlib.contextmanager
def _prepared(target: Database, revision: str) -> Iterator[tuple[Database, MysqlLoad]]:
    with mysql_saved_copy.scratch(target) as scratch_database:
        with connect_engine(lossless(scratch_database)).connect() as connection:
            schema.create(connection, revision)
            connection.commit()
        with mysql.connected(scratch_database) as connection:
            connection.exec_driver_sql(f"SET SESSION sql_mode = '{_MODE}', foreign_key_checks = 0")
            shapes = mysql.shapes_of(connection, sorted(schema.own_tables(revision)), scratch_database.shown)
            for shape in shapes:  # migrations write rows too
                connection.exec_driver_sql(f"DELETE FROM {quoted(shape.name)}")  # noqa: S608
            yield scratch_database, MysqlLoad(connection, shapes)


def _require_single(table: str, column: str, block: Block, scratch_database: int) -> None:
    """A FLOAT has 32 bits there: a number that needs more would come back as another."""
    for row in block:
        value = row[scratch_database]
        if value is not None and value != mysql.shortest(struct.unpack("f", struct.pack("f", value))[0]):
            raise _cannot_keep(f"{table}.{column} has the number {value!r}, of which MySQL keeps the first digits only")


def _cannot_keep(what: str) -> ConfigurationError:
    return ConfigurationError(
        what, "change or remove that value in the original, and take a new snapshot; or restore into another database"
    )
