"""MLflow's schema: its tables, the state of a database's, how to create it.

A database that an older MLflow made and upgraded, and one made here, have the same tables: MLflow too creates its first
schema from `initial_models` and runs every migration after that.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from mlflow_ae5_server.common.errors import SchemaMismatch
from mlflow_ae5_server.common.text import shown
from mlflow_ae5_server.database import pinned_schema
from mlflow_ae5_server.database.connection import Database, connect_engine, is_absent, without_tables

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

VERSION_TABLE = "alembic_version"
_NAMED = 5  # tables in a message


@dataclass(frozen=True)
class SchemaState:
    """A database's schema, compared with that of the installed MLflow."""

    state: Literal["empty", "current", "outdated", "unknown"]
    found: str | None  # its revision; "unknown" if the installed MLflow does not have that
    expected: str
    missing: tuple[str, ...] = ()  # tables that its revision should have; no migration recreates them


# the installed MLflow ---------------------------------------------------------------------------------------------


def mlflow_version() -> str:
    return importlib.metadata.version("mlflow")


@lru_cache(maxsize=1)
def latest() -> str:
    """The schema revision of the installed MLflow."""
    if mlflow_version() == pinned_schema.VERSION:
        return pinned_schema.REVISION
    revision: str = _mlflow_utils()._get_latest_schema_revision()
    return revision


@lru_cache(maxsize=1)
def all_tables() -> frozenset[str]:
    """The tables of the installed MLflow, with alembic's own."""
    if mlflow_version() == pinned_schema.VERSION:
        return pinned_schema.TABLES
    return frozenset(_mlflow_utils().Base.metadata.tables) | {VERSION_TABLE}


@lru_cache(maxsize=8)
def is_supported(revision: str) -> bool:
    """Whether the installed MLflow has `revision`, and can upgrade from it."""
    from alembic.util import CommandError

    if revision == latest():
        return True
    try:
        return _scripts().get_revision(revision) is not None
    except CommandError:
        return False


def require_supported(revision: str, subject: str) -> None:
    """Raise SchemaMismatch where `subject` has a schema revision of a newer MLflow."""
    if not is_supported(revision):
        raise SchemaMismatch(
            f"{subject} is at schema revision {shown(revision)}, which MLflow {mlflow_version()} does not know: it is "
            "of a newer MLflow",
            "use the release of this project that made it, or a newer one",
        )


@lru_cache(maxsize=8)
def own_tables(revision: str) -> frozenset[str]:
    """The tables of MLflow's schema at `revision`, and alembic's own.

    Creates an old schema in memory, which takes 2 s.
    """
    if revision == latest():
        return all_tables()
    from sqlalchemy import create_engine, inspect

    engine = create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            create(connection, revision)
            return frozenset(inspect(connection).get_table_names())
    finally:
        engine.dispose()


def describe_revision(revision: str) -> str:
    """What a migration does, in the words of its author."""
    return str(_scripts().get_revision(revision).doc)


def _scripts() -> Any:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_mlflow_utils()._get_alembic_config(db_url=""))


def _mlflow_utils() -> Any:
    """MLflow's schema functions: not public, but its server's own (3.17.2)."""
    from mlflow.store.db import utils

    return utils


# the schema of a database -----------------------------------------------------------------------------------------


def inspect_schema(engine: Engine) -> SchemaState:
    """Compare the database's schema with that of the installed MLflow. Reads only."""
    from sqlalchemy import inspect, text

    tables, expected, found = set(inspect(engine).get_table_names()), latest(), ""
    if VERSION_TABLE in tables:
        with engine.connect() as connection:
            rows = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars()  # noqa: S608
            found = ", ".join(map(str, rows))
    if not found:
        return SchemaState("outdated" if {"experiments", "runs"} & tables else "empty", None, expected)
    if found != expected:
        return SchemaState("outdated" if is_supported(found) else "unknown", found, expected)
    missing = tuple(sorted(all_tables() - tables))
    return SchemaState("outdated" if missing else "current", found, expected, missing)


