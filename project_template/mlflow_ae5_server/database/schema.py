"""MLflow's schema at any of its revisions: which tables belong to it, and how to make it, with MLflow's own scripts.

A database that was made by an older MLflow and upgraded, and one made here, have the same tables: MLflow too makes
its first schema from `initial_models` and runs every migration after that.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mlflow_ae5_server.common.errors import SchemaError
from mlflow_ae5_server.common.text import shown
from mlflow_ae5_server.database import checks, pinned_schema

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

VERSION_TABLE = "alembic_version"


def _is_current() -> bool:
    return importlib.metadata.version("mlflow") == pinned_schema.VERSION


@lru_cache(maxsize=1)
def latest() -> str:
    """The revision of the installed MLflow."""
    if _is_current():
        return pinned_schema.REVISION
    revision: str = checks._mlflow_database_utils()._get_latest_schema_revision()
    return revision


@lru_cache(maxsize=8)
def known(revision: str) -> bool:
    """Whether the installed MLflow knows `revision`, so that it can make it and upgrade from it."""
    from alembic.util import CommandError

    if revision == latest():
        return True
    try:
        return checks._script_directory().get_revision(revision) is not None
    except CommandError:
        return False


def require_known(revision: str, what: str) -> None:
    if not known(revision):
        from mlflow.version import VERSION

        raise SchemaError(
            f"{what} is at schema revision {shown(revision)}, which MLflow {VERSION} does not know: it is of a newer "
            "MLflow",
            "use the release of this project that made it, or a newer one",
        )


@lru_cache(maxsize=8)
def own_tables(revision: str) -> frozenset[str]:
    """The tables of MLflow's schema at `revision`, and alembic's own. Makes an old schema in memory (2 s)."""
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


@lru_cache(maxsize=1)
def all_tables() -> frozenset[str]:
    """The tables of the installed MLflow, with alembic's own. No migration has ever taken a table away."""
    if _is_current():
        return pinned_schema.TABLES
    return frozenset(checks._mlflow_database_utils().Base.metadata.tables) | {VERSION_TABLE}


def create(connection: Connection, revision: str) -> None:
    """Make MLflow's schema at `revision` in the empty database of `connection`, in its transaction."""
    from alembic import command
    from mlflow.store.tracking.dbmodels.initial_models import Base

    if not connection.in_transaction():
        connection.begin()
    Base.metadata.create_all(connection)
    config = checks._mlflow_database_utils()._get_alembic_config(db_url="")
    # MLflow's env.py asks the connection for its engine and connects anew, which would be another transaction.
    config.attributes["connection"] = _Same(connection)
    # A fifth of the migrations' time was the garbage collector's, over all that MLflow has loaded.
    gc.freeze()
    try:
        command.upgrade(config, revision)
    finally:
        gc.unfreeze()


class _Same:
    """What MLflow's env.py takes for a connection: whose engine connects to the very same connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.engine = self

    @contextlib.contextmanager
    def connect(self) -> Iterator[Any]:
        yield self._connection
