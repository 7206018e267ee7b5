"""Backup: `create`, `verify`, `list`, `show` and `prune` of snapshots of this server."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from mlflow_ae5_server.common import folders, keys
from mlflow_ae5_server.common.contract import EXIT_CODES
from mlflow_ae5_server.common.errors import ConfigurationError, DamagedError, StorageError, UsageError
from mlflow_ae5_server.common.report import Report
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.common.text import amount, counted
from mlflow_ae5_server.database.connection import Database, check_uri, connect_engine, wait_until_ready
from mlflow_ae5_server.repository.check import CheckResult
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.open import open_backend
from mlflow_ae5_server.repository.repository import Repository, make_in, open_repository

INCOMPLETE = EXIT_CODES["incomplete"]


def run(settings: Settings, report: Report, options: argparse.Namespace) -> int:
    """Do `options.action` and leave the facts in `report`. Returns the exit code."""
    report.add(action=options.action)
    actions: dict[str, Callable[[Settings, Report, argparse.Namespace], int]] = {
        "create": _create,
        "verify": _verify,
        "list": _list,
        "show": _show,
        "prune": _prune,
    }
    return actions[options.action](settings, report, options)


def destination(settings: Settings) -> str:
    """MLFLOW_TRACKING_BACKUP_DESTINATION. Raises ConfigurationError where it says nothing."""
    url = settings.value("MLFLOW_TRACKING_BACKUP_DESTINATION")
    if not url:
        raise ConfigurationError(
            "MLFLOW_TRACKING_BACKUP_DESTINATION is not set", "give a folder, or s3://, gs://, abfss:// or az://"
        )
    return url


def _artifacts(settings: Settings) -> str:
    artifacts = settings.value("MLFLOW_ARTIFACTS_DESTINATION")
    if not artifacts:
        raise ConfigurationError("MLFLOW_ARTIFACTS_DESTINATION is not set", "give this job the one of the server")
    return artifacts


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _create(settings: Settings, report: Report, options: argparse.Namespace) -> int:
    from mlflow_ae5_server.backup import create as capture
    from mlflow_ae5_server.backup.open_artifacts import open_source
    from mlflow_ae5_server.database import dialects
    from mlflow_ae5_server.restore import journal

    location = destination(settings)
    store = check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    artifacts = _artifacts(settings)
    journal.refuse_unfinished(artifacts)  # it has put the database aside, perhaps
    if store.file is not None and not store.file.is_file():
        raise ConfigurationError(
            f"there is no database {store.shown}", "give this job the MLFLOW_BACKEND_STORE_URI of the server"
        )
    capture.refuse_overlap(artifacts, location)
    source = open_source(artifacts, capture.database_files(store))
    wait_until_ready(store, settings.seconds("MLFLOW_TRACKING_DATABASE_WAIT"))
    _require_tables(store)
    repository = make_in(open_backend(location))
    report.add(repository=repository.identity, snapshot_count=repository.number())
    if (folder := folders.local_folder(location)) and (warning := folders.persistence_warning(folder, os.environ)):
        _say(f"warning: MLFLOW_TRACKING_BACKUP_DESTINATION: {warning}")
    encrypted = keys.examine(connect_engine(store), os.environ)
    gone: dict[str, tuple[int, int]] = {}
    backup_options = capture.BackupOptions(
        rehash=options.rehash,
        allow_empty=options.allow_empty,
        on_gone=lambda what, missing, before: gone.update({what: (missing, before)}),
        say=_say,
        keys=tuple(keys.make_check(one.name, os.environ, one.rows) for one in encrypted),
    )
    manifest = capture.create(repository, store, source, artifacts, dialects.dump, backup_options)
    elsewhere = list(manifest.external)
    if registry := _other_registry(settings, store.uri):
        elsewhere.append(registry)
    nothing = "; nothing new had to be copied" if not manifest.new_objects else ""
    _say(f"snapshot {manifest.id}: {manifest.rows} rows, {manifest.artifacts.files} artifacts{nothing}")
    for name in (*elsewhere, *manifest.artifacts.unreadable):
        _say(f"warning: not in the snapshot: {name}")
    for what, (missing, before) in gone.items():
        _say(
            f"warning: {missing} of the {before} {what} of the snapshot before are not there any more: "
            "were they removed on purpose?"
        )
    for warning in (unsafe := keys.warnings(encrypted, os.environ)):
        _say(f"warning: {warning}")
    whole = not manifest.artifacts.unreadable and (not elsewhere or options.allow_external)
    report.add(
        outcome="done" if whole else "incomplete",
        **_fields(manifest),
        snapshot_count=repository.number(),
        **{f"missing_{what}": missing for what, (missing, _before) in gone.items()},
        **{f"previous_{what}": before for what, (_missing, before) in gone.items()},
        **_made(manifest),
        external=elsewhere,
        unsafe_keys=unsafe,
    )
    return 0 if whole else INCOMPLETE


def _made(manifest: Any) -> dict[str, Any]:
    """What is told of a snapshot right after it was made."""
    return {
        "new_objects": manifest.new_objects,
        "new_bytes": manifest.new_bytes,
        "stored_bytes": manifest.stored_bytes,
        "in_flight": {
            "running_runs": manifest.in_flight.running_runs,
            "changed_files": manifest.in_flight.changed_files,
            "vanished_files": manifest.in_flight.vanished_files,
        },
        "unreadable": list(manifest.artifacts.unreadable),
        "links": manifest.artifacts.links,
        "special": manifest.artifacts.special,
    }


def _fields(manifest: Any) -> dict[str, Any]:
    return {
        "snapshot": manifest.id,
        "runs": manifest.runs,
        "rows": manifest.rows,
        "tables": manifest.tables,
        "artifacts": manifest.artifacts.files,
        "artifact_bytes": manifest.artifacts.bytes,
    }


def _require_tables(store: Database) -> None:
    """Any schema that MLflow ever had can be in a snapshot, but an empty database is a mistake, not a backup."""
    from sqlalchemy import inspect

    if not {"experiments", "runs"} <= set(inspect(connect_engine(store)).get_table_names()):
        raise ConfigurationError(
            f"{store.shown} holds no MLflow tables", "give this job the MLFLOW_BACKEND_STORE_URI of the server"
        )


def _other_registry(settings: Settings, store: str) -> str | None:
    """The registry's own database, where it has one: it is not in the snapshot."""
    uri = settings.value("MLFLOW_REGISTRY_STORE_URI")
    if not uri:
        return None
    registry = check_uri(uri, "MLFLOW_REGISTRY_STORE_URI")
    return None if registry.uri == store else f"the model registry in {registry.shown}"