def schema_of(database: Database) -> SchemaState:
    """As `inspect_schema`; a SQLite file that does not exist counts as empty."""
    return SchemaState("empty", None, latest()) if is_absent(database) else inspect_schema(connect_engine(database))


def pending_revisions(schema: SchemaState) -> list[str]:
    """The migrations that an upgrade would run, oldest first."""
    if schema.state in {"current", "unknown"}:
        return []
    steps = _scripts().iterate_revisions(schema.expected, schema.found or "base")
    return [step.revision for step in steps][::-1]


def missing_tables(schema: SchemaState) -> str:
    """Its missing tables, the first of them by name."""
    more = len(schema.missing) - _NAMED
    return ", ".join(schema.missing[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def require_current(schema: SchemaState, database: Database) -> None:
    """Raise an error unless the schema is exactly that of the installed MLflow."""
    if schema.missing:
        raise SchemaMismatch(
            f"tables are missing in {database.shown}: {missing_tables(schema)}",
            "they were deleted, or a migration or restore was interrupted: restore a snapshot",
        )
    if schema.state == "outdated":
        raise SchemaMismatch(
            f"the schema of {database.shown} is at revision {schema.found}, MLflow {mlflow_version()} needs "
            f"{schema.expected}",
            "run `upgrade`, or stop the server, back up the database, run the command DatabaseUpgrade and start "
            "the server",
        )
    if schema.state == "unknown":
        raise SchemaMismatch(
            f"the schema of {database.shown} is at revision {schema.found}, which MLflow {mlflow_version()} does not "
            "know: it was made by a newer MLflow, or by another application",
            "use the release of this project that made it; a schema cannot be downgraded",
        )
    if schema.state == "empty":
        raise without_tables(database)


def require_tables(revision: str | None, tables: set[str], subject: str) -> frozenset[str]:
    """MLflow's tables at `revision`. Raises SchemaMismatch where one is missing."""
    if revision is None:
        raise SchemaMismatch(f"{subject} has no MLflow schema", "check MLFLOW_BACKEND_STORE_URI and its search_path")
    require_supported(revision, subject)
    own = own_tables(revision)
    if missing := own - tables:
        raise SchemaMismatch(
            f"{subject} is at schema revision {revision}, but tables are missing: {', '.join(sorted(missing))}",
            "restore a snapshot of it",
        )
    return own


# creating it ------------------------------------------------------------------------------------------------------


def create(connection: Connection, revision: str) -> None:
    """Create MLflow's schema at `revision`, in the connection's transaction.

    Migrations write rows too, so the tables need not be empty.
    """
    if not connection.in_transaction():
        connection.begin()
    pinned = (mlflow_version(), revision) == (pinned_schema.VERSION, pinned_schema.REVISION)
    if pinned and (script := pinned_schema.script(connection.dialect.name)):
        _execute(connection, script)
    else:
        _migrate(connection, revision)


def _execute(connection: Connection, script: str) -> None:
    cursor: Any = connection.connection.cursor()
    if connection.dialect.name == "sqlite":  # where each CREATE TABLE would be a transaction of its own
        cursor.executescript(f"BEGIN;\n{script}")
    else:
        cursor.execute(script)


def _migrate(connection: Connection, revision: str) -> None:
    from alembic import command
    from mlflow.store.tracking.dbmodels.initial_models import Base

    Base.metadata.create_all(connection)
    config = _mlflow_utils()._get_alembic_config(db_url="")
    # MLflow's env.py connects again, through the engine of this connection: that would be another transaction.
    config.attributes["connection"] = _SameConnection(connection)
    # A fifth of the migrations' time was the garbage collector's, over all that MLflow has loaded.
    gc.freeze()
    try:
        command.upgrade(config, revision)
    finally:
        gc.unfreeze()


class _SameConnection:
    """A connection for MLflow's env.py whose engine connects to the same one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.engine = self

    @contextlib.contextmanager
    def connect(self) -> Iterator[Any]:
        yield self._connection
