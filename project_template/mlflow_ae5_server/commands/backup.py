"""Backup: `create`, `verify`, `list`, `show` and `prune` snapshots."""

from __future__ import annotations

import argparse
import os
import traceback
from collections.abc import Callable
from typing import Any

from mlflow_ae5_server.common import folders, keys, progress
from mlflow_ae5_server.common.contract import EXIT_CODES
from mlflow_ae5_server.common.errors import ProjectError, RepositoryFailed, SnapshotDamaged, Usage
from mlflow_ae5_server.common.report import Report, say, warn
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.common.text import amount, counted
from mlflow_ae5_server.database.connection import (
    Database,
    absent,
    check_uri,
    connect_engine,
    wait_until_ready,
    without_tables,
)
from mlflow_ae5_server.repository.check import CheckResult
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.prune import PrunePlan, prune
from mlflow_ae5_server.repository.repository import Repository, create_repository, open_backend, open_repository
from mlflow_ae5_server.repository.retention import RetentionPolicy
from mlflow_ae5_server.restore import journal


def run(settings: Settings, report: Report, options: argparse.Namespace) -> int:
    """Do `options.action` and report on it. Returns the exit code."""
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
    return settings.required("MLFLOW_TRACKING_BACKUP_DESTINATION", "use a folder, or s3://, gs://, abfss:// or az://")


def _open(settings: Settings, report: Report) -> Repository:
    repository = open_repository(destination(settings))
    report.add(repository=repository.identity)
    return repository


# create


def _create(settings: Settings, report: Report, options: argparse.Namespace) -> int:
    from mlflow_ae5_server.backup.create import BackupOptions, create_snapshot
    from mlflow_ae5_server.backup.external_artifacts import refuse_overlap
    from mlflow_ae5_server.backup.open_artifacts import open_artifacts
    from mlflow_ae5_server.database import dump

    policy = _policy(options)
    without = ("examine-snapshots", "delete-objects") if policy.keeps_all else ()
    progress.start("Backup", "create", without=without)
    location, artifacts = destination(settings), settings.required("MLFLOW_ARTIFACTS_DESTINATION")
    store = check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    journal.refuse_interrupted(artifacts)  # before the database: a restore may have moved it away
    if store.file is not None and not store.file.is_file():
        raise absent(store)
    refuse_overlap(artifacts, location)
    source = open_artifacts(artifacts, store)
    wait_until_ready(store, settings.seconds("MLFLOW_TRACKING_DATABASE_WAIT"))
    _require_tables(store)
    repository = create_repository(open_backend(location))
    report.add(repository=repository.identity, snapshot_count=repository.count())
    if (folder := folders.local_folder(location)) and (warning := folders.persistence_warning(folder, os.environ)):
        warn(f"MLFLOW_TRACKING_BACKUP_DESTINATION: {warning}")
    encrypted = keys.examine(connect_engine(store), os.environ)
    gone: dict[str, tuple[int, int]] = {}
    backup_options = BackupOptions(
        rehash=options.rehash,
        allow_empty=options.allow_empty,
        on_gone=lambda what, missing, previous: gone.update({what: (missing, previous)}),
        keys=tuple(keys.make_check(one.name, os.environ, one.rows) for one in encrypted),
    )
    manifest = create_snapshot(repository, store, source, artifacts, dump.dump, backup_options)
    external = [*manifest.external, *_other_registry(settings, store.uri)]
    complete = not manifest.artifacts.unreadable and (not external or options.allow_external)
    unsafe = keys.warnings(encrypted, os.environ)
    _say_created(manifest, external, gone, unsafe)
    report.add(
        outcome="done" if complete else "incomplete",
        **_created(manifest),
        snapshot_count=repository.count(),
        **{f"missing_{what}": missing for what, (missing, _previous) in gone.items()},
        **{f"previous_{what}": previous for what, (_missing, previous) in gone.items()},
        external=external,
        unsafe_keys=unsafe,
    )
    if not policy.keeps_all:
        missing = [f"many {what} of the previous one are missing" for what in gone]
        _delete_older(repository, policy, artifacts, report, missing if complete else ["it is incomplete"])
    return 0 if complete else EXIT_CODES["incomplete"]


