"""What a table looks like in a database at hand: its columns by reflection, never from the models of some version."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["int", "bool", "float", "text", "blob", "json", "date"]


@dataclass(frozen=True)
class Column:
    """`limit`: characters a text may have, `octets`: bytes. `small`: a number of 32 bits. SQLite keeps to none."""

    name: str
    kind: Kind
    limit: int | None = None
    small: bool = False
    nullable: bool = True
    octets: int | None = None


@dataclass(frozen=True)
class TableColumns:
    """A table and its columns in alphabetical order, but for generated ones. `key`: the columns of its primary key."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def bounded(self) -> bool:
        """Whether a row cannot be large: no text or binary column without a limit."""
        return all(column.limit or column.kind in {"int", "bool", "float", "date"} for column in self.columns)

    @property
    def json(self) -> tuple[int, ...]:
        return tuple(position for position, column in enumerate(self.columns) if column.kind == "json")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def listed(names: Iterable[str]) -> str:
    return ", ".join(quoted(name) for name in names)


def kind_of(declared: str) -> Kind:
    """From the declared type, on any dialect."""
    declared = declared.lower()
    rules: tuple[tuple[str, Kind], ...] = (
        (r"bool|tinyint\(1\)", "bool"),
        (r"int|serial", "int"),
        (r"float|double|real|numeric|decimal", "float"),
        (r"json", "json"),
        (r"blob|bytea|binary", "blob"),
        (r"^date$", "date"),
    )
    return next((kind for pattern, kind in rules if re.search(pattern, declared)), "text")


def of_sqlite(connection: sqlite3.Connection, table: str) -> TableColumns:
    # cid, name, type, notnull, default, pk (place in the key), hidden (2, 3: generated)
    rows = [row for row in connection.execute(f"PRAGMA table_xinfo({quoted(table)})") if row[6] == 0]
    columns = [
        Column(name, kind_of(declared), limit=_limit(declared), small=declared.upper() == "INTEGER", nullable=not must)
        for _number, name, declared, must, _default, _key, _hidden in rows
    ]
    key = tuple(row[1] for row in sorted(rows, key=lambda row: row[5]) if row[5])
    return TableColumns(table, tuple(sorted(columns, key=lambda column: column.name)), key)


def _limit(declared: str) -> int | None:
    found = re.search(r"char[\w ]*\((\d+)\)", declared, re.I)
    return int(found[1]) if found else None


def of_postgresql(cursor: Any, tables: Iterable[str]) -> dict[str, TableColumns]:
    """The shapes of `tables` in the current schema; `cursor` is psycopg's."""
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
        column = Column(name, kind_of(declared), _limit(declared), declared in ("integer", "smallint"), not must)
        found.setdefault(table, []).append((column, position))
    return {
        table: TableColumns(
            table,
            tuple(sorted((column for column, _position in columns), key=lambda column: column.name)),
            tuple(column.name for column, position in sorted(columns, key=lambda entry: entry[1]) if position >= 0),
        )
        for table, columns in found.items()
    }
