"""DatabaseUpgrade on a copy: which migrations there are between the two schemas, how long they take, and do they end?

The copy is taken in one transaction while the server runs, and lies beside the real database, which is not written to.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from mlflow_ae5_server.common.errors import StorageError
from mlflow_ae5_server.common.report import Report
from mlflow_ae5_server.common.sizes import amount
from mlflow_ae5_server.database import checks, dialects, migrate
from mlflow_ae5_server.database.checks import Database, Schema
from mlflow_ae5_server.repository.spool import TemporaryBlobs


def rehearse(store: Database, report: Report) -> int:
    """Migrate a copy of `store`, and leave what came of it in `report`. Returns the exit code."""
    found = _inspect(store)
    migrations = checks.pending_revisions(found)
    between = [{"revision": revision, "what": checks.describe_revision(revision)} for revision in migrations]
    report.add(revision=found.found, expected_revision=found.expected, migrations=between, migration_seconds=0.0)
    if found.missing or found.state in {"empty", "unknown"}:
        checks.require_current(found, store)
    if not migrations:
        say(f"{store.shown} is at revision {found.found}, which is what the installed MLflow needs: nothing to migrate")
        report.add(outcome="rehearsed")
        return 0
    for step in between:
        say(f"  will apply {step['revision']}: {step['what']}")
    _require_room(store)
    with tempfile.TemporaryDirectory(prefix="mlflow-ae5-rehearsal-", dir=_folder(store)) as folder:
        spool = TemporaryBlobs(Path(folder))
        part = dialects.dump(store, spool)
        rows = sum(table.rows for table in part.tables)
        say(f"copied {rows} rows in {len(part.tables)} tables; migrating the copy")
        report.add(rows=rows, tables=len(part.tables))
        with dialects.scratch(store) as copy:
            dialects.load(part, spool, copy)
            return _migrate(copy, report)


def _migrate(copy: Database, report: Report) -> int:
    started = time.monotonic()
    ended, after = migrate.migrate(copy)
    seconds = round(time.monotonic() - started, 2)
    report.add(migration_seconds=seconds)
    if ended.exit_code:
        report.add(
            error=ended.error,
            hint="do not upgrade; the real database was not touched, and the release that made it goes on working",
        )
        return ended.exit_code
    rows = sum(count for count, _digest in dialects.digests(copy).values())
    say(f"the copy is at revision {after.found} after {seconds:g} s, with {rows} rows")
    report.add(outcome="rehearsed", rows_after=rows)
    return 0


def _folder(store: Database) -> str | None:
    """Where a copy of this size surely has its like: beside a SQLite file. Else the temporary folder."""
    return str(store.file.parent) if store.file is not None else None


def _require_room(store: Database) -> None:
    if store.file is None:
        return
    size = store.file.stat().st_size
    free = shutil.disk_usage(store.file.parent).free
    if free < 3 * size:  # the packed copy, the copy itself, and what SQLite writes anew while it changes tables
        raise StorageError(
            f"a rehearsal needs about {amount(3 * size)} beside {store.shown}, and {amount(free)} are free",
            "make room there",
        )


def _inspect(store: Database) -> Schema:
    return checks.inspect_schema(checks.connect_engine(store))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