def _delete_older(
    repository: Repository, policy: RetentionPolicy, artifacts: str, report: Report, doubts: list[str]
) -> None:
    """Prune after a backup, which is done whatever becomes of this. doubts: about the new snapshot."""
    if doubts:
        warn(f"older snapshots were not deleted, because of the new one: {' and '.join(doubts)}")
        return
    try:
        plan = prune(repository, policy, apply=True, guard=lambda: journal.refuse_interrupted(artifacts))
    except Exception as caught:
        error = caught if isinstance(caught, ProjectError) else ProjectError(f"{type(caught).__name__}: {caught}")
        if error is not caught:
            traceback.print_exc()
        say(f"warning: older snapshots were not deleted: {error}")
        report.add(prune_error=error.message, prune_hint=error.hint)
        return
    _say_pruned(plan, "deleted")
    report.add(**_pruned(plan), removed=list(plan.removed), snapshot_count=repository.count())


def _say_created(manifest: Manifest, external: list[str], gone: dict[str, tuple[int, int]], unsafe: list[str]) -> None:
    contents = f"{counted(manifest.rows, 'rows')}, {counted(manifest.artifacts.files, 'artifacts')}"
    say(f"snapshot {manifest.id}: {contents}{'' if manifest.new_objects else '; unchanged since the previous one'}")
    for name in (*external, *manifest.artifacts.unreadable):
        say(f"warning: not in the snapshot: {name}")
    for what, (missing, previous) in gone.items():
        say(
            f"warning: {missing} of the {previous} {what} of the previous snapshot no longer exist; "
            "check that they were deleted on purpose"
        )
    for warning in unsafe:
        say(f"warning: {warning}")


