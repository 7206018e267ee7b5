"""What the tests of the database part share."""

from __future__ import annotations

import gzip
import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from mlflow_ae5_server.common.errors import SnapshotDamaged
from mlflow_ae5_server.database.connection import Database, check_uri
from mlflow_ae5_server.repository.blob_types import LIMIT, StoredBlob

from tests.project_template import mariadb

FIXTURES = Path(__file__).parents[1] / "fixtures"
OLD = {"2.6.0": "7f2a7d5fae7d", "2.22.0": "0584bdc529eb"}  # MLflow -> revision of its schema


class Objects:
    """A repository's objects, in memory. `on_call` is told how many calls there have been, before each."""

    def __init__(self, on_call: Callable[[int], None] = lambda _number: None) -> None:
        self.kept: dict[str, bytes] = {}
        self.calls = 0
        self.on_call = on_call

    def put(self, data: bytes | memoryview) -> StoredBlob:
        self._count()
        assert 0 < len(data) <= LIMIT
        name = hashlib.sha256(data).hexdigest()
        self.kept[name] = bytes(data)
        return StoredBlob(name, len(data))

    def get(self, sha256: str) -> bytes:
        self._count()
        if sha256 not in self.kept:
            raise SnapshotDamaged(f"the object {sha256} is missing")
        return self.kept[sha256]

    def _count(self) -> None:
        self.on_call(self.calls)
        self.calls += 1


def sqlite_database(file: Path) -> Database:
    return check_uri(f"sqlite:///{file}")


def old_database(version: str, folder: Path) -> Database:
    """A copy of the fixture."""
    file = folder / f"mlflow-{version}.sqlite"
    file.write_bytes(gzip.decompress((FIXTURES / f"{file.name}.gz").read_bytes()))
    return sqlite_database(file)


def execute(database: Database, *statements: str) -> None:
    """SQL, committed, on whatever `database` is."""
    if database.file is not None:
        with closing(sqlite3.connect(database.file)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()
        return
    if database.dialect == "mysql":
        mariadb.execute(database.uri, *statements)
        return
    import psycopg
    from mlflow_ae5_server.database.postgresql import connect_arguments

    with psycopg.connect(**connect_arguments(database), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)
