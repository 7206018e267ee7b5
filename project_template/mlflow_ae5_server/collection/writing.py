"""The connection that deletes: short transactions, and room for the server between them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.pool import StaticPool

from mlflow_ae5_server import database
from mlflow_ae5_server.database import Database

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

_SHORT = 0.1  # seconds a transaction on SQLite may take, roughly: nobody else can write meanwhile
_SMALLEST, _LARGEST = 2_000, 20_000  # rows in a transaction
_FIRST = {"sqlite": 4_000}
_PAUSE = 0.02  # seconds for those who wait: SQLite has them look again after at most 25 ms, at first
_LARGE_FIRST = 20_000  # elsewhere only the rows themselves are locked
_PATIENCE = 20_000  # milliseconds to wait for a lock on SQLite, as MLflow does


class Writer:
    """`budget`: how many rows the next transaction may remove. `reader` is for looking, and locks nothing."""

    def __init__(self, store: Database, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sqlite = store.dialect == "sqlite"
        self._sleep = sleep
        self.budget = _FIRST.get(store.dialect, _LARGE_FIRST)
        self.reader = database.connect_engine(store)
        self._engine = _sqlite_engine(store) if self._sqlite else database.connect_engine(store)
        self._stack = contextlib.ExitStack()
        self._connection: Connection | None = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()
        self._connection = None
        self._engine.dispose()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction; afterwards the budget is adapted, and on SQLite others get their turn."""
        if self._connection is None or self._connection.closed:
            self._connection = self._stack.enter_context(self._engine.connect())
        started = time.monotonic()
        try:
            with self._connection.begin():
                started = time.monotonic()  # from when the lock was ours
                yield self._connection
        except BaseException:
            if self._connection.invalidated:
                self._connection.close()
            raise
        if self._sqlite:
            took = time.monotonic() - started
            if took > _SHORT:
                self.budget = max(_SMALLEST, int(self.budget * max(0.5, _SHORT / took)))
            elif took < _SHORT / 2:
                self.budget = min(_LARGEST, int(self.budget * 1.5))
            self._sleep(_PAUSE)


def _sqlite_engine(store: Database) -> Engine:
    engine = create_engine(store.uri, poolclass=StaticPool)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin when we say so
        for pragma in (
            "foreign_keys = ON",
            f"busy_timeout = {_PATIENCE}",
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
