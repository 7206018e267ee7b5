"""Delete the rows of owners that have still expired, in short transactions."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from mlflow_ae5_server.common.errors import Unreachable
from mlflow_ae5_server.database.connection import reason_of
from mlflow_ae5_server.gc.cascade import Cascade
from mlflow_ae5_server.gc.plan import SkippedItem, deleted_experiments, deleted_runs
from mlflow_ae5_server.gc.registry import Registry
from mlflow_ae5_server.gc.tables import EXPERIMENTS, MODELS, RUNS, TRACES
from mlflow_ae5_server.gc.transactions import DeletingConnection

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

BEING_REMOVED = "being removed by garbage collection"
KEY: dict[str, Any] = {"run": RUNS.c.run_uuid, "logged model": MODELS.c.model_id, "trace": TRACES.c.request_id}
_TABLES = {"run": "runs", "logged model": "logged_models", "trace": "trace_info"}


@dataclass
class RemovalCounts:
    """What a collection has removed, and what it has skipped."""

    removed: Counter[str] = field(default_factory=Counter)  # owners by kind
    rows: int = 0
    bytes: int = 0
    resumed: int = 0  # artifact folders that an interrupted run had left
    skipped: list[SkippedItem] = field(default_factory=list)
    on_removed: Callable[[int], None] = lambda _owners: None

    def skip(self, kind: str, owner: str, why: str, *, failed: bool = False) -> None:
        self.skipped.append(SkippedItem(kind, owner, why, failed))

    def fail(self, kind: str, owner: str, why: str) -> None:
        self.skip(kind, owner, why, failed=True)


class RowRemoval:
    """Deletes rows of runs, logged models, traces and experiments, and counts them."""

    def __init__(
        self,
        writer: DeletingConnection,
        cascade: Cascade,
        registry: Registry,
        counts: RemovalCounts,
        limit: int,
        step: Callable[[str], None],
    ) -> None:
        self._writer, self._cascade, self._registry = writer, cascade, registry
        self._counts, self._limit, self._step = counts, limit, step
        self._weights: dict[str, int] = {}

    def weigh(self, runs: list[str]) -> None:
        """Read how many rows go with each of these runs."""
        with self._writer.reader.connect() as connection:
            self._weights = self._cascade.weights(connection, runs, deleted_runs(self._limit))

    def _weight(self, kind: str, owner: str) -> int:
        """About how many rows go with it."""
        return 1 + self._weights.get(owner, 0) if kind == "run" else 50

    def remove(self, kind: str, ids: list[str]) -> set[str]:
        """Delete these owners with all that belongs to them. Returns deleted ids."""
        with self._writer.reader.connect() as connection:
            self._cascade.find_filled(connection)
        removed: set[str] = set()
        waiting = list(ids)
        while waiting:
            group: list[str] = []
            weight = 0
            while waiting and (not group or weight + self._weight(kind, waiting[-1]) <= self._writer.budget):
                group.append(waiting.pop())
                weight += self._weight(kind, group[-1])
            if kind == "run" and weight > 2 * self._writer.budget:
                self._delete_most_of(group[0])
            removed |= self._remove_group(kind, group)
        return removed

    def _remove_group(self, kind: str, ids: list[str]) -> set[str]:
        """One transaction; if it fails, its halves, so that one bad row stops no other."""
        try:
            with self._writer.transaction() as connection:
                expired = self._still_expired(connection, kind, ids)
                rows = self._cascade.delete(connection, _TABLES[kind], expired) if expired else 0
                self._step("before commit")
        except SQLAlchemyError as error:
            _require_connection(error)
            if len(ids) > 1:
                middle = len(ids) // 2
                return self._remove_group(kind, ids[:middle]) | self._remove_group(kind, ids[middle:])
            self._counts.fail(kind, ids[0], reason_of(error))
            return set()
        self._count(kind, len(expired), rows)
        return set(expired)

    def _count(self, kind: str, owners: int, rows: int) -> None:
        self._counts.rows += rows
        self._counts.removed[kind] += owners
        self._counts.on_removed(owners)
        self._step("rows deleted")

    def _still_expired(self, connection: Connection, kind: str, ids: list[str]) -> list[str]:
        """Those that have still expired, their rows locked.

        Users may have restored or registered one meanwhile.
        """
        query = select(KEY[kind]).where(_expired(kind, ids, self._limit)).with_for_update()
        expired = [str(owner) for owner in connection.execute(query).scalars()]
        self._registry.refresh(connection)
        return [owner for owner in expired if not self._registry.protects(owner)]

    def _delete_most_of(self, run: str) -> None:
        """Delete most of a large run in several transactions.

        Its name says so, in case a user restores it.
        """
        for table, key in self._cascade.parts_of_runs():
            while True:
                with self._writer.transaction() as connection:
                    if not self._still_expired(connection, "run", [run]):
                        return
                    connection.execute(update(RUNS).where(RUNS.c.run_uuid == run).values(name=BEING_REMOVED))
                    limit = self._writer.budget
                    rows = self._cascade.delete_part(connection, table, key, run, limit)
                self._counts.rows += rows
                self._step("part of a run deleted")
                if rows < limit:
                    break

    def remove_experiment(self, number: int) -> bool:
        """Delete an empty experiment that has expired. Returns whether it is deleted."""
        try:
            with self._writer.transaction() as connection:
                self._registry.refresh(connection)
                if why := _reason_to_keep(connection, number, self._limit):
                    self._step("experiment kept")
                    self._counts.skip("experiment", str(number), why)
                    return False
                self._cascade.find_filled(connection)
                rows = self._cascade.delete(connection, "experiments", [number])
                self._step("before commit")
        except SQLAlchemyError as error:
            _require_connection(error)
            self._counts.fail("experiment", str(number), reason_of(error))
            return False
        self._count("experiment", 1, rows)
        return True


def _expired(kind: str, ids: list[str], limit: int) -> ColumnElement[bool]:
    """The condition that these have expired at this moment."""
    chosen = KEY[kind].in_(ids)
    if kind == "run":
        return and_(chosen, deleted_runs(limit))
    experiments = select(EXPERIMENTS.c.experiment_id).where(deleted_experiments(limit))
    if kind == "trace":
        return and_(chosen, TRACES.c.experiment_id.in_(experiments), TRACES.c.timestamp_ms <= limit)
    deleted = MODELS.c.lifecycle_stage == "deleted"
    return and_(chosen, deleted | MODELS.c.experiment_id.in_(experiments), MODELS.c.last_updated_timestamp_ms <= limit)


def _reason_to_keep(connection: Connection, experiment: int, limit: int) -> str:
    """Why this experiment must stay after all; empty where it may go."""
    expired = select(EXPERIMENTS.c.experiment_id).where(
        EXPERIMENTS.c.experiment_id == experiment, deleted_experiments(limit)
    )
    if connection.execute(expired.with_for_update()).first() is None:
        return "it was restored meanwhile"
    parts: Iterable[tuple[Any, str]] = ((RUNS, "run"), (MODELS, "logged model"), (TRACES, "trace"))
    for source, name in parts:
        if connection.execute(select(source.c.experiment_id).where(source.c.experiment_id == experiment)).first():
            return f"it still holds a {name}"
    return ""


def _require_connection(error: SQLAlchemyError) -> None:
    """Raise Unreachable where the whole database fails, not this row."""
    whole = isinstance(error, DBAPIError) and error.connection_invalidated
    # SQLite raises this when its file stays locked, its disk is full, or the file is gone.
    if whole or (isinstance(error, OperationalError) and isinstance(error.orig, sqlite3.OperationalError)):
        raise Unreachable(
            f"the database cannot be used: {reason_of(error)}", "the next run finishes what this one started"
        ) from None