def _verify(settings: Settings, report: Report, options: argparse.Namespace) -> int:
    from mlflow_ae5_server.repository import check

    fraction = _fraction(options.sample)
    repository = _open(settings, report)
    manifest = repository.snapshot(options.snapshot)
    verified = check.verify(repository, manifest, fraction=fraction)
    if verified.in_full and not verified.found:
        _verify_rows(repository, manifest, verified)
    if verified.found:
        repository.snapshot(manifest.id)  # pruned meanwhile, its objects are rightly gone
    try:
        check.note(repository, manifest, verified)
    except StorageError as error:  # it is full, or read-only: what was read was read all the same
        _say(f"warning: the outcome of this check is told here and not remembered: {error.message}")
        report.add(not_recorded=error.message)
    report.add(
        outcome="failed" if verified.found else "done",
        snapshot=manifest.id,
        checked_objects=verified.checked_objects,
        of_objects=verified.of_objects,
        checked_bytes=verified.checked_bytes,
        damaged=[],
    )
    if verified.found:
        told = check.fields(manifest, verified)
        for found in told["damaged"]:
            _say(f"damaged: {found.get('object') or found.get('name')}: {found['what']}")
        report.add(**told)
        return DamagedError.exit_code
    _say(f"snapshot {manifest.id}: {verified.checked_objects} of {verified.of_objects} objects read, all right")
    return 0


def _verify_rows(repository: Repository, manifest: Manifest, verified: CheckResult) -> None:
    """Whether a restore would find the rows that the manifest describes. Of a newer MLflow's only its release knows."""
    from mlflow_ae5_server.database import dialects, schema

    part = dialects.DatabasePart.from_json(manifest.database)
    if not schema.is_supported(part.revision):
        return
    try:
        dialects.require_sound(part, repository.reader())
    except DamagedError as error:
        verified.add("name", manifest.id, error.message)
    except StorageError as error:
        _say(f"warning: the rows of the database were not checked: {error.message}")


def _fraction(sample: str | None) -> float:
    """`1%` as 0.01; 1 where nothing was said. Raises UsageError."""
    if sample is None:
        return 1.0
    try:
        fraction = float(sample.removesuffix("%")) / 100
    except ValueError:
        fraction = 0.0
    if not 0 < fraction <= 1:
        raise UsageError(f"--sample {sample} is no share of the objects", "write --sample 1%, or up to 100%")
    return fraction


def _open(settings: Settings, report: Report) -> Repository:
    repository = open_repository(destination(settings))
    report.add(repository=repository.identity)
    return repository


def _list(settings: Settings, report: Report, _options: argparse.Namespace) -> int:
    repository = _open(settings, report)
    listed = repository.listed()
    also = _also_damaged(repository, listed)
    shown = [_line(repository, one, also.get(one.name, 0)) for one in listed]
    unfinished = [one.id for one in repository.begun()]
    for line in shown:
        size = amount(line["artifact_bytes"]) if "artifact_bytes" in line else "?"
        _say(f"{line['sequence']:>6}  {line['snapshot']}  {size:>10}  {_told(line)}")
    for name in unfinished:
        _say(f"unfinished: {name}")
    report.add(outcome="done", snapshots=shown, unfinished=unfinished)
    return 0


