"""GarbageCollection: MLflow's `gc`, after proof that it can work, with the outcome read from the database."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mlflow_ae5_server import database, locks, mlflow_command, ttl
from mlflow_ae5_server.database import Database
from mlflow_ae5_server.errors import ConfigurationError, ProjectError, StoppedError
from mlflow_ae5_server.probe import Experiment, Prober
from mlflow_ae5_server.report import Report
from mlflow_ae5_server.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

_DATABASE_WAIT = 20.0  # seconds at most: the next run of the schedule is a better retry than a long wait
_SHOWN = 20  # ids listed per kind by a dry run


@dataclass(frozen=True)
class Due:
    """Ids that `mlflow gc` removes at this moment, by kind."""

    runs: frozenset[str]
    experiments: frozenset[str]
    logged_models: frozenset[str]

    def counts(self) -> dict[str, int]:
        return {kind: len(ids) for kind, ids in vars(self).items()}


def run(settings: Settings, report: Report, dry_run: bool) -> int:
    """Collect, or with `dry_run` list, and leave the facts in `report`. Returns MLflow's exit code."""
    dry_run = dry_run or settings.flag("MLFLOW_TRACKING_GC_DRY_RUN")
    older_than = settings.value("MLFLOW_TRACKING_GC_TTL") or ""
    report.add(dry_run=dry_run, older_than=older_than)
    age = ttl.parse(older_than)
    store = database.check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    if store.file is not None and not store.file.is_file():
        # Connecting would create it, and an empty database has nothing to collect: a job that succeeds for ever.
        raise ConfigurationError(
            f"there is no database {store.shown}", "give this job the MLFLOW_BACKEND_STORE_URI of the server"
        )
    probed = _probe(settings, report, dry_run)
    database.wait_until_ready(store, min(_DATABASE_WAIT, settings.seconds("MLFLOW_TRACKING_DATABASE_WAIT")))
    if dry_run:
        return _dry_run(store, age, report)
    with locks.maintenance(store):
        engine = database.connect_engine(store)
        database.require_current(database.inspect_schema(engine), store)
        _require_same_database(engine, probed, store)
        return _collect(engine, store, older_than, age, report)


def _probe(settings: Settings, report: Report, dry_run: bool) -> Experiment | None:
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        # Enough to see which token this run was given, where a new one may take minutes to arrive; of no other use.
        report.add(token_sha256=hashlib.sha256(token.encode()).hexdigest()[:12])
    try:
        found = Prober(settings.value("MLFLOW_TRACKING_URI"), os.environ).check()
    except ProjectError as error:
        if not dry_run:
            raise
        print(f"warning: a real run would fail: {error}", file=sys.stderr, flush=True)
        report.add(server=error.message)
        return None
    report.add(server="ok")
    return found


def _require_same_database(engine: Engine, probed: Experiment | None, store: Database) -> None:
    """The server and this job must mean the same database, or artifacts would be deleted for rows of another."""
    from sqlalchemy import text

    if probed is None:
        return
    with engine.connect() as connection:
        created = connection.execute(
            text("SELECT creation_time FROM experiments WHERE experiment_id = :id"), {"id": int(probed.experiment_id)}
        ).scalar()
    if created is None or int(created) != probed.creation_time:
        raise ConfigurationError(
            f"the server at MLFLOW_TRACKING_URI does not work on {store.shown}",
            "give this job the MLFLOW_BACKEND_STORE_URI of that server",
        )


def _dry_run(store: Database, age: timedelta, report: Report) -> int:
    engine = database.connect_engine(store)
    database.require_current(database.inspect_schema(engine), store)
    due = find_due(engine, age)
    for kind, ids in vars(due).items():
        print(f"would remove {len(ids)} {kind.replace('_', ' ')}", *sorted(ids)[:_SHOWN], sep="\n  ")
        if len(ids) > _SHOWN:
            print(f"  and {len(ids) - _SHOWN} more")
    report.add(outcome="dry-run", **{kind: {"due": number} for kind, number in due.counts().items()})
    return 0


def _collect(engine: Engine, store: Database, older_than: str, age: timedelta, report: Report) -> int:
    before = find_due(engine, age)
    # MLflow's defaults retry a failing request for four minutes, and the next run of the schedule is near.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    from mlflow.cli import gc as command

    arguments = ["--older-than", older_than, "--backend-store-uri", store.uri]
    interrupted = False
    try:
        ended = mlflow_command.run(command, arguments, "mlflow gc")
    except (KeyboardInterrupt, StoppedError):
        ended, interrupted = mlflow_command.Ended(StoppedError.exit_code, "stopped by a signal"), True
    after = _still_there(engine, before)
    for kind, ids in vars(before).items():
        left = len(vars(after)[kind])
        report.add(**{kind: {"due": len(ids), "removed": len(ids) - left, "left": left}})
    outcome = "interrupted" if interrupted else "done" if ended.exit_code == 0 else "failed"
    report.add(outcome=outcome, **({"error": ended.error} if ended.error else {}))
    return ended.exit_code


def find_due(engine: Engine, age: timedelta) -> Due:
    """What `mlflow gc --older-than` selects (mlflow.cli._gc_tracking_resources, 3.17.2), read with plain SQL."""
    limit = int(time.time() * 1000) - int(age.total_seconds() * 1000)
    experiments = _ids(
        engine,
        "SELECT experiment_id FROM experiments WHERE lifecycle_stage = 'deleted' AND last_update_time < :limit",
        limit,
    )
    runs = _ids(engine, "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'deleted' AND deleted_time <= :limit", limit)
    # Runs of an experiment that goes, go with it, whatever their own age.
    runs |= _ids(
        engine,
        "SELECT r.run_uuid FROM runs r JOIN experiments e ON r.experiment_id = e.experiment_id "
        "WHERE r.lifecycle_stage = 'deleted' AND e.lifecycle_stage = 'deleted' AND e.last_update_time < :limit",
        limit,
    )
    models = _ids(
        engine,
        "SELECT model_id FROM logged_models WHERE lifecycle_stage = 'deleted' AND last_updated_timestamp_ms <= :limit",
        limit,
    )
    return Due(runs, experiments, models)


def _still_there(engine: Engine, due: Due) -> Due:
    """Which of `due` are still in the database."""
    present: dict[str, Any] = {
        "runs": "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'deleted'",
        "experiments": "SELECT experiment_id FROM experiments WHERE lifecycle_stage = 'deleted'",
        "logged_models": "SELECT model_id FROM logged_models WHERE lifecycle_stage = 'deleted'",
    }
    return Due(**{kind: _ids(engine, query) & vars(due)[kind] for kind, query in present.items()})


def _ids(engine: Engine, query: str, limit: int | None = None) -> frozenset[str]:
    from sqlalchemy import text

    with engine.connect() as connection:
        rows = connection.execute(text(query), {} if limit is None else {"limit": limit})
        return frozenset(str(row[0]) for row in rows)
