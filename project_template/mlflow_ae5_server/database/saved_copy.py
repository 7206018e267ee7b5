"""Saved copies of a database, which can be brought back; and an empty scratch database next to the real one.

SQLite: the file is renamed. PostgreSQL: MLflow's tables move into a schema of their own, in one transaction; views on
them follow them, and everything else stays. MySQL: into a database of their own; see mysql_saved_copy.py.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow_ae5_server.common.errors import Configuration, TargetInUse, TargetNotEmpty, Usage
from mlflow_ae5_server.common.work_folder import storage_errors, work_folder
from mlflow_ae5_server.database import mysql_saved_copy, postgresql, schema, sqlite, sqlite_file
from mlflow_ae5_server.database.columns import listed, quoted
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.database.mysql_saved_copy import SAVED, SCRATCH

_STOP = "stop every program that uses that database"
_LIST = "see `restore --list-saved`"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


def save_copy(target: Database, name: str) -> None:
    """Move what `target` holds to the saved copy `name` (at most 40 letters, digits, - and _), in one step.

    A SQLite file that does not exist is not saved, and cannot be brought back. Raises TargetNotEmpty (there is such a
    copy), TargetInUse, LoginFailed.
    """
    _require_name(name)
    if target.dialect == "sqlite":
        _save_file(sqlite_file.file_of(target), name)
    elif target.dialect == "mysql":
        mysql_saved_copy.save_copy(target, name)
    else:
        with _altering(target) as cursor:
            copy = SAVED + name
            if _exists(cursor, copy):
                raise TargetNotEmpty(f"{target.shown} has a saved copy {name} already", "use another name")
            cursor.execute(f"CREATE SCHEMA {quoted(copy)}")
            for table in _tables(cursor, None):
                cursor.execute(f"ALTER TABLE {quoted(table)} SET SCHEMA {quoted(copy)}")


def bring_back(target: Database, name: str) -> None:
    """Move the tables of the saved copy `name` back, in one step. What `target` holds now is deleted."""
    _require_name(name)
    if target.dialect == "sqlite":
        _bring_file_back(sqlite_file.file_of(target), name)
    elif target.dialect == "mysql":
        mysql_saved_copy.bring_back(target, name)
    else:
        with _altering(target) as cursor:
            copy = SAVED + name
            if not _exists(cursor, copy):
                raise Configuration(f"{target.shown} has no saved copy {name}", _LIST)
            if present := _tables(cursor, None):
                cursor.execute(f"DROP TABLE {listed(present)}")
            cursor.execute("SELECT current_schema()")
            here = cursor.fetchone()[0]
            for table in _tables(cursor, copy):
                cursor.execute(f"ALTER TABLE {quoted(copy)}.{quoted(table)} SET SCHEMA {quoted(here)}")
            cursor.execute(f"DROP SCHEMA {quoted(copy)}")


def drop_saved(target: Database, name: str) -> None:
    """Delete the saved copy `name`, where there is one."""
    _require_name(name)
    if target.dialect == "sqlite":
        file = _copy_file(sqlite_file.file_of(target), name)
        with storage_errors(file.parent):
            file.unlink(missing_ok=True)
    elif target.dialect == "mysql":
        mysql_saved_copy.drop_saved(target, name)
    else:
        with _altering(target) as cursor:
            copy = SAVED + name
            if _exists(cursor, copy):
                if tables := _tables(cursor, copy):
                    every = ", ".join(f"{quoted(copy)}.{quoted(table)}" for table in tables)
                    cursor.execute(f"DROP TABLE {every}")
                cursor.execute(f"DROP SCHEMA {quoted(copy)}")


def saved_names(target: Database) -> tuple[str, ...]:
    """The names of the saved copies."""
    if target.dialect == "sqlite":
        file = sqlite_file.file_of(target)
        start = f"{file.name}.{SAVED}"
        return tuple(sorted(f.name.removeprefix(start) for f in file.parent.iterdir() if f.name.startswith(start)))
    if target.dialect == "mysql":
        return mysql_saved_copy.saved_names(target)
    _require_postgresql(target)
    with postgresql.connected(target) as connection, connection.cursor() as cursor:
        return tuple(sorted(name.removeprefix(SAVED) for name in _schemas(cursor, SAVED)))


def _save_file(file: Path, name: str) -> None:
    copy = _copy_file(file, name)
    if copy.exists():
        raise TargetNotEmpty(f"{copy} exists already", "use another name")
    if file.exists():
        _settle(file)
        sqlite_file.publish(file, copy)


def _bring_file_back(file: Path, name: str) -> None:
    copy = _copy_file(file, name)
    if not copy.exists():
        raise Configuration(f"there is no {copy}", _LIST)
    if file.exists():
        _settle(file)
    sqlite_file.publish(copy, file)


def require_free(target: Database) -> None:
    """Raise TargetInUse where somebody holds a lock on a SQLite file. Changes nothing.

    In other databases the transaction that moves the tables finds locks.
    """
    if target.dialect != "sqlite":
        return
    file = sqlite_file.file_of(target)
    if file.exists():
        with contextlib.suppress(sqlite3.DatabaseError), _connect(file) as connection:  # another file has no locks
            _require_no_lock(connection, file)


def settle(target: Database) -> None:
    """Bring a SQLite file into a state in which it can be moved. Raises TargetInUse."""
    if target.dialect == "sqlite" and (file := sqlite_file.file_of(target)).exists():
        _settle(file)


def complete(target: Database) -> None:
    """Finish what a process that was killed after it had moved tables has left; only on MySQL there is anything."""
    if target.dialect == "mysql":
        mysql_saved_copy.complete(target)


def _settle(file: Path) -> None:
    """Have SQLite bring everything into the one file: the log, and what a crash has left next to it.

    SQLite deletes the journal that stays for the next writer (journal_mode TRUNCATE or PERSIST) when the mode is left
    and nobody writes.
    """
    with contextlib.suppress(sqlite3.DatabaseError), _connect(file) as connection:  # another file is moved as it is
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        _require_no_lock(connection, file)
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode=PERSIST").fetchone()
            connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    if left := [file.name + side for side in sqlite_file.SIDE_FILES if file.with_name(file.name + side).exists()]:
        raise TargetInUse(
            f"{file} is in use, or a change to it was interrupted: {', '.join(left)} belongs to it",
            f"{_STOP}; if there is none, move these files together with it",
        )


def _connect(file: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(file, timeout=2, isolation_level=None))


def _require_no_lock(connection: sqlite3.Connection, file: Path) -> None:
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if (getattr(error, "sqlite_errorname", "") or "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise TargetInUse(f"{file} is in use: another program holds a lock on it", _STOP) from None
        raise
    connection.execute("ROLLBACK")


def _copy_file(file: Path, name: str) -> Path:
    return file.with_name(f"{file.name}.{SAVED}{name}")


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Usage(f"{name!r} cannot be the name of a saved copy", "use letters, digits, - and _")


def _require_postgresql(target: Database) -> None:
    if target.dialect != "postgresql":
        raise Configuration(
            f"a {target.dialect} database can neither move its tables in one step nor hold a scratch database",
            "restore into another, empty database",
        )


@contextlib.contextmanager
def _altering(target: Database) -> Iterator[Any]:
    """One transaction, given up after a while when another one locks a table."""
    _require_postgresql(target)
    with postgresql.connected(target) as connection, connection.transaction(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '10s'")
        yield cursor


def _schemas(cursor: Any, start: str) -> list[str]:
    cursor.execute("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", [start])
    return [row[0] for row in cursor.fetchall()]


def _exists(cursor: Any, name: str) -> bool:
    cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [name])
    return cursor.fetchone() is not None


def _tables(cursor: Any, where: str | None) -> list[str]:
    """MLflow's tables in a schema; in the current one for None."""
    cursor.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = coalesce(%s, current_schema()) AND c.relkind IN ('r', 'p') AND c.relname = ANY(%s) "
        "ORDER BY 1",
        [where, list(schema.all_tables())],
    )
    return [row[0] for row in cursor.fetchall()]


