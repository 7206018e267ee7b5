"""One maintenance run at a time: garbage collection, schema upgrade and first initialisation exclude each other.

The lock lives where the data lives, so that it also holds between containers: an advisory lock in a PostgreSQL, MySQL
or SQL Server database (held by a connection, so it ends with the process, however that ends), a locked file beside a
SQLite database. A pooler in transaction mode (PgBouncer) does not keep PostgreSQL's lock; connect past it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mlflow_ae5_server.common.errors import BusyError, ConfigurationError, hint_for
from mlflow_ae5_server.database.checks import Database, connect_engine

_KEY = 0x6D6C666C6F77  # "mlflow"; PostgreSQL's advisory locks are per database, so it need not name one
_NAME = "mlflow-ae5-maintenance"
_TAKE = {
    "postgresql": f"SELECT pg_try_advisory_lock({_KEY})",
    "mysql": f"SELECT GET_LOCK(CONCAT('{_NAME}:', LEFT(MD5(DATABASE()), 16)), 0)",
    "mssql": (
        f"DECLARE @r int; EXEC @r = sp_getapplock @Resource = '{_NAME}', @LockMode = 'Exclusive', "
        "@LockOwner = 'Session', @LockTimeout = 0; SELECT CASE WHEN @r >= 0 THEN 1 ELSE 0 END"
    ),
}

# MySQL hangs up on who says nothing for that long; without this it may be minutes, and the lock ends with it.
STAY = "SET SESSION wait_timeout = 31536000"


@contextlib.contextmanager
def maintenance(
    database: Database,
    wait_seconds: float = 0,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the maintenance lock of `database`. Raises BusyError when another run holds it for `wait_seconds`."""
    with contextlib.ExitStack() as stack:
        take = _file_lock(database.file, stack) if database.dialect == "sqlite" else _database_lock(database, stack)
        deadline = clock() + wait_seconds
        while not take():
            if clock() >= deadline:
                raise BusyError(
                    f"another maintenance run (garbage collection or upgrade) is at work on {database.shown}",
                    "let it finish; nothing was changed by this one",
                )
            sleep(0.5)
        yield


def _file_lock(file: Path | None, stack: contextlib.ExitStack) -> Callable[[], bool]:
    if file is None:
        return lambda: True  # a database in memory has nobody to share it with
    path = file.with_name(file.name + ".maintenance.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"the lock file {path} cannot be made: {error.strerror}", hint_for(error)) from None
    stack.callback(os.close, descriptor)

    def take() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    return take


def _database_lock(database: Database, stack: contextlib.ExitStack) -> Callable[[], bool]:
    from sqlalchemy import text

    engine = connect_engine(database).execution_options(isolation_level="AUTOCOMMIT")
    connection = stack.enter_context(engine.connect())
    if database.dialect == "mysql":
        connection.execute(text(STAY))

    def take() -> bool:
        return bool(connection.execute(text(_TAKE[database.dialect])).scalar())

    return take
