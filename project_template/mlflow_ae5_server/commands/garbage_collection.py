"""GarbageCollection from its settings to its report."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mlflow_ae5_server.common import progress
from mlflow_ae5_server.common.errors import Configuration, ProjectError, RepositoryFailed, Unreachable
from mlflow_ae5_server.common.report import Report, say
from mlflow_ae5_server.common.server_probe import Experiment, Prober
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.database import locks, schema
from mlflow_ae5_server.database.connection import (
    Database,
    absent,
    check_uri,
    connect_engine,
    reason_of,
    wait_until_ready,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

_DATABASE_WAIT = 20.0  # seconds at most: the next run of the schedule is a better retry than a long wait
_MODES = ("ignore", "show", "remove", "remove-all")


def run(settings: Settings, report: Report, dry_run: bool, *, step: Callable[[str], None] = lambda _name: None) -> int:
    """Collect, or with `dry_run` list, and fill `report`. Returns 0 or 23."""
    dry_run = dry_run or settings.flag("MLFLOW_TRACKING_GC_DRY_RUN")
    older_than = settings.value("MLFLOW_TRACKING_GC_TTL") or ""
    report.add(dry_run=dry_run, older_than=older_than)
    limit = int(time.time() * 1000) - int(settings.duration("MLFLOW_TRACKING_GC_TTL").total_seconds() * 1000)
    orphans = (settings.value("MLFLOW_TRACKING_GC_ORPHANS") or "ignore").strip().lower()
    if orphans not in _MODES:
        raise Configuration(
            f"MLFLOW_TRACKING_GC_ORPHANS is {orphans!r}", "set it to ignore, show, remove or remove-all"
        )
    progress.start(
        "GarbageCollection", "dry-run" if dry_run else "run", without=("find-orphans",) if orphans == "ignore" else ()
    )
    include = settings.flag("MLFLOW_TRACKING_GC_INCLUDE_REGISTERED")
    store = check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    if store.file is not None and not store.file.is_file():
        if store.file.parent.is_dir():
            with locks.maintenance(store):  # a restore that is running now holds it, and will end
                _refuse_unfinished(settings)
        # Connecting would create it, and an empty database has nothing to collect: a job that succeeds for ever.
        raise absent(store)
    first, problem = _probe_server(settings, report)
    wait_until_ready(store, min(_DATABASE_WAIT, settings.seconds("MLFLOW_TRACKING_DATABASE_WAIT")))
    with contextlib.nullcontext() if dry_run else locks.maintenance(store), contextlib.ExitStack() as stack:
        from mlflow_ae5_server.gc.collector import Collector

        _refuse_unfinished(settings)
        engine = connect_engine(store, pooled=True)
        stack.callback(engine.dispose)
        schema.require_current(schema.inspect_schema(engine), store)
        _require_same_database(engine, first, store)
        pool = stack.enter_context(ThreadPoolExecutor(8, thread_name_prefix="measure"))
        collector = Collector(settings, report, store, engine, limit, include, problem, pool, step)
        return _with_our_errors(store, lambda: collector.collect(older_than, orphans, dry_run))


def _with_our_errors(store: Database, work: Callable[[], int]) -> int:
    """`work`, with Unreachable where the database fails meanwhile."""
    from sqlalchemy.exc import InterfaceError, OperationalError

    try:
        return work()
    except (OperationalError, InterfaceError) as error:
        raise Unreachable(
            f"the database {store.shown} cannot be used: {reason_of(error)}",
            "check that it runs and has free disk space; the next run finishes what this one started",
        ) from None


def _refuse_unfinished(settings: Settings) -> None:
    """Raise RestoreUnfinished where a restore was interrupted.

    What has no row now may be about to get it back.
    """
    from mlflow_ae5_server.restore import journal

    try:
        journal.refuse_interrupted(settings.value("MLFLOW_ARTIFACTS_DESTINATION") or "")
    except (Configuration, RepositoryFailed) as error:
        # Jobs could not have restored anything there; its artifacts are reached through the server.
        say(f"note: unable to determine whether a restore is running: {error.message}")


def _probe_server(settings: Settings, report: Report) -> tuple[Experiment | None, ProjectError | None]:
    """The server's first experiment, and why it cannot be used."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        # Enough to see which token this run was given, where a new one may take minutes to arrive; of no other use.
        report.add(token_sha256=hashlib.sha256(token.encode()).hexdigest()[:12])
    try:
        first = Prober(settings.value("MLFLOW_TRACKING_URI"), os.environ).check()
    except ProjectError as error:
        say(f"warning: the server is not available: {error}")
        report.add(server=error.message)
        return None, error
    report.add(server="ok")
    return first, None


def _require_same_database(engine: Engine, first: Experiment | None, store: Database) -> None:
    """Raise Configuration unless server and job use the same database."""
    from sqlalchemy import text

    if first is None:
        return
    with engine.connect() as connection:
        created = connection.execute(
            text("SELECT creation_time FROM experiments WHERE experiment_id = :id"), {"id": int(first.experiment_id)}
        ).scalar()
    if created is None or int(created) != first.creation_time:
        raise Configuration(
            f"the server at MLFLOW_TRACKING_URI does not use {store.shown}",
            "set MLFLOW_BACKEND_STORE_URI to that server's database",
        )