def _created(manifest: Manifest) -> dict[str, Any]:
    """The report fields of a new snapshot."""
    return {
        "snapshot": manifest.id,
        "runs": manifest.runs,
        "deleted_runs": manifest.deleted_runs,
        "models": manifest.models,
        "rows": manifest.rows,
        "tables": manifest.tables,
        "artifacts": manifest.artifacts.files,
        "artifact_bytes": manifest.artifacts.bytes,
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


def _require_tables(store: Database) -> None:
    """Any schema of MLflow can be backed up, but an empty database is a mistake."""
    from sqlalchemy import inspect

    if not {"experiments", "runs"} <= set(inspect(connect_engine(store)).get_table_names()):
        raise without_tables(store)


def _other_registry(settings: Settings, store: str) -> list[str]:
    """The model registry's own database, if it has one: it is not in the snapshot."""
    uri = settings.value("MLFLOW_REGISTRY_STORE_URI")
    registry = check_uri(uri, "MLFLOW_REGISTRY_STORE_URI") if uri else None
    return [f"the model registry in {registry.shown}"] if registry is not None and registry.uri != store else []


# verify


def _verify(settings: Settings, report: Report, options: argparse.Namespace) -> int:
    from mlflow_ae5_server.repository import check

    fraction = _fraction(options.sample)
    progress.start("Backup", "verify", without=() if fraction == 1 else ("check-rows",))
    repository = _open(settings, report)
    manifest = repository.snapshot(options.snapshot)
    result = check.verify(repository, manifest, fraction=fraction)
    if result.in_full and not result.damaged_total:
        _verify_rows(repository, manifest, result)
    if result.damaged_total:
        repository.snapshot(manifest.id)  # if it was pruned meanwhile, its blobs are rightly gone
    try:
        check.note(repository, manifest, result)
    except RepositoryFailed as error:  # full or read-only
        say(f"warning: the result of this check could not be recorded: {error.message}")
        report.add(not_recorded=error.message)
    report.add(
        outcome="failed" if result.damaged_total else "done",
        snapshot=manifest.id,
        checked_objects=result.checked_objects,
        of_objects=result.of_objects,
        checked_bytes=result.checked_bytes,
        damaged=[],
    )
    if result.damaged_total:
        fields = check.report_fields(manifest, result)
        for entry in fields["damaged"]:
            say(f"damaged: {entry.get('object') or entry.get('name')}: {entry['what']}")
        report.add(**fields)
        return SnapshotDamaged.exit_code
    objects = f"{result.checked_objects} of {counted(result.of_objects, 'objects')}"
    say(f"snapshot {manifest.id}: {objects} read, no damage found")
    return 0


def _verify_rows(repository: Repository, manifest: Manifest, result: CheckResult) -> None:
    """Check the rows of the database, if this MLflow knows the schema."""
    from mlflow_ae5_server.database import load, schema
    from mlflow_ae5_server.database.contents import DatabasePart

    part = DatabasePart.from_json(manifest.database)
    if not schema.is_supported(part.revision):
        return
    try:
        with progress.phase("check-rows"):
            load.require_sound(part, repository.reader())
    except SnapshotDamaged as error:
        result.add("name", manifest.id, error.message)
    except RepositoryFailed as error:
        warn(f"the rows of the database could not be checked: {error.message}")


def _fraction(sample: str | None) -> float:
    """`1%` as 0.01; 1 without --sample. Raises Usage."""
    if sample is None:
        return 1.0
    try:
        fraction = float(sample.removesuffix("%")) / 100
    except ValueError:
        fraction = 0.0
    if not 0 < fraction <= 1:
        raise Usage(f"--sample {sample} is not a share of the objects", "write --sample 1%, or up to 100%")
    return fraction


# list, show


def _list(settings: Settings, report: Report, _options: argparse.Namespace) -> int:
    from mlflow_ae5_server.repository import summary

    repository = _open(settings, report)
    snapshots = summary.describe(repository, repository.snapshots())
    unfinished = [snapshot.id for snapshot in repository.unfinished()]
    for fields in snapshots:
        size = amount(fields["artifact_bytes"]) if "artifact_bytes" in fields else "?"
        say(f"{fields['sequence']:>6}  {fields['snapshot']}  {size:>10}  {summary.check_text(fields)}")
    for name in unfinished:
        say(f"unfinished: {name}")
    report.add(outcome="done", snapshots=snapshots, unfinished=unfinished)
    return 0


def _show(settings: Settings, report: Report, options: argparse.Namespace) -> int:
    import json

    from mlflow_ae5_server.repository import summary

    repository = _open(settings, report)
    manifest = repository.snapshot(options.snapshot)
    fields = summary.describe_manifest(repository, manifest)
    fields["keys"] = keys.compare_all(manifest.keys, os.environ)
    say(json.dumps(fields, indent=2))
    report.add(outcome="done", manifest=fields)
    return 0


# prune


def _prune(settings: Settings, report: Report, options: argparse.Namespace) -> int:
    progress.start("Backup", "prune", without=() if options.yes else ("delete-objects",))
    artifacts = settings.required("MLFLOW_ARTIFACTS_DESTINATION")
    repository = _open(settings, report)
    plan = prune(
        repository,
        _policy(options),
        apply=options.yes,
        drop=options.drop_damaged,
        guard=lambda: journal.refuse_interrupted(artifacts),  # an interrupted restore needs its snapshot
    )
    _say_pruned(plan, "deleted" if options.yes else "would delete")
    if not options.yes and (interrupted := journal.interrupted(artifacts)):
        report.add(interrupted_restore=interrupted)
    report.add(
        outcome="done" if options.yes else "dry-run",
        **_pruned(plan),
        **{"removed" if options.yes else "would_remove": list(plan.removed)},
    )
    return 0


def _policy(options: argparse.Namespace) -> RetentionPolicy:
    """Raises Usage."""
    return RetentionPolicy(options.keep_last, options.keep_daily, options.keep_weekly)


def _say_pruned(plan: PrunePlan, verb: str) -> None:
    for name in plan.removed:
        say(f"{verb} snapshot {name}")
    for name in plan.unfinished:
        say(f"{verb} unfinished snapshot {name}")
    say(f"{verb} {counted(plan.objects, 'unused objects')}, {amount(plan.freed_bytes)}")
    if plan.refused:
        say(plan.refused)
    for name, message in plan.lacking:
        say(f"damaged: snapshot {name}: {message}")
    if plan.unrecorded:
        say(f"warning: the damage could not be recorded: {plan.unrecorded}")


def _pruned(plan: PrunePlan) -> dict[str, Any]:
    """The report fields of a prune, but for the deleted snapshots."""
    return {
        "kept": list(plan.kept),
        "kept_because": list(plan.kept_because),
        "unfinished": list(plan.unfinished),
        "objects": plan.objects,
        "freed_bytes": plan.freed_bytes,
        "guard": plan.refused,
        "incomplete": [{"snapshot": name, "what": message} for name, message in plan.lacking],
        **({"not_recorded": plan.unrecorded} if plan.unrecorded else {}),
    }
