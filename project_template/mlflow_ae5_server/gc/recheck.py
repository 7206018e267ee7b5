"""Asked once more inside the very transaction that removes: is it still to go? And what a failure there means."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from mlflow_ae5_server.common.errors import UnreachableError
from mlflow_ae5_server.database.connection import reason_of
from mlflow_ae5_server.gc.plan import deleted_experiments, deleted_runs
from mlflow_ae5_server.gc.tables import EXPERIMENTS, MODELS, RUNS, TRACES

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

KEY: dict[str, Any] = {
    "run": RUNS.c.run_uuid,
    "logged model": MODELS.c.model_id,
    "trace": TRACES.c.request_id,
}


def still(kind: str, ids: list[str], limit: int) -> ColumnElement[bool]:
    """That these are due at this very moment."""
    chosen = KEY[kind].in_(ids)
    if kind == "run":
        return and_(chosen, deleted_runs(limit))
    going = select(EXPERIMENTS.c.experiment_id).where(deleted_experiments(limit))
    if kind == "trace":
        return and_(chosen, TRACES.c.experiment_id.in_(going), TRACES.c.timestamp_ms <= limit)
    deleted = MODELS.c.lifecycle_stage == "deleted"
    return and_(chosen, deleted | MODELS.c.experiment_id.in_(going), MODELS.c.last_updated_timestamp_ms <= limit)


def not_empty(connection: Connection, experiment: int, limit: int) -> str:
    """Why this experiment must stay after all."""
    due = select(EXPERIMENTS.c.experiment_id).where(
        EXPERIMENTS.c.experiment_id == experiment, deleted_experiments(limit)
    )
    if connection.execute(due.with_for_update()).first() is None:
        return "it was restored meanwhile"
    questions: Iterable[tuple[Any, str]] = ((RUNS, "run"), (MODELS, "logged model"), (TRACES, "trace"))
    for source, name in questions:
        if connection.execute(select(source.c.experiment_id).where(source.c.experiment_id == experiment)).first():
            return f"it still holds a {name}"
    return ""


def require_alive(error: SQLAlchemyError) -> None:
    """UnreachableError where it is not this row that is at fault: nothing more can be done in this run."""
    whole = isinstance(error, DBAPIError) and error.connection_invalidated
    # SQLite says this when its file stays locked, its disk is full, or the file is gone.
    if whole or (isinstance(error, OperationalError) and isinstance(error.orig, sqlite3.OperationalError)):
        raise UnreachableError(
            f"the database cannot be worked on: {reason_of(error)}", "the next run finishes what this one has begun"
        ) from None
