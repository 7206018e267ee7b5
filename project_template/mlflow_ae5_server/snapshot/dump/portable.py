"""SQLite keeps any value in any column; other databases don't. What they would refuse is found before, and named."""

from __future__ import annotations

import sqlite3

from mlflow_ae5_server.errors import ConfigurationError
from mlflow_ae5_server.snapshot.dump.shape import Column, Shape, listed, quoted

_SMALL = 2**31


def check(connection: sqlite3.Connection, target: Shape, *, nul: bool = False) -> None:
    """Raises ConfigurationError naming table, column and row of the first value that is not of its declared type.

    `target` may be the table's shape in SQLite: MLflow declares the same types everywhere. nul: a text may have it.
    """
    for column in target.columns:
        for condition, what in _rules(column, nul):
            key = target.key or ("rowid",)
            query = f"SELECT {listed(key)} FROM {quoted(target.name)} WHERE {condition} LIMIT 1"  # noqa: S608
            if row := connection.execute(query).fetchone():
                where = ", ".join(f"{name}={value!r}" for name, value in zip(key, row, strict=True))
                raise ConfigurationError(
                    f"{target.name}.{column.name} {what}, which this kind of database cannot keep, in the row {where}",
                    "change or remove that value in the original, and take a new snapshot; or restore into SQLite",
                )


def _rules(column: Column, nul: bool) -> list[tuple[str, str]]:
    name = quoted(column.name)
    rules = [] if column.nullable else [(f"{name} IS NULL", "is NULL")]
    if column.kind in ("text", "json", "date"):
        rules.append((f"typeof({name}) = 'blob'", "holds bytes that are no text"))
        if not nul:
            rules.append((f"instr({name}, char(0))", "holds the character NUL"))
        if column.limit:
            rules.append((f"length({name}) > {column.limit}", f"is longer than {column.limit} characters"))
    elif column.kind in ("int", "bool"):
        rules.append((f"typeof({name}) NOT IN ('integer', 'null')", "is not a whole number"))
        if column.small and column.name != "id":  # of the rollups, whose numbers have 64 bits elsewhere
            rules.append((f"{name} NOT BETWEEN -{_SMALL} AND {_SMALL - 1}", "is too large a number"))
        if column.kind == "bool":
            rules.append((f"{name} NOT IN (0, 1)", "is neither true nor false"))
    elif column.kind == "float":
        rules.append((f"typeof({name}) NOT IN ('real', 'integer', 'null')", "is not a number"))
    return rules
