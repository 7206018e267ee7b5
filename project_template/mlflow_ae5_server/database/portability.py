"""Values that another kind of database refuses. SQLite accepts any.

All of them are listed, by table, column and row, before anything is moved. Free text may be shortened; an identity
(a name, a key, a location, an id) never is, because other rows and clients refer to it.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow_ae5_server.common.errors import Configuration
from mlflow_ae5_server.database.columns import Column, TableColumns, listed, quoted
from mlflow_ae5_server.database.mysql import fits_single

_SMALL = 2**31
_SHOWN = 80  # characters of a key in a message
_NAMED = 5  # values in an error; the log and the report have all
# Texts of which no two are equal in any collation.
_PLAIN = re.compile(r"[0-9a-z_./:-]*")

# Columns that people write and read, and nothing refers to.
_FREE: Mapping[str, Collection[str]] = {
    "runs": ("name",),
    "registered_models": ("description",),
    "model_versions": ("description", "status_message"),
    "logged_models": ("status_message",),
    "trace_info": ("request_preview", "response_preview"),
    "assessments": ("rationale",),
    "issues": ("description",),
    "jobs": ("status_message",),
    "label_schemas": ("instruction",),
    "mcp_servers": ("description",),
    "secrets": ("description",),
    "webhooks": ("description",),
    "workspaces": ("description",),
}
# table: (value, key). A value is free where MLflow does not read it itself, as it reads most of its own tags.
_VALUES = {
    "params": ("value", "key"),
    "tags": ("value", "key"),
    "experiment_tags": ("value", "key"),
    "registered_model_tags": ("value", "key"),
    "model_version_tags": ("value", "key"),
    "evaluation_dataset_tags": ("value", "key"),
    "trace_tags": ("value", "key"),
    "trace_request_metadata": ("value", "key"),
    "input_tags": ("value", "name"),
    "logged_model_params": ("param_value", "param_key"),
    "logged_model_tags": ("tag_value", "tag_key"),
}
_FREE_KEYS = {"mlflow.note.content", "mlflow.runName"}

Same = Callable[[str, str, Sequence[str]], Mapping[str, int]]
"""Of table, column and its distinct texts: those equal to others in the target, as text -> number of the group."""


@dataclass(frozen=True)
class Target:
    """What a kind of database accepts."""

    shapes: Mapping[str, TableColumns]  # its columns
    nul: bool = False  # the character NUL in texts
    infinity: bool = True  # infinite numbers
    references: bool = True  # it refuses references to rows that are not there
    same: Same | None = None  # where it takes different texts for the same


@dataclass(frozen=True)
class Refused:
    """A value that the target refuses."""

    table: str
    column: str
    row: Mapping[str, Any]  # its key
    what: str
    length: int | None = None
    limit: int | None = None
    unit: str = "characters"  # or bytes
    free: bool = False  # free text, which may be shortened
    rowid: int = 0

    def __str__(self) -> str:
        where = ", ".join(f"{name}={_shown(value)!r}" for name, value in self.row.items())
        return f"{self.table}.{self.column} {self.what}, in the row {where}"

    def to_json(self) -> dict[str, Any]:
        return {
            "table": self.table,
            "column": self.column,
            "row": {name: _shown(value) for name, value in self.row.items()},
            "what": self.what,
            "length": self.length,
            "limit": self.limit,
            "unit": self.unit if self.limit is not None else None,
            "free_text": self.free,
        }


def find(connection: sqlite3.Connection, tables: Iterable[TableColumns], target: Target) -> list[Refused]:
    """Every value in these tables of a SQLite file that `target` refuses."""
    connection.text_factory = _decoded
    try:
        found = [item for table in tables for item in _of_table(connection, table, target)]
        return found + (_dangling(connection) if target.references else [])
    finally:
        connection.text_factory = str


def shorten(connection: sqlite3.Connection, found: Iterable[Refused], target: Target) -> None:
    """Make the free texts among them fit, by removing NUL and cutting the end."""
    with connection:
        for item in found:
            if not item.free:
                continue
            table, column = quoted(item.table), quoted(item.column)
            query = f"SELECT {column} FROM {table} WHERE rowid = ?"  # noqa: S608
            (value,) = connection.execute(query, (item.rowid,)).fetchone()
            limits = target.shapes[item.table].column(item.column)
            short = (value if target.nul else value.replace("\0", ""))[: limits.limit]
            if limits.octets is not None:
                short = short.encode()[: limits.octets].decode(errors="ignore")
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (short, item.rowid))  # noqa: S608


def refusal(found: Sequence[Refused], shown: str) -> Configuration:
    """The error that a restore is refused with."""
    named = "; ".join(str(item) for item in found[:_NAMED])
    more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    free = sum(item.free for item in found)
    short = f"; --shorten-text shortens the {free} of them that are free text" if free else ""
    return Configuration(
        f"{shown} cannot store {len(found)} value{'s' if len(found) > 1 else ''} of the snapshot: {named}{more}",
        f"`restore --dry-run` lists all; change or delete them in the original and take a new snapshot{short}; "
        "or restore into SQLite",
    )


def _of_table(connection: sqlite3.Connection, table: TableColumns, target: Target) -> Iterator[Refused]:
    columns = {column.name: column for column in target.shapes[table.name].columns}
    for name in table.names:
        yield from _texts(connection, table, columns[name], target)
        for condition, what in _rules(columns[name], target):
            for row, rowid, _value in _rows(connection, table, name, condition):
                yield Refused(table.name, name, row, what, rowid=rowid)
        if columns[name].kind == "float" and columns[name].small:
            yield from _singles(connection, table, name)
    if target.same is not None:
        yield from _collisions(connection, table, target.same)


def _rows(
    connection: sqlite3.Connection, table: TableColumns, column: str, condition: str
) -> Iterator[tuple[dict[str, Any], int, Any]]:
    """Key, rowid and value of the rows that meet the condition."""
    key = table.key or ("rowid",)
    names = listed([*key, column])
    query = f"SELECT rowid, {names} FROM {quoted(table.name)} WHERE {condition}"  # noqa: S608
    for rowid, *values, value in connection.execute(query):
        yield dict(zip(key, values, strict=True)), rowid, value


def _rules(column: Column, target: Target) -> list[tuple[str, str]]:
    name = quoted(column.name)
    rules = [] if column.nullable else [(f"{name} IS NULL", "is NULL")]
    if column.kind in ("text", "json", "date"):
        rules.append((f"typeof({name}) = 'blob'", "holds bytes that are no text"))
    if column.kind == "json":
        rules.append((f"typeof({name}) = 'text' AND NOT json_valid({name})", "is not valid JSON"))
    elif column.kind == "date":
        rules.append((f"typeof({name}) = 'text' AND date({name}) IS NOT {name}", "is not a date"))
    elif column.kind in ("int", "bool"):
        rules.append((f"typeof({name}) NOT IN ('integer', 'null')", "is not a whole number"))
        if column.small and column.name != "id":  # of the rollups, whose numbers have 64 bits elsewhere
            rules.append((f"{name} NOT BETWEEN -{_SMALL} AND {_SMALL - 1}", "is too large a number"))
        if column.kind == "bool":
            rules.append((f"typeof({name}) = 'integer' AND {name} NOT IN (0, 1)", "is neither true nor false"))
    elif column.kind == "float":
        rules.append((f"typeof({name}) NOT IN ('real', 'integer', 'null')", "is not a number"))
        if not target.infinity:
            rules.append((f"{name} IN (9e999, -9e999)", "is infinite"))
    return rules


def _texts(connection: sqlite3.Connection, table: TableColumns, column: Column, target: Target) -> Iterator[Refused]:
    """Texts that are not UTF-8, hold NUL or are too long.

    SQLite counts up to the first NUL only, hence the bytes.
    """
    if column.kind not in ("text", "json", "date", "blob"):
        return
    name = quoted(column.name)
    limits = [limit for limit in (column.limit, column.octets) if limit is not None]
    if column.kind == "blob":
        if column.octets is not None:
            for row, rowid, value in _rows(connection, table, column.name, f"length({name}) > {column.octets}"):
                yield _too_long(table, column, row, rowid, len(value), column.octets, "bytes")
        return
    conditions = [] if target.nul else [f"instr({name}, char(0))"]
    conditions += [f"length(CAST({name} AS BLOB)) > {min(limits)}"] if limits else []
    chosen = f"typeof({name}) = 'text' AND ({' OR '.join(conditions)})" if conditions else "false"
    for row, rowid, value in itertools.chain(
        _rows(connection, table, column.name, chosen), _undecoded(connection, table, column.name)
    ):
        if isinstance(value, bytes):
            yield Refused(table.name, column.name, row, "holds bytes that are no UTF-8 text", rowid=rowid)
            continue
        free = column.name in _FREE.get(table.name, ()) or _is_value(table.name, column.name, row)
        if "\0" in value and not target.nul:
            yield Refused(table.name, column.name, row, "holds the character NUL", free=free, rowid=rowid)
        octets = len(value.encode())
        if column.limit is not None and len(value) > column.limit:
            yield _too_long(table, column, row, rowid, len(value), column.limit, "characters", free=free)
        elif column.octets is not None and octets > column.octets:
            yield _too_long(table, column, row, rowid, octets, column.octets, "bytes", free=free)


def _undecoded(
    connection: sqlite3.Connection, table: TableColumns, column: str
) -> Iterator[tuple[dict[str, Any], int, Any]]:
    """Rows whose text is not UTF-8; SQLite's decoding shows first if there are any."""
    connection.text_factory = str
    query = f"SELECT {quoted(column)} FROM {quoted(table.name)} WHERE typeof({quoted(column)}) = 'text'"  # noqa: S608
    try:
        for _row in connection.execute(query):
            pass
    except sqlite3.OperationalError as error:
        if "Could not decode" not in str(error):
            raise
    else:
        return
    finally:
        connection.text_factory = _decoded
    for row, rowid, value in _rows(connection, table, column, f"typeof({quoted(column)}) = 'text'"):
        if isinstance(value, bytes):
            yield row, rowid, value


