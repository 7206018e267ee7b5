"""SQLite files: read without changes, copied under a writer, moved at once."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mlflow_ae5_server.common import durable
from mlflow_ae5_server.common.errors import (
    Configuration,
    LoginFailed,
    ProjectError,
    RepositoryFailed,
    SnapshotDamaged,
    Unreachable,
)
from mlflow_ae5_server.common.work_folder import storage_errors
from mlflow_ae5_server.database.connection import Database

SIDE_FILES = ("-wal", "-shm", "-journal")
_WAIT = 30.0  # seconds for a writer to finish
_PAGES = 16384  # in one step of the backup; between two steps a writer gets its turn
_RESTARTS = 3  # by writers, of a backup; after so many they are locked out for the length of one copy


def file_of(database: Database) -> Path:
    if database.file is None:
        raise Configuration(f"{database.shown} is a database in memory, which ends with its process", "name a file")
    return database.file


@contextlib.contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot change anything. Raises our errors."""
    if not file.is_file():
        raise Unreachable(f"there is no database file {file}", "check MLFLOW_BACKEND_STORE_URI, and the volume")
    with translated(file):
        # With the right to write, SQLite first rolls back what a killed writer has left.
        uri = f"{file.absolute().as_uri()}?mode={'rw' if os.access(file, os.W_OK) else 'ro'}"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_WAIT, isolation_level=None)) as connection:
            connection.execute("PRAGMA query_only = ON")
            yield connection


@contextlib.contextmanager
def translated(file: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _meaning(error, file) from None


def _meaning(error: sqlite3.Error, file: Path) -> ProjectError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_FULL"):
        return RepositoryFailed(f"the disk of {file} is full", "free disk space there")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return SnapshotDamaged(f"{file} is not a valid SQLite database: {error}", "restore a snapshot of it")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Unreachable(f"{file} stayed locked by another process: {error}", "try again when it is less busy")
    if name.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_CANTOPEN")):
        return LoginFailed(f"{file} cannot be used: {error}", "give this account read and write permission there")
    if name.startswith("SQLITE_IOERR"):
        return Unreachable(
            f"{file} cannot be read or written: {error}",
            "check the volume it lies on, and that no quota of it is used up",
        )
    return Configuration(f"{file} cannot be used: {error}", "check MLFLOW_BACKEND_STORE_URI")


def backup(source: Path, copy: Path) -> None:
    """Make a consistent copy of a database while others write.

    Raises as `reading` does, and RepositoryFailed.

    While somebody reads, SQLite lets nobody write into the file itself (but in WAL mode, where changes lie beside it).
    So the file can be copied as a whole, which keeps writers out for a tenth of the time that SQLite's own backup
    takes, page by page. `cp`, because a process that closes the file loses the locks it has on it.
    """
    with reading(source) as connection, storage_errors(copy.parent):
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        if mode in {"delete", "truncate", "persist"}:
            copied = subprocess.run(["cp", "--", source, copy], capture_output=True, check=False)
            if copied.returncode == 0:
                copy.chmod(0o600)
                return
    page_by_page(source, copy)


def page_by_page(source: Path, copy: Path) -> None:
    """Copy by SQLite's backup API, which a writer makes start again.

    After some times writers are locked out.
    """
    left: list[int] = []

    def restarts(_status: int, remaining: int, _total: int) -> None:
        left.append(remaining)
        if sum(later > earlier for earlier, later in itertools.pairwise(left)) > _RESTARTS:
            raise _TooBusyError

    with reading(source) as connection, storage_errors(copy.parent), translated(copy):
        for pages in (_PAGES, -1):
            copy.unlink(missing_ok=True)
            with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as target:
                copy.chmod(0o600)
                target.execute("PRAGMA journal_mode=OFF")
                target.execute("PRAGMA synchronous=OFF")
                with contextlib.suppress(_TooBusyError):
                    connection.backup(target, pages=pages, progress=restarts if pages > 0 else None, sleep=0.01)
                    return


class _TooBusyError(Exception):
    pass


def publish(file: Path, target: Path) -> None:
    """Move a finished file to `target` in one step, also across a power cut."""
    with storage_errors(target.parent):
        durable.move(file, target)
