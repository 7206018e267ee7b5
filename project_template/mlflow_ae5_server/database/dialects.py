"""Dump, load, compare and move the database of any dialect.

SQLite and PostgreSQL (psycopg 3) are tested against the real thing; MySQL against MariaDB, where the machine has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mlflow_ae5_server.common import progress
from mlflow_ae5_server.common.errors import Configuration
from mlflow_ae5_server.database import load as loading
from mlflow_ae5_server.database import mysql, portability, postgresql, sqlite
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.database.contents import DatabasePart, DatabaseState, Digests, TablePart
from mlflow_ae5_server.database.locks import in_use
from mlflow_ae5_server.database.portability import Refused
from mlflow_ae5_server.database.saved_copy import (
    bring_back,
    complete,
    drop_saved,
    require_free,
    save_copy,
    saved_names,
    scratch,
    settle,
)
from mlflow_ae5_server.repository.blob_types import BlobSink, BlobSource, StoredBlob

__all__ = [
    "DatabasePart",
    "DatabaseState",
    "Refused",
    "TablePart",
    "bring_back",
    "complete",
    "digests",
    "drop_saved",
    "dump",
    "expected",
    "in_use",
    "load",
    "refusal",
    "refused",
    "require_free",
    "require_sound",
    "save_copy",
    "saved_names",
    "scratch",
    "settle",
    "state",
]


class Dialect(Protocol):
    """The operations of one dialect, each a module of that name."""

    def dump(self, database: Database, objects: BlobSink) -> DatabasePart: ...

    def digests(self, database: Database) -> Digests: ...

    def state(self, database: Database) -> DatabaseState: ...


_DIALECTS: dict[str, Dialect] = {"sqlite": sqlite, "postgresql": postgresql, "mysql": mysql}


def _dialect(database: Database) -> Dialect:
    if database.dialect not in _DIALECTS:
        raise Configuration(
            f"snapshots of {database.dialect} databases are not supported", "use SQLite, PostgreSQL or MySQL"
        )
    return _DIALECTS[database.dialect]


def dump(database: Database, objects: BlobSink) -> DatabasePart:
    """Store one consistent state of MLflow's tables, while the server runs.

    Raises Unreachable, LoginFailed, SchemaMismatch, RepositoryFailed, SnapshotDamaged.
    """
    with progress.phase("read-database", "bytes") as phase:
        return _dialect(database).dump(database, _CountingSink(objects, phase))


class _CountingSink:
    def __init__(self, objects: BlobSink, phase: progress.Phase) -> None:
        self._objects, self._phase = objects, phase

    def put(self, data: bytes | memoryview) -> StoredBlob:
        stored = self._objects.put(data)
        self._phase.advance(len(data))
        return stored


def digests(target: Database) -> Digests:
    """Rows and canonical digest of each of MLflow's tables."""
    return _dialect(target).digests(target)


def state(target: Database) -> DatabaseState:
    """What `target` holds. A SQLite file that does not exist is empty."""
    return _dialect(target).state(target)


def load(part: DatabasePart, objects: BlobSource, target: Database, *, shorten: bool = False) -> Digests:
    """Load the rows of `part` into the empty `target`: all or nothing.

    Returns the digests that `target` has afterwards. shorten: shorten free text that does not fit.

    Raises TargetNotEmpty, SchemaMismatch (a newer schema than the installed MLflow's) and Configuration (something
    `target` cannot hold) before anything is written; SnapshotDamaged, Unreachable, LoginFailed, RepositoryFailed.
    """
    loading.require_supported(part)
    loading.require_empty(target, state(target))
    return loading.load(part, objects, target, shorten=shorten)


def expected(part: DatabasePart, objects: BlobSource, target: Database, *, shorten: bool) -> Digests:
    """The digests that a load of `part` leaves in `target`."""
    return loading.expected(part, objects, target, shorten=shorten)


def refused(part: DatabasePart, objects: BlobSource, target: Database) -> list[Refused]:
    """Every value of `part` that the dialect of `target` refuses."""
    loading.require_supported(part)
    return loading.refused(part, objects, target)


def refusal(found: Sequence[Refused], target: Database) -> Configuration:
    """The error for these values."""
    return portability.refusal(found, target.shown)


def require_sound(part: DatabasePart, objects: BlobSource) -> None:
    """Raise SnapshotDamaged where the rows in `objects` are not those of `part`."""
    loading.require_supported(part)
    loading.require_sound(part, objects)
