"""The columns of a table, as its database declares them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["int", "bool", "float", "text", "blob", "json", "date"]


@dataclass(frozen=True)
class Column:
    """A column. SQLite enforces none of the limits."""

    name: str
    kind: Kind
    limit: int | None = None  # characters that a text may have
    small: bool = False  # a number of 32 bits
    nullable: bool = True
    octets: int | None = None  # bytes that a text or a binary value may have


@dataclass(frozen=True)
class TableColumns:
    """A table and its columns in alphabetical order, without generated ones."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()  # the columns of its primary key

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
        """The positions of JSON columns."""
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


def limit_of(declared: str) -> int | None:
    """How many characters a declared type holds; None where it has no limit."""
    found = re.search(r"char[\w ]*\((\d+)\)", declared, re.I)
    return int(found[1]) if found else None
