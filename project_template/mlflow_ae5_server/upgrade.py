"""DatabaseUpgrade: MLflow's `db upgrade`, from exactly one place at a time, with the revisions it found and left."""

from __future__ import annotations

import traceback

from mlflow_ae5_server import database, locks
from mlflow_ae5_server.database import Database, Schema
from mlflow_ae5_server.errors import SchemaError
from mlflow_ae5_server.report import Report
from mlflow_ae5_server.settings import Settings

_LOCK_WAIT = 60.0  # seconds for a garbage collection in progress to end


def run(settings: Settings, report: Report, dry_run: bool) -> int:
    """Upgrade, or with `dry_run` say what would be done, and leave the facts in `report`. Returns the exit code."""
    dry_run = dry_run or settings.flag("MLFLOW_TRACKING_UPGRADE_DRY_RUN")
    report.add(dry_run=dry_run)
    store = database.check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    if store.file is not None and not store.file.is_file():
        if dry_run:
            report.add(outcome="dry-run", found=None, note="there is no such database; an upgrade would create it")
            return 0
        from mlflow_ae5_server import folders

        folders.make_writable(store.file.parent, "MLFLOW_BACKEND_STORE_URI")
    database.wait_until_ready(store, settings.seconds("MLFLOW_TRACKING_DATABASE_WAIT"))
    if dry_run:
        return _dry_run(store, report)
    with locks.maintenance(store, _LOCK_WAIT):
        before = _inspect(store)
        report.add(found=before.found, expected=before.expected, pending=len(database.pending_revisions(before)))
        if before.state == "current":
            report.add(outcome="unchanged", now=before.found)
            return 0
        _refuse_unknown(before, store)
        code = _run_mlflow(store)
        after = _inspect(store)
        report.add(now=after.found)
        if code == 0 and after.state == "current":
            report.add(outcome="initialised" if before.state == "empty" else "upgraded")
            return 0
        return code or SchemaError.exit_code


def _inspect(store: Database) -> Schema:
    return database.inspect_schema(database.connect_engine(store))


def _refuse_unknown(schema: Schema, store: Database) -> None:
    if schema.state == "unknown":
        database.require_current(schema, store)


def _dry_run(store: Database, report: Report) -> int:
    schema = _inspect(store)
    report.add(found=schema.found, expected=schema.expected)
    _refuse_unknown(schema, store)
    pending = database.pending_revisions(schema)
    print(f"{store.shown} is at revision {schema.found}, the installed MLflow needs {schema.expected}")
    for revision in pending:
        print(f"  would apply {revision}")
    report.add(outcome="dry-run", pending=len(pending))
    return 0


def _run_mlflow(store: Database) -> int:
    """MLflow's own command, in this process: the URI is an argument of a function, not of a process."""
    import click
    from mlflow.db import commands

    try:
        commands.main(["upgrade", store.uri], prog_name="mlflow db", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except Exception:  # whatever stops MLflow is reported as its failure, with the schema it left
        traceback.print_exc()
        return 1
    return 0
