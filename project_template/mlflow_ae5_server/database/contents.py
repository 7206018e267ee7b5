"""What a snapshot holds of a database, and what a database holds."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from mlflow_ae5_server.common.errors import ANOTHER_SNAPSHOT, SnapshotDamaged
from mlflow_ae5_server.common.text import counted, shown
from mlflow_ae5_server.database import schema
from mlflow_ae5_server.repository.blob_types import is_digest

Digests = dict[str, tuple[int, str]]
"""Rows and canonical digest (see digests.py) of each table."""

_REVISION = re.compile(r"[0-9a-f]{1,40}")  # as alembic makes them up
_TEXT = re.compile(r".{1,300}")
DELETED_RUNS = "SELECT count(*) FROM runs WHERE lifecycle_stage = 'deleted'"
DIALECTS = ("sqlite", "postgresql", "mysql")


@dataclass(frozen=True)
class TablePart:
    name: str
    rows: int
    digest: str  # canonical (see digests.py): the same on every dialect for the same rows
    objects: tuple[str, ...] = ()  # blobs of its rows as COPY text, in order; none for SQLite: its file is stored
    columns: tuple[str, ...] = ()  # in the order of that text


@dataclass(frozen=True)
class DatabasePart:
    """The database of a snapshot."""

    dialect: str
    server: str  # the version of the database itself
    revision: str  # of MLflow's schema
    tables: tuple[TablePart, ...]
    file: tuple[str, ...] = ()  # blobs of the whole SQLite file, in order; none for other dialects
    others: tuple[str, ...] = ()  # other tables and views: not in the snapshot, except within a whole SQLite file
    deleted_runs: int = 0  # marked by users; the next garbage collections delete their rows

    @property
    def rows(self) -> int:
        """Without that of the schema's revision, as in DatabaseState."""
        return sum(table.rows for table in self.tables if table.name != schema.VERSION_TABLE)

    @property
    def runs(self) -> int:
        """Active and deleted ones."""
        return next((table.rows for table in self.tables if table.name == "runs"), 0)

    @property
    def contents(self) -> str:
        """For a person."""
        return f"{counted(self.rows, 'rows')} in {counted(len(self.tables), 'tables')}"

    def objects(self) -> Iterator[str]:
        """The SHA-256 of every blob of this part; one may come twice."""
        yield from self.file
        for table in self.tables:
            yield from table.objects

    def digests(self) -> Digests:
        return {table.name: (table.rows, table.digest) for table in self.tables}

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return {**data, "others": [shown(name)[:300] for name in self.others]}

    @classmethod
    def from_json(cls, data: object) -> DatabasePart:
        """Raise SnapshotDamaged for anything that `to_json` does not write."""
        fields = _fields(data, {field.name for field in dataclasses.fields(cls)}, "the database part")
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
            deleted_runs=_number(fields["deleted_runs"], "of deleted runs"),
        )
        names = [table.name for table in part.tables]
        if part.dialect not in DIALECTS or len(set(names)) != len(names):
            raise _damaged("its dialect is unknown, or a table is named twice")
        if part.deleted_runs > part.runs:
            raise _damaged("more runs are deleted than there are")
        if (part.dialect == "sqlite") != bool(part.file) or (part.file and any(t.objects for t in part.tables)):
            raise _damaged("a whole file is stored for SQLite, and only for SQLite")
        return part


@dataclass(frozen=True)
class DatabaseState:
    """What a target holds."""

    kind: Literal["empty", "ours", "foreign"]
    """empty: no table of MLflow's. ours: its tables, at a schema revision that the installed MLflow has; some may be
    missing. foreign: tables only named as MLflow's, or those of a newer MLflow, or a file that is no database."""
    tables: tuple[str, ...] = ()  # those named as MLflow's
    rows: int = 0
    revision: str | None = None
    others: tuple[str, ...] = ()  # every other table and view


def state_of(own: Iterable[str], others: Iterable[str], revision: str | None, rows: int) -> DatabaseState:
    """The state of a database with these tables."""
    tables, rest = tuple(sorted(own)), tuple(sorted(others))
    if not tables or (tables == (schema.VERSION_TABLE,) and revision is None):
        return DatabaseState("empty", tables, 0, None, rest)
    # complete or not: a migration may have been interrupted
    ours = revision is not None and schema.is_supported(revision)
    return DatabaseState("ours" if ours else "foreign", tables, rows, revision, rest)


def _table(data: object) -> TablePart:
    fields = _fields(data, {"name", "rows", "digest", "objects", "columns"}, "a table")
    return TablePart(
        name=_text(fields["name"], "name"),
        rows=_number(fields["rows"], "of rows"),
        digest=_digests([fields["digest"]], "digest")[0],
        objects=_digests(fields["objects"], "objects"),
        columns=_texts(fields["columns"], "columns"),
    )


def _fields(data: object, names: set[str], what: str) -> dict[str, Any]:
    if not isinstance(data, dict) or set(data) != names:
        raise _damaged(f"{what} does not have the fields {', '.join(sorted(names))}")
    return data


def _number(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise _damaged(f"a number {what} is not a number")
    return value


def _text(value: object, what: str, pattern: re.Pattern[str] = _TEXT) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value) or not value.isprintable():
        raise _damaged(f"{what} is not a text of its kind")
    return value


def _texts(value: object, what: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _damaged(f"{what} is not a list")
    return tuple(_text(entry, what) for entry in value)


def _digests(value: object, what: str) -> tuple[str, ...]:
    digests = _texts(value, what)
    if not all(map(is_digest, digests)):
        raise _damaged(f"{what} is not a SHA-256")
    return digests


def _damaged(what: str) -> SnapshotDamaged:
    return SnapshotDamaged(f"the manifest's description of the database is malformed: {what}", ANOTHER_SNAPSHOT)
