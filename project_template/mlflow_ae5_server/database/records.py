"""What is known of a dumped database, and of a database a dump could go to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from mlflow_ae5_server.common.errors import DamagedError
from mlflow_ae5_server.common.text import shown

_DIGEST = re.compile(r"[0-9a-f]{64}")
_REVISION = re.compile(r"[0-9a-f]{1,40}")  # as alembic makes them up
_TEXT = re.compile(r".{1,300}")
DIALECTS = ("sqlite", "postgresql", "mysql")


@dataclass(frozen=True)
class TablePart:
    """One table. `digest` is canonical (see digests.py): the same on every dialect for the same rows.

    `objects` are the chunks of the table's stream (COPY text, the columns in the order of `columns`), in order.
    Empty for SQLite, whose whole file is kept, and for a table without rows.
    """

    name: str
    rows: int
    digest: str
    objects: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "rows": self.rows,
            "digest": self.digest,
            "objects": list(self.objects),
            "columns": list(self.columns),
        }


@dataclass(frozen=True)
class DatabasePart:
    """The database of a snapshot. `server` is the version of the database itself, `revision` that of MLflow's schema.

    `file` are the chunks of the whole SQLite file, in order; () for other dialects. `others` are tables, views and
    foreign tables found beside MLflow's own. They are nobody's business here: not digested, not in the snapshot, but
    that a SQLite file is kept, and comes back as SQLite, whole.
    """

    dialect: str
    server: str
    revision: str
    tables: tuple[TablePart, ...]
    file: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    def objects(self) -> Iterator[str]:
        """The SHA-256 of every object this part needs; one may come twice."""
        yield from self.file
        for table in self.tables:
            yield from table.objects

    def digests(self) -> dict[str, tuple[int, str]]:
        """As `digests()` of a database: rows and canonical digest per table."""
        return {table.name: (table.rows, table.digest) for table in self.tables}

    def to_json(self) -> dict[str, Any]:
        return {
            "dialect": self.dialect,
            "server": self.server,
            "revision": self.revision,
            "tables": [table.to_json() for table in self.tables],
            "file": list(self.file),
            "others": [shown(name)[:300] for name in self.others],
        }

    @classmethod
    def from_json(cls, data: object) -> DatabasePart:
        """Strict: whatever is not exactly what `to_json` writes is a DamagedError."""
        fields = _fields(data, {"dialect", "server", "revision", "tables", "file", "others"}, "the database part")
        tables = fields["tables"]
        if not isinstance(tables, list):
            raise _damaged("its tables are not a list")
        part = cls(
            dialect=_text(fields["dialect"], "dialect"),
            server=_text(fields["server"], "server"),
            revision=_text(fields["revision"], "revision", _REVISION),
            tables=tuple(_table(entry) for entry in tables),
            file=_digests(fields["file"], "file"),
            others=_texts(fields["others"], "others"),
        )
        names = [table.name for table in part.tables]
        if part.dialect not in DIALECTS or len(set(names)) != len(names):
            raise _damaged("its dialect is unknown, or a table is named twice")
        if (part.dialect == "sqlite") != bool(part.file) or (part.file and any(t.objects for t in part.tables)):
            raise _damaged("a whole file is kept for SQLite, and only for SQLite")
        return part


@dataclass(frozen=True)
class DatabaseState:
    """What a target holds. `kind`:

    "empty"    no table of MLflow's (there may be others)
    "ours"     MLflow's tables, at a schema revision the installed MLflow knows; some may be missing
    "foreign"  tables named as MLflow's that are not, or are of an MLflow newer than the installed one, or a file
               that is no database

    `tables` are those named as MLflow's, `others` everything beside them.
    """

    kind: Literal["empty", "ours", "foreign"]
    tables: tuple[str, ...] = ()
    rows: int = 0
    revision: str | None = None
    others: tuple[str, ...] = ()


def _table(data: object) -> TablePart:
    fields = _fields(data, {"name", "rows", "digest", "objects", "columns"}, "a table")
    rows = fields["rows"]
    if type(rows) is not int or not 0 <= rows < 2**63:
        raise _damaged("a number of rows is not a number")
    return TablePart(
        name=_text(fields["name"], "name"),
        rows=rows,
        digest=_digests([fields["digest"]], "digest")[0],
        objects=_digests(fields["objects"], "objects"),
        columns=_texts(fields["columns"], "columns"),
    )


def _fields(data: object, names: set[str], what: str) -> dict[str, Any]:
    if not isinstance(data, dict) or set(data) != names:
        raise _damaged(f"{what} does not have the fields {', '.join(sorted(names))}")
    return data


def _text(value: object, what: str, pattern: re.Pattern[str] = _TEXT) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value) or not value.isprintable():
        raise _damaged(f"{what} is not a text of its kind")
    return value


def _texts(value: object, what: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _damaged(f"{what} is not a list")
    return tuple(_text(entry, what) for entry in value)


def _digests(value: object, what: str) -> tuple[str, ...]:
    found = _texts(value, what)
    for entry in found:
        if not _DIGEST.fullmatch(entry):
            raise _damaged(f"{what} is not a SHA-256")
    return found


def _damaged(what: str) -> DamagedError:
    return DamagedError(f"the manifest's description of the database makes no sense: {what}", "use another snapshot")
