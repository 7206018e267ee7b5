"""Locks on a database: one maintenance run at a time, and the server's mark.

They live where the data lives, so they also hold between containers, and end with their process, however that ends.
SQLite: locked files beside it. PostgreSQL: an advisory lock of a connection; the server is known by the
`application_name` of its connections. MySQL: named locks of a connection. SQL Server: an application lock. A pooler in
transaction mode (PgBouncer) does not hold PostgreSQL's lock; connect past it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_ae5_server.common.errors import Configuration, Locked, hint_for
from mlflow_ae5_server.database.connection import Database, connect_engine, wait_until_ready

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# MySQL closes a connection that is silent for that long; without this it may be minutes, and the lock ends with it.
STAY = "SET SESSION wait_timeout = 31536000"

_KEY = 0x6D6C666C6F77  # "mlflow"; PostgreSQL's advisory locks are per database, so it need not name one
_MAINTENANCE = "mlflow-ae5-maintenance"
_TAKE = {
    "postgresql": f"SELECT pg_try_advisory_lock({_KEY})",
    "mysql": f"SELECT GET_LOCK(CONCAT('{_MAINTENANCE}:', LEFT(MD5(DATABASE()), 16)), 0)",
    "mssql": (
        f"DECLARE @r int; EXEC @r = sp_getapplock @Resource = '{_MAINTENANCE}', @LockMode = 'Exclusive', "
        "@LockOwner = 'Session', @LockTimeout = 0; SELECT CASE WHEN @r >= 0 THEN 1 ELSE 0 END"
    ),
}
# These name the schema, so that a server on a scratch schema does not count as one on the real tables.
_SERVER = "mlflow-ae5-server"
_MYSQL_SERVER = f"CONCAT('{_SERVER}:', LEFT(MD5(DATABASE()), 16))"
# PostgreSQL keeps 63 bytes of it, and replaces what is not ASCII.
_POSTGRESQL_SERVER = f"SELECT '{_SERVER} ' || coalesce(left(md5(current_schema()), 16), 'without a schema')"


@contextlib.contextmanager
def maintenance(
    database: Database,
    wait_seconds: float = 0,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the maintenance lock of `database`.

    Raises Locked when another run holds it for `wait_seconds`.
    """
    with contextlib.ExitStack() as stack:
        take = _file_lock(database.file, stack) if database.dialect == "sqlite" else _database_lock(database, stack)
        deadline = clock() + wait_seconds
        while not take():
            if clock() >= deadline:
                raise Locked(
                    "another job (backup, restore, garbage collection, upgrade) or a starting server uses "
                    f"{database.shown}",
                    "wait until it has finished; this run has changed nothing",
                )
            sleep(0.5)
        yield


def _file_lock(file: Path | None, stack: contextlib.ExitStack) -> Callable[[], bool]:
    if file is None:
        return lambda: True  # a database in memory has no other users
    path = file.with_name(file.name + ".maintenance.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Configuration(f"the lock file {path} cannot be made: {error.strerror}", hint_for(error)) from None
    stack.callback(os.close, descriptor)
    return lambda: _flock(descriptor)


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _database_lock(database: Database, stack: contextlib.ExitStack) -> Callable[[], bool]:
    from sqlalchemy import text

    connection = _held_connection(database, stack)
    return lambda: bool(connection.execute(text(_TAKE[database.dialect])).scalar())


def _held_connection(database: Database, stack: contextlib.ExitStack) -> Connection:
    from sqlalchemy import text

    engine = connect_engine(database).execution_options(isolation_level="AUTOCOMMIT")
    connection = stack.enter_context(engine.connect())
    if database.dialect == "mysql":
        connection.execute(text(STAY))
    return connection


# the tracking server's mark ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(database: Database) -> Iterator[None]:
    """Mark `database` as used by a server, while this process and its forks live.

    Sets PGAPPNAME for later connections. Where the mark fails (no write permission in the folder, a pooler that has no
    more connections), the server runs all the same.
    """
    with contextlib.ExitStack() as stack:
        if database.file is not None:
            with contextlib.suppress(OSError):
                descriptor = os.open(_server_file(database.file), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_SH)  # `in_use` holds it for an instant
        elif database.dialect in {"postgresql", "mysql"}:
            _mark_by_connection(database, stack)
        yield


def _server_file(file: Path) -> Path:
    return file.with_name(file.name + ".server.lock")


def _mark_by_connection(database: Database, stack: contextlib.ExitStack) -> None:
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    with contextlib.suppress(SQLAlchemyError):
        connection = _held_connection(database, stack)
        if database.dialect == "mysql":
            connection.execute(text(f"SELECT GET_LOCK({_MYSQL_SERVER}, 0)"))
            return
        name = connection.execute(text(_POSTGRESQL_SERVER)).scalar_one()
        connection.execute(text("SELECT set_config('application_name', :name, false)"), {"name": name})
        os.environ["PGAPPNAME"] = name
        _close_in_forks(connection.connection.fileno())


def _close_in_forks(descriptor: int) -> None:
    """Have workers close their copy of the parent's connection."""
    inode, parent = os.fstat(descriptor).st_ino, os.getpid()

    def close() -> None:
        with contextlib.suppress(OSError):
            if os.getppid() == parent and os.fstat(descriptor).st_ino == inode:
                os.close(descriptor)

    os.register_at_fork(after_in_child=close)


def in_use(database: Database) -> str | None:
    """The tracking server that uses `database`, in words; None if there is none.

    Raises Unreachable, LoginFailed, Configuration.
    """
    if database.dialect == "sqlite":
        return _file_in_use(database.file)
    if database.dialect not in {"postgresql", "mysql"}:
        return None
    wait_until_ready(database, 0)  # raises our errors
    return _connection_in_use(database)


def _file_in_use(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        descriptor = os.open(_server_file(file), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return None if _flock(descriptor) else f"a tracking server (it holds {_server_file(file).name})"
    finally:
        os.close(descriptor)


def _connection_in_use(database: Database) -> str | None:
    from sqlalchemy import text

    with connect_engine(database).connect() as connection:
        if database.dialect == "mysql":
            holder = connection.execute(text(f"SELECT IS_USED_LOCK({_MYSQL_SERVER})")).scalar()
            return None if holder is None else f"a tracking server (connection {holder})"
        name = connection.execute(text(_POSTGRESQL_SERVER)).scalar_one()
        query = (
            "SELECT count(*), min(backend_start)::timestamp(0), min(coalesce(host(client_addr), 'this machine')) "
            "FROM pg_stat_activity WHERE datname = current_database() AND application_name = :name"
        )
        count, since, address = connection.execute(text(query), {"name": name}).one()
    return f"a tracking server on {address}, connected since {since} ({count} connections)" if count else None