def _decoded(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _too_long(
    table: TableColumns, column: Column, row: Mapping[str, Any], rowid: int, length: int, limit: int, unit: str,
    *, free: bool = False,
) -> Refused:  # fmt: skip
    what = f"is longer than {limit} {unit} (it has {length})"
    return Refused(table.name, column.name, row, what, length, limit, unit, free, rowid)


def _is_value(table: str, column: str, row: Mapping[str, Any]) -> bool:
    value, key = _VALUES.get(table, ("", ""))
    name = str(row.get(key))
    return column == value and (not name.startswith("mlflow.") or name in _FREE_KEYS)


def _singles(connection: sqlite3.Connection, table: TableColumns, column: str) -> Iterator[Refused]:
    """Numbers that a FLOAT of MySQL, with 32 bits, would change."""
    for row, rowid, value in _rows(connection, table, column, f"typeof({quoted(column)}) IN ('real', 'integer')"):
        if not fits_single(float(value)):
            what = f"has the number {value!r}, of which MySQL stores the first digits only"
            yield Refused(table.name, column, row, what, rowid=rowid)


def _dangling(connection: sqlite3.Connection) -> list[Refused]:
    """References to missing rows, which SQLite checks only on request."""
    found = []
    for table, rowid, parent, number in connection.execute("PRAGMA foreign_key_check").fetchall():
        keys = connection.execute(f"PRAGMA foreign_key_list({quoted(table)})").fetchall()
        names = [key[3] for key in keys if key[0] == number]
        query = f"SELECT {listed(names)} FROM {quoted(table)} WHERE rowid = ?"  # noqa: S608
        values = connection.execute(query, (rowid,)).fetchone()
        row = {**dict(zip(names, values, strict=True)), "rowid": rowid}
        found.append(Refused(table, names[0], row, f"refers to a row of {parent} that is not there", rowid=rowid))
    return found


def _collisions(connection: sqlite3.Connection, table: TableColumns, same: Same) -> Iterator[Refused]:
    """Rows whose keys are equal in the target, which may ignore case or accents."""
    texts = {column.name for column in table.columns if column.kind == "text"}
    keys = _unique_keys(connection, table)
    groups = {}
    for name in sorted(texts & {name for key in keys for name in key}):
        query = f"SELECT DISTINCT {quoted(name)} FROM {quoted(table.name)} WHERE typeof({quoted(name)}) = 'text'"  # noqa: S608
        values = [value for (value,) in connection.execute(query) if isinstance(value, str)]
        if not all(map(_PLAIN.fullmatch, values)) and (equal := same(table.name, name, values)):
            groups[name] = equal
    for key in keys:
        if set(key) & set(groups):
            yield from _same_keys(connection, table, key, groups)


def _same_keys(
    connection: sqlite3.Connection, table: TableColumns, key: Sequence[str], groups: Mapping[str, Mapping[str, int]]
) -> Iterator[Refused]:
    first: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for values in connection.execute(f"SELECT {listed(key)} FROM {quoted(table.name)}"):  # noqa: S608
        if None in values or not any(value in groups.get(name, ()) for name, value in zip(key, values, strict=True)):
            continue
        folded = tuple(groups.get(name, {}).get(value, value) for name, value in zip(key, values, strict=True))
        other = first.setdefault(folded, values)
        if other is not values:
            column = next(n for n, a, b in zip(key, values, other, strict=True) if a != b)
            what = (
                f"is the same as {_shown(other[key.index(column)])!r} of another row there: only case or accents differ"
            )
            yield Refused(table.name, column, dict(zip(key, values, strict=True)), what)


def _unique_keys(connection: sqlite3.Connection, table: TableColumns) -> list[tuple[str, ...]]:
    keys = [table.key] if table.key else []
    for _number, index, unique, origin, _partial in connection.execute(f"PRAGMA index_list({quoted(table.name)})"):
        if unique and origin != "pk":
            keys.append(tuple(row[2] for row in connection.execute(f"PRAGMA index_info({quoted(index)})")))
    return keys


def _shown(value: Any) -> Any:
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return f"{text[:_SHOWN]}…" if isinstance(text, str) and len(text) > _SHOWN else text