@contextlib.contextmanager
def scratch(target: Database) -> Iterator[Database]:
    """An empty database next to `target`, deleted afterwards. Also deletes those of killed processes."""
    if target.dialect == "sqlite":
        parent = sqlite_file.file_of(target).parent
        with work_folder(parent if parent.is_dir() else None) as folder:
            file = folder / "scratch.sqlite"
            uri = sqlite.uri_for(file)
            yield replace(target, uri=uri, shown=uri, file=file)
        return
    if target.dialect == "mysql":
        with mysql_saved_copy.scratch(target) as target_file:
            yield target_file
        return
    _require_postgresql(target)
    name = SCRATCH + secrets.token_hex(4)
    with postgresql.connected(target) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        # The lock shows the others that the schema is not left over from a killed process.
        cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [name])
        for old in _schemas(cursor, SCRATCH):
            _drop_if_left(cursor, old)
        cursor.execute(f"CREATE SCHEMA {quoted(name)}")
        try:
            yield _within(target, name)
        finally:
            cursor.execute(f"DROP SCHEMA IF EXISTS {quoted(name)} CASCADE")


def _drop_if_left(cursor: Any, name: str) -> None:
    cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name])
    if cursor.fetchone()[0]:
        cursor.execute(f"DROP SCHEMA IF EXISTS {quoted(name)} CASCADE")
        cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])


def _within(target: Database, name: str) -> Database:
    """`target` with the search path `name` alone, and the other options of its URI."""
    from sqlalchemy.engine import make_url

    options = make_url(target.uri).query.get("options", "")
    given = options if isinstance(options, str) else " ".join(options)
    start, _mark, query = target.uri.partition("?")
    others = [part for part in query.split("&") if part and not part.startswith("options=")]
    others.append("options=" + quote(f"{given} -csearch_path={name}".strip(), safe=""))
    return replace(target, uri=f"{start}?{'&'.join(others)}", shown=f"{target.shown} (schema {name})")