def _also_damaged(repository: Repository, listed: list[Any]) -> dict[str, int]:
    """Of the snapshots, by name, how many of their objects are known as damaged, whoever has found that."""
    from mlflow_ae5_server.repository import check, damage

    manifests = [one.manifest for one in listed if one.manifest is not None]
    found = damage.affected(repository.backend, manifests, check.database_objects)
    return {name: len(objects) for name, objects in found.items()}


def _state(repository: Repository, name: str, also: int) -> dict[str, Any]:
    """`verified`: when everything was read and right. `sampled`: the last check, where that read a part. Both are None
    for what is damaged; `damaged` then says so, and `right` when nothing was found wrong."""
    from mlflow_ae5_server.repository import check

    known = check.state(repository, name)
    found = known.found if known is not None else 0
    if not found and not also:
        return {"verified": known and known.in_full, "sampled": known and known.sampled}
    message = f"{counted(max(found, also), 'objects')} missing or damaged"
    if known is not None and found:
        message += f", found {_time(known.at)}"
    right = known.right if known is not None else None
    message += f"; all that was read was right {_time(right)}" if right else ""
    when = known.at if known and found else None
    return {"verified": None, "sampled": None, "damaged": message, "damaged_found": when, "right": right}


def _told(line: dict[str, Any]) -> str:
    """What `_state` says, in a few words."""
    if line.get("damaged"):
        return f"DAMAGED: {line['damaged']}"
    message = [f"verified {_time(line['verified'])}"] if line["verified"] else []
    if sampled := line["sampled"]:
        message.append(f"sampled, {sampled['checked']} of {sampled['of'] or '?'}, {_time(sampled['at'])}")
    return "; ".join(message) or "not verified"


def _time(text: str) -> str:
    """ISO 8601, as people read it."""
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _line(repository: Repository, one: Any, also: int) -> dict[str, Any]:
    line: dict[str, Any] = {"snapshot": one.id, "sequence": one.sequence}
    if one.manifest is None:
        return {**line, "verified": None, "sampled": None, "complete": False, "damaged": one.problem}
    return {
        **line,
        "started": one.manifest.started,
        "finished": one.manifest.finished,
        "mlflow_version": one.manifest.mlflow_version,
        "revision": one.manifest.revision,
        "dialect": one.manifest.dialect,
        "rows": one.manifest.rows,
        "artifacts": one.manifest.artifacts.files,
        "artifact_bytes": one.manifest.artifacts.bytes,
        **_state(repository, one.name, also),
        "complete": one.manifest.complete,
    }


def _show(settings: Settings, report: Report, options: argparse.Namespace) -> int:
    import json

    repository = _open(settings, report)
    manifest = repository.snapshot(options.snapshot)
    shown = asdict(manifest)
    shown["read_from"] = datetime.fromtimestamp(manifest.read_from, UTC).isoformat(timespec="seconds")
    shown["artifacts"].pop("lists")
    shown["keys"] = keys.told(manifest.keys, os.environ)
    shown["database"] = {**shown["database"], "file": len(shown["database"].get("file", ()))}
    shown["database"]["tables"] = [
        {key: value for key, value in table.items() if key != "objects"} for table in shown["database"]["tables"]
    ]
    shown["complete"] = manifest.complete
    listed = [one for one in repository.listed() if one.name == manifest.name]
    shown |= _state(repository, manifest.name, _also_damaged(repository, listed).get(manifest.name, 0))
    _say(json.dumps(shown, indent=2))
    report.add(outcome="done", manifest=shown)
    return 0


def _prune(settings: Settings, report: Report, options: argparse.Namespace) -> int:
    from mlflow_ae5_server.repository import prune
    from mlflow_ae5_server.restore import journal

    keep = prune.RetentionPolicy(options.keep_last, options.keep_daily, options.keep_weekly)
    artifacts = _artifacts(settings)
    repository = _open(settings, report)
    plan = prune.prune(
        repository,
        keep,
        act=options.yes,
        drop=options.drop_damaged,
        allowed=lambda: journal.refuse_unfinished(artifacts),  # it needs its snapshot to go on
    )
    verb = "removed" if options.yes else "would remove"
    for name in plan.removed:
        _say(f"{verb} the snapshot {name}")
    for name in plan.unfinished:
        _say(f"{verb} the unfinished snapshot {name}")
    _say(f"{verb} {counted(plan.objects, 'objects')} that nothing refers to, {amount(plan.freed_bytes)}")
    if plan.held:
        _say(plan.held)
    for name, message in plan.lacking:
        _say(f"damaged: the snapshot {name}: {message}")
    if plan.unnoted:
        _say(f"warning: that is told here and not remembered: {plan.unnoted}")
        report.add(not_recorded=plan.unnoted)
    if not options.yes and (left := journal.unfinished(artifacts)):
        report.add(interrupted_restore=left)
    report.add(
        outcome="done" if options.yes else "dry-run",
        kept=list(plan.kept),
        unfinished=list(plan.unfinished),
        objects=plan.objects,
        freed_bytes=plan.freed_bytes,
        guard=plan.held,
        incomplete=[{"snapshot": name, "what": message} for name, message in plan.lacking],
        **{"removed" if options.yes else "would_remove": list(plan.removed)},
    )
    return 0
