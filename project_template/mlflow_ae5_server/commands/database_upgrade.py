"""DatabaseUpgrade: MLflow's `db upgrade`, one at a time."""

from __future__ import annotations

from mlflow_ae5_server.common import folders, progress
from mlflow_ae5_server.common.report import Report
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.database import character_sets, locks
from mlflow_ae5_server.database.connection import Database, absent, check_uri, is_absent, wait_until_ready
from mlflow_ae5_server.database.migration import migrate
from mlflow_ae5_server.database.migration import rehearse as rehearse_migration
from mlflow_ae5_server.database.schema import (
    SchemaState,
    describe_revision,
    pending_revisions,
    require_current,
    schema_of,
)

_LOCK_WAIT = 60.0  # seconds for another job, or a starting server, to release the database


def run(settings: Settings, report: Report, dry_run: bool) -> int:
    """Upgrade, or with `dry_run` print the migrations. Returns the exit code."""
    dry_run = dry_run or settings.flag("MLFLOW_TRACKING_UPGRADE_DRY_RUN")
    if not dry_run and settings.flag("MLFLOW_TRACKING_UPGRADE_REHEARSE"):
        return rehearse(settings, report)
    report.add(dry_run=dry_run, touched=False)
    store = check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    if is_absent(store) and dry_run:
        report.add(outcome="dry-run", revision=None, note="the database does not exist; an upgrade would create it")
        return 0
    if is_absent(store) and store.file is not None:
        folders.make_writable(store.file.parent, "MLFLOW_BACKEND_STORE_URI")
    else:  # connecting to an absent one would create it, and it may be refused below
        wait_until_ready(store, settings.seconds("MLFLOW_TRACKING_DATABASE_WAIT"))
    if dry_run:
        return _dry_run(store, report)
    progress.start("DatabaseUpgrade")
    with locks.maintenance(store, _LOCK_WAIT):
        before = schema_of(store)
        report.add(
            revision=before.found,
            expected_revision=before.expected,
            pending=len(pending_revisions(before)),
        )
        if before.state == "current":
            report.add(outcome="unchanged", new_revision=before.found)
            return 0
        _refuse_unknown(before, store)
        if before.state == "empty":
            character_sets.require_database(store)
            from mlflow_ae5_server.server.application import refuse_unfinished

            refuse_unfinished(settings.value("MLFLOW_ARTIFACTS_DESTINATION") or "")
        # An interrupted migration may have changed rows or tables under the old revision.
        report.add(touched=True)
        ended = migrate(store)
        report.add(new_revision=ended.after.found)
        if ended.exit_code == 0:
            report.add(outcome="initialised" if before.state == "empty" else "upgraded")
        else:
            report.add(error=ended.error, hint="restore the backup")
        return ended.exit_code


def rehearse(settings: Settings, report: Report, _dry_run: bool = False) -> int:
    """Upgrade a copy, which is removed again. Returns the exit code."""
    progress.start("DatabaseUpgrade", "rehearse")
    store = check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    if is_absent(store):
        raise absent(store)
    wait_until_ready(store, settings.seconds("MLFLOW_TRACKING_DATABASE_WAIT"))
    return rehearse_migration(store, report)


def _refuse_unknown(schema: SchemaState, store: Database) -> None:
    if schema.state == "unknown":
        require_current(schema, store)


def _dry_run(store: Database, report: Report) -> int:
    schema = schema_of(store)
    report.add(revision=schema.found, expected_revision=schema.expected)
    _refuse_unknown(schema, store)
    if schema.state == "empty":
        character_sets.require_database(store)
    pending = pending_revisions(schema)
    print(f"{store.shown} is at revision {schema.found}; the installed MLflow needs {schema.expected}")
    for revision in pending:
        print(f"  would apply {revision}: {describe_revision(revision)}")
    report.add(outcome="dry-run", pending=len(pending))
    return 0
