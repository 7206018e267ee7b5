"""Check what the server depends on: database, artifacts, keys, endpoint.

Nothing is changed: no database and no folder is created, and the one small object that tests writing to an artifact
store is deleted again. Every part is checked, also after another one failed.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow_ae5_server.common import folders, json_input, keys, progress
from mlflow_ae5_server.common.errors import Configuration, ProjectError, Unreachable, hint_for
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.common.report import Report, say
from mlflow_ae5_server.common.server_probe import Prober
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.database import character_sets
from mlflow_ae5_server.database.connection import check_uri, connect_engine, wait_until_ready
from mlflow_ae5_server.database.schema import inspect_schema, missing_tables, mlflow_version, require_current
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.repository import open_repository

_DATABASE_WAIT = 20.0  # seconds at most
_PREFIX = "mlflow-ae5-check"  # of the names of temporary files


def run(settings: Settings, report: Report, _dry_run: bool) -> int:
    """Report on each part; return the exit code of the first failure.

    A part is `{"ok": true, "message": ...}`. "ok" is null where there was nothing to check.
    """
    import sqlalchemy

    report.add(mlflow=mlflow_version(), sqlalchemy=sqlalchemy.__version__)
    parts: dict[str, Callable[[Settings], dict[str, Any]]] = {
        "database": _check_database,
        "artifacts": _check_artifacts,
        "keys": _check_keys,
        "server": _check_server,
    }
    progress.start("Check")
    codes = [_try(name, check, settings, report) for name, check in parts.items()]
    failed = [code for code in codes if code]
    report.add(outcome="failed" if failed else "ok")
    return failed[0] if failed else 0


def _try(name: str, check: Callable[[Settings], dict[str, Any]], settings: Settings, report: Report) -> int:
    try:
        with progress.phase(f"check-{name}"):
            fields = check(settings)
    except ProjectError as error:
        report.add(**{name: {"ok": False, "message": scrub(error.message), "hint": scrub(error.hint)}})
        say(f"{name}: {error}")
        return error.exit_code
    report.add(**{name: fields})
    say(f"{name}: {fields['message']}")
    return 0


def _check_database(settings: Settings) -> dict[str, Any]:
    store = check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    fields: dict[str, Any] = {"ok": True, "dialect": store.dialect, "driver": store.driver}
    if store.file is not None:
        _require_writable(store.file.parent, "MLFLOW_BACKEND_STORE_URI")
        if warning := folders.persistence_warning(store.file.parent, os.environ):
            fields["warning"] = warning
        if not store.file.is_file():
            return {**fields, "schema": "absent", "message": f"{store.shown} does not exist yet; the server creates it"}
        if not os.access(store.file, os.W_OK):
            raise Configuration(f"{store.shown} cannot be written to", "give this account write permission there")
    wait_until_ready(store, min(_DATABASE_WAIT, settings.seconds("MLFLOW_TRACKING_DATABASE_WAIT")))
    character_sets.require_database(store)
    schema = inspect_schema(connect_engine(store))
    if schema.state != "empty":
        require_current(schema, store)
        character_sets.require_tables(store)
    message = f"{store.shown} answers, "
    message += f"tables are missing: {missing_tables(schema)}" if schema.missing else f"its schema is {schema.state}"
    return {
        **fields,
        "schema": schema.state,
        "revision": schema.found,
        "expected_revision": schema.expected,
        "message": message,
    }


def _check_artifacts(settings: Settings) -> dict[str, Any]:
    destination = settings.required("MLFLOW_ARTIFACTS_DESTINATION", "set it to a folder, s3://, wasbs:// ...")
    folder = folders.local_folder(destination)
    if folder is None:
        return _check_remote(destination)
    existing = _require_writable(folder, "MLFLOW_ARTIFACTS_DESTINATION")
    absent = f"{folder} does not exist yet and can be created in {existing}"
    message = f"{folder} is writable" if existing == folder else absent
    fields: dict[str, Any] = {"ok": True, "kind": "folder", "message": message}
    if warning := folders.persistence_warning(folder, os.environ):
        fields["warning"] = warning
    return fields


def _check_remote(destination: str) -> dict[str, Any]:
    # The defaults of these clients retry for minutes.
    os.environ.setdefault("AWS_MAX_ATTEMPTS", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    name, shown = f"{_PREFIX}-{secrets.token_hex(6)}.txt", scrub(destination)
    step = "be opened"
    try:
        store: Any = get_artifact_repository(destination)
        with tempfile.TemporaryDirectory(prefix=_PREFIX) as scratch:
            file = Path(scratch) / name
            file.write_text("A test of write access; it may be deleted.\n")
            step = "be written to"
            store.log_artifact(str(file))
        step = "be deleted from (garbage collection needs that)"
        store.delete_artifacts(name)
    except Exception as error:  # every kind of store has exceptions of its own
        reason = scrub((str(error).splitlines() or [""])[0] or type(error).__name__)[:300]
        raise Unreachable(
            f"the artifact store {shown} cannot {step}: {reason}",
            "check the name, the network and the credentials (AWS_..., AZURE_..., GOOGLE_... as AE5 secrets)",
        ) from None
    return {
        "ok": True,
        "kind": destination.partition(":")[0].lower(),
        "message": f"{shown} can be written to and deleted from",
    }


def _require_writable(folder: Path, setting: str) -> Path:
    """The folder, or the nearest existing one above it, if it is writable."""
    existing = folders.nearest_existing(folder)
    if not existing.is_dir():
        raise Configuration(f"{existing} is a file, not a folder", f"set {setting} to another path")
    try:
        with tempfile.TemporaryFile(prefix=_PREFIX, dir=existing):
            return existing
    except OSError as error:
        raise Configuration(
            f"the folder {existing} is not writable: {error.strerror}",
            f"{hint_for(error)}, or set {setting} to another path",
        ) from None


def _check_keys(settings: Settings) -> dict[str, Any]:
    """Check that the current keys decrypt the database, and compare them.

    With those of the newest snapshot, and with MLFLOW_TRACKING_CHECK_VALUES, check values of the administrator's keys.
    """
    keys.require_usable(os.environ)
    # As a list: a value behind the name of a key is masked in logs.
    compared = [{"name": check.name, "at_hand": keys.compare(check, os.environ)} for check in _check_values(settings)]
    fields: dict[str, Any] = {"ok": True, "compared": compared}
    encrypted = _encrypted(settings)
    warnings = keys.warnings(encrypted, os.environ)
    read = [
        f"{one.rows - len(one.published) - len(one.lost)} of {one.rows} {keys.PROTECTS[one.name]}" for one in encrypted
    ]
    newest = _newest(settings)
    if newest is not None:
        fields["snapshot"] = newest.id
        fields["keys"] = keys.compare_all(newest.keys, os.environ)
        warnings += [f"snapshot {newest.id}: {text}" for text in keys.differences(fields["keys"])]
    if warnings:
        fields["warnings"] = warnings
    return {**fields, "message": f"the current keys decrypt {' and '.join(read) or 'nothing yet'}"}


def _encrypted(settings: Settings) -> list[keys.Encrypted]:
    """Empty without a reachable database, which `_check_database` reports."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        store = check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
        if store.file is not None and not store.file.is_file():
            return []
        return keys.examine(connect_engine(store), os.environ)
    except (ProjectError, SQLAlchemyError):
        return []


def _check_values(settings: Settings) -> tuple[keys.KeyCheck, ...]:
    try:
        return keys.parse(json_input.parse(settings.value("MLFLOW_TRACKING_CHECK_VALUES") or "[]"))
    except (ValueError, TypeError):
        raise Configuration("MLFLOW_TRACKING_CHECK_VALUES holds no check values", "leave it out") from None


def _newest(settings: Settings) -> Manifest | None:
    """The newest snapshot; None where none can be read from here."""
    try:
        repository = open_repository(settings.value("MLFLOW_TRACKING_BACKUP_DESTINATION") or "")
        return repository.snapshot("latest")
    except ProjectError:
        return None


def _check_server(settings: Settings) -> dict[str, Any]:
    uri = settings.value("MLFLOW_TRACKING_URI")
    if not uri:
        return {"ok": None, "message": "MLFLOW_TRACKING_URI is not set"}
    Prober(uri, os.environ).check()
    return {"ok": True, "message": f"{scrub(uri)} accepts the token of this job and reaches its database"}
