"""DatabaseUpgrade: MLflow's `db upgrade`, from exactly one place at a time, with the revisions it found and left."""

from __future__ import annotations

from mlflow_ae5_server.common import locks
from mlflow_ae5_server.common.errors import ConfigurationError
from mlflow_ae5_server.common.report import Report
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.database import characters, checks
from mlflow_ae5_server.database.checks import Database, Schema
from mlflow_ae5_server.database.migrate import _inspect, migrate

_LOCK_WAIT = 60.0  # seconds for a garbage collection in progress to end


def run(settings: Settings, report: Report, dry_run: bool) -> int:
    """Upgrade, or with `dry_run` say what would be done, and leave the facts in `report`. Returns the exit code."""
    dry_run = dry_run or settings.flag("MLFLOW_TRACKING_UPGRADE_DRY_RUN")
    if not dry_run and settings.flag("MLFLOW_TRACKING_UPGRADE_REHEARSE"):
        return rehearse(settings, report)
    report.add(dry_run=dry_run, touched=False)
    store = checks.check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    if store.file is not None and not store.file.is_file():
        if dry_run:
            report.add(outcome="dry-run", revision=None, note="there is no such database; an upgrade would create it")
            return 0
        from mlflow_ae5_server.common import folders

        folders.make_writable(store.file.parent, "MLFLOW_BACKEND_STORE_URI")
    if not checks.is_absent(store):  # one that is refused below must not have made it
        checks.wait_until_ready(store, settings.seconds("MLFLOW_TRACKING_DATABASE_WAIT"))
    if dry_run:
        return _dry_run(store, report)
    with locks.maintenance(store, _LOCK_WAIT):
        before = _inspect(store)
        report.add(
            revision=before.found,
            expected_revision=before.expected,
            pending=len(checks.pending_revisions(before)),
        )
        if before.state == "current":
            report.add(outcome="unchanged", new_revision=before.found)
            return 0
        _refuse_unknown(before, store)
        if before.state == "empty":
            characters.require_database(store)
            from mlflow_ae5_server.commands.tracking_server import refuse_unfinished

            refuse_unfinished(settings.value("MLFLOW_ARTIFACTS_DESTINATION") or "")
        # A migration that breaks off may have changed rows or tables under the revision that it began with.
        report.add(touched=True)
        ended, after = migrate(store)
        report.add(new_revision=after.found)
        if ended.exit_code == 0:
            report.add(outcome="initialised" if before.state == "empty" else "upgraded")
            return 0
        report.add(error=ended.error, hint="restore the backup")
        return ended.exit_code


def rehearse(settings: Settings, report: Report, _dry_run: bool = False) -> int:
    """Upgrade a copy, which is removed again. Returns the exit code."""
    from mlflow_ae5_server.database import rehearsal

    store = checks.check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    if store.file is not None and not store.file.is_file():
        raise ConfigurationError(
            f"there is no database {store.shown}", "give this job the MLFLOW_BACKEND_STORE_URI of the server"
        )
    checks.wait_until_ready(store, settings.seconds("MLFLOW_TRACKING_DATABASE_WAIT"))
    return rehearsal.rehearse(store, report)


def _refuse_unknown(schema: Schema, store: Database) -> None:
    if schema.state == "unknown":
        checks.require_current(schema, store)


def _dry_run(store: Database, report: Report) -> int:
    schema = _inspect(store)
    report.add(revision=schema.found, expected_revision=schema.expected)
    _refuse_unknown(schema, store)
    if schema.state == "empty":
        characters.require_database(store)
    pending = checks.pending_revisions(schema)
    print(f"{store.shown} is at revision {schema.found}, the installed MLflow needs {schema.expected}")
    for revision in pending:
        print(f"  would apply {revision}: {checks.describe_revision(revision)}")
    report.add(outcome="dry-run", pending=len(pending))
    return 0
