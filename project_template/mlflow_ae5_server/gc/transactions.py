"""The connection that deletes, in short transactions."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from mlflow_ae5_server.database.connection import Database, connect_engine

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

_MOST_ROWS = 60_000  # rows; elsewhere than on SQLite only the rows themselves are locked
_FIRST_ROWS = 3_000  # rows on SQLite, in the first transaction
# PostgreSQL else reads whole tables for each transaction where a page of runs is more than a small part of them.
_BY_INDEX = text("SET LOCAL enable_seqscan = off")
_LOCK_WAIT = 20_000  # milliseconds on SQLite, as MLflow has it


@dataclass(frozen=True)
class Pacing:
    """How to share SQLite: a transaction locks out other writers; its commit locks out readers too."""

    seconds: float  # that a transaction should take, roughly
    least_rows: int  # to delete in a transaction
    pause: float  # seconds before the next one, at least; a waiting client first retries within 25 ms
    pause_factor: float  # the same, in parts of the time that the transaction took


_ALONE = Pacing(0.17, 3_000, 0.01, 0.0)
_SHARED = Pacing(0.012, 100, 0.03, 5.0)
_SHARED_FOR = 5.0  # seconds after somebody else has written


class DeletingConnection:
    """A connection for deleting.

    budget: how many rows the next transaction may delete. reader: for queries; locks nothing.
    """

    def __init__(
        self,
        store: Database,
        reader: Engine,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sqlite, self._postgresql = store.dialect == "sqlite", store.dialect == "postgresql"
        self._clock, self._sleep = clock, sleep
        self._not_before = 0.0
        self.budget = _FIRST_ROWS if self._sqlite else _MOST_ROWS
        self._version, self._alone_from = 0, 0.0
        self.reader = reader
        self._engine = _sqlite_engine(store) if self._sqlite else connect_engine(store)
        if store.dialect == "mysql":  # else all reads see the data of the first one, and it locks more
            self._engine = self._engine.execution_options(isolation_level="READ COMMITTED")
        self._stack = contextlib.ExitStack()
        self._connection: Connection | None = None

    def __enter__(self) -> DeletingConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._sqlite:
            self._leave_no_journal()
        self._stack.close()
        self._connection = None
        self._engine.dispose()

    def _leave_no_journal(self) -> None:
        """Remove the empty journal of the mode TRUNCATE, which others may misread."""
        with contextlib.suppress(SQLAlchemyError, sqlite3.Error):
            if self._connection is not None and not self._connection.closed:
                raw: Any = self._connection.connection.dbapi_connection
                if raw.execute("PRAGMA journal_mode").fetchone()[0] == "truncate":
                    raw.execute("PRAGMA journal_mode = DELETE")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction; on SQLite after a pause for others."""
        if self._connection is None or self._connection.closed:
            self._connection = self._stack.enter_context(self._engine.connect())
        if (early := self._not_before - self._clock()) > 0:
            self._sleep(early)
        started = self._clock()
        try:
            with self._connection.begin():
                started = self._clock()  # from when the lock was ours
                if self._postgresql:
                    self._connection.execute(_BY_INDEX)
                yield self._connection
        except BaseException:
            if self._connection.invalidated:
                self._connection.close()
            raise
        if self._sqlite:
            self._adapt(self._connection, self._clock() - started)

    def _adapt(self, connection: Connection, took: float) -> None:
        """Adapt the size of the next transaction, and the pause before it."""
        raw: Any = connection.connection.dbapi_connection
        (version,) = raw.execute("PRAGMA data_version").fetchone()  # it changes when another connection has written
        now = self._clock()
        if self._version not in {0, version}:
            self._alone_from = now + _SHARED_FOR
        self._version = version
        pacing = _ALONE if now >= self._alone_from else _SHARED
        self.budget = int(self.budget * min(2.5, max(0.25, pacing.seconds / max(took, 0.001))))
        self.budget = min(_MOST_ROWS, max(pacing.least_rows, self.budget))
        self._not_before = now + max(pacing.pause, took * pacing.pause_factor)


def _sqlite_engine(store: Database) -> Engine:
    engine = create_engine(store.uri, poolclass=StaticPool)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin when we say so
        for pragma in (
            "foreign_keys = ON",
            f"busy_timeout = {_LOCK_WAIT}",
            "cache_size = -32768",  # KiB: pages written before the end of a transaction lock readers out
            "cache_spill = OFF",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete":
            connection.execute("PRAGMA journal_mode = TRUNCATE")  # saves a change of the folder per transaction

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
