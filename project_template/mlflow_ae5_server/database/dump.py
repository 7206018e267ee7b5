"""Dump and compare the database of any dialect.

SQLite and PostgreSQL (psycopg 3) are tested against the real thing; MySQL against MariaDB, where the machine has one.
"""

from __future__ import annotations

from typing import Protocol

from mlflow_ae5_server.common import progress
from mlflow_ae5_server.common.errors import Configuration
from mlflow_ae5_server.database import mysql, postgresql, sqlite
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.database.contents import DatabasePart, DatabaseState, Digests
from mlflow_ae5_server.repository.blob_types import BlobSink, StoredBlob


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
