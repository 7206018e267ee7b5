"""How many requests may use the database at once, on how many connections.

Both follow from the limit of its server.

A request of MLflow may hold a connection while it asks for the next: `DEPTH` at most, all for the same thread. So when
`n` threads share a pool of n x (DEPTH - 1) + 1, one of them always gets what it asks for, ends, and makes room: there
is no deadlock. The threads of a worker are those of its requests and its event loop, on which MLflow takes in traces.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from mlflow_ae5_server.database.connection import Database, connect_engine

DEPTH = 4  # `log_batch` with the tag of the run's name (MLflow 3.17.2); nothing else holds more than two
MOST = 8  # requests at once in one worker: more of them only take the interpreter from each other
ON_SQLITE = 4  # in all workers together: one writes, and too many that wait for it are served in no order
UNKNOWN = 100  # connections of a server that does not report its limit: PostgreSQL's default
_SHARE = 2  # a server takes one part in two at most: jobs, drills and other users of the database have the rest
_POOL, _OVERFLOW, _DEFAULT_OVERFLOW = "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", 10


@dataclass(frozen=True)
class Capacity:
    """The sizes of a server."""

    workers: int
    working: int  # requests that use the database at once, in each worker
    connections: int  # at most, to each database, in each worker
    reason: str

    def apply(self, environ: MutableMapping[str, str]) -> None:
        """Set MLflow's variables.

        It reads an overflow of 0 as unset, which is ten; so it is always one at least.
        """
        pool = min(2 * self.working, self.connections - 1)
        environ[_POOL], environ[_OVERFLOW] = str(pool), str(self.connections - pool)


def needed(working: int) -> int:
    """Connections that so many requests need to end whatever each of them asks for."""
    return (working + 1) * (DEPTH - 1) + 1


def choose(workers: int, dialect: str, limit: int | None, databases: int = 1, pool: int | None = None) -> Capacity:
    """Sizes for at most `workers` workers.

    limit: connections that the server has for its users; None where it does not report it. databases: how many are
    used: tracking, registry and read replica. pool: connections per worker that the administrator has set, which is
    then the limit.
    """
    if dialect == "sqlite":
        working = max(2, ON_SQLITE // workers)
        return Capacity(workers, working, needed(working), "SQLite has one writer")
    if pool is not None:
        working = max(1, min(MOST, (pool - 1) // (DEPTH - 1) - 1))
        return Capacity(workers, working, max(pool, needed(working)), f"as {_POOL} says")
    whole = UNKNOWN if limit is None else limit
    share = max(needed(1), whole // _SHARE // databases)
    workers = max(1, min(workers, share // needed(1)))
    working = max(1, min(MOST, (share // workers - 1) // (DEPTH - 1) - 1))
    source = "the database server allows" if limit is not None else "assumed of the database server:"
    return Capacity(workers, working, needed(working), f"{source} {whole} connections")


def configured_pool(environ: Mapping[str, str]) -> int | None:
    """The connections per worker that MLflow's settings allow, if set."""
    size, overflow = environ.get(_POOL, ""), environ.get(_OVERFLOW, "")
    if not size.isdigit() or not int(size):
        return None
    return int(size) + (int(overflow) if overflow.isdigit() and int(overflow) else _DEFAULT_OVERFLOW)


def read_limit(database: Database) -> int | None:
    """How many connections the server allows this user; None if unknown."""
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    query = _QUERIES.get(database.dialect)
    if query is None:
        return None
    try:
        with connect_engine(database).connect() as connection:
            total, *others = (int(value) for value in connection.execute(text(query)).one())
    except (SQLAlchemyError, ValueError, TypeError):
        return None
    return min([total, *(value for value in others if value > 0)])


# The server's limit first, then the user's and the database's, which are 0 or -1 where there is none.
_QUERIES = {
    "postgresql": (
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
        " - coalesce(current_setting('reserved_connections', true)::int, 0),"
        " (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),"
        " (SELECT datconnlimit FROM pg_database WHERE datname = current_database())"
    ),
    "mysql": "SELECT @@max_connections, @@max_user_connections",
}
