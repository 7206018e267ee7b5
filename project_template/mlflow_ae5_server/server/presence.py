"""Is a server of this project at work on a database? The server leaves a mark that ends with its processes.

SQLite: a shared lock on a file beside it. PostgreSQL: the `application_name` of its connections, one of which is held
for as long as it runs. MySQL: a named lock of such a connection. The mark names the schema, so that a server on a
scratch schema is not taken for one on the real tables.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mlflow_ae5_server.common.locks import STAY
from mlflow_ae5_server.database.checks import Database, connect_engine, wait_until_ready

_NAME = "mlflow-ae5-server"
_MYSQL_LOCK = f"CONCAT('{_NAME}:', LEFT(MD5(DATABASE()), 16))"

# PostgreSQL keeps 63 bytes of it, and replaces what is not ASCII.
_POSTGRESQL_NAME = f"SELECT '{_NAME} ' || coalesce(left(md5(current_schema()), 16), 'without a schema')"


def _lock_file(file: Path) -> Path:
    return file.with_name(file.name + ".server.lock")


@contextlib.contextmanager
def serving(database: Database) -> Iterator[None]:
    """Be known as a server on `database` for as long as this process and its forks live.

    Sets PGAPPNAME for the connections that are made afterwards. What cannot be marked (a folder without write
    permission, a pooler that has no more connections) is served all the same.
    """
    with contextlib.ExitStack() as stack:
        if database.dialect == "sqlite":
            _hold_file(database.file, stack)
        elif database.dialect in {"postgresql", "mysql"}:
            _hold_connection(database, stack)
        yield


def _hold_file(file: Path | None, stack: contextlib.ExitStack) -> None:
    if file is None:
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(_lock_file(file), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # somebody who just looks has it for an instant


def _hold_connection(database: Database, stack: contextlib.ExitStack) -> None:
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    with contextlib.suppress(SQLAlchemyError):
        engine = connect_engine(database).execution_options(isolation_level="AUTOCOMMIT")
        connection = stack.enter_context(engine.connect())
        if database.dialect == "mysql":
            connection.execute(text(STAY))
            connection.execute(text(f"SELECT GET_LOCK({_MYSQL_LOCK}, 0)"))
            return
        name = connection.execute(text(_POSTGRESQL_NAME)).scalar_one()
        connection.execute(text("SELECT set_config('application_name', :name, false)"), {"name": name})
        os.environ["PGAPPNAME"] = name
        _keep_from_forks(connection.connection.fileno())


def _keep_from_forks(descriptor: int) -> None:
    """A worker shall have no part in the connection of its parent."""
    inode, ours = os.fstat(descriptor).st_ino, os.getpid()

    def close() -> None:
        with contextlib.suppress(OSError):
            if os.getppid() == ours and os.fstat(descriptor).st_ino == inode:
                os.close(descriptor)

    os.register_at_fork(after_in_child=close)


def in_use(database: Database) -> str | None:
    """Who serves on `database`, in words for a person; None where no server of this project does.

    Raises UnreachableError, CredentialsError, ConfigurationError.
    """
    if database.dialect == "sqlite":
        return _file_in_use(database.file)
    if database.dialect not in {"postgresql", "mysql"}:
        return None
    wait_until_ready(database, 0)  # whose errors are ours
    return _connection_in_use(database)


def _connection_in_use(database: Database) -> str | None:
    from sqlalchemy import text

    with connect_engine(database).connect() as connection:
        if database.dialect == "mysql":
            holder = connection.execute(text(f"SELECT IS_USED_LOCK({_MYSQL_LOCK})")).scalar()
            return None if holder is None else f"a tracking server (connection {holder})"
        name = connection.execute(text(_POSTGRESQL_NAME)).scalar_one()
        query = (
            "SELECT count(*), min(backend_start)::timestamp(0), min(coalesce(host(client_addr), 'this machine')) "
            "FROM pg_stat_activity WHERE datname = current_database() AND application_name = :name"
        )
        count, since, address = connection.execute(text(query), {"name": name}).one()
    return f"a tracking server on {address}, connected since {since} ({count} connections)" if count else None


def _file_in_use(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        descriptor = os.open(_lock_file(file), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return f"a tracking server (it holds {_lock_file(file).name})"
    finally:
        os.close(descriptor)
    return None
