"""Restore a snapshot, undo a restore, and list or delete the saved copies of restores."""

from __future__ import annotations

import argparse
import contextlib
from contextlib import AbstractContextManager

from mlflow_ae5_server.common import folders, progress
from mlflow_ae5_server.common.errors import Configuration, ProjectError, RepositoryFailed
from mlflow_ae5_server.common.report import Report, say
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.common.text import counted_files, moment
from mlflow_ae5_server.database import character_sets, locks
from mlflow_ae5_server.database.connection import Database, check_uri
from mlflow_ae5_server.restore import dry_run, journal, list_saved, preflight
from mlflow_ae5_server.restore.files import RestoreCounts
from mlflow_ae5_server.restore.open import open_saved_copies, open_target
from mlflow_ae5_server.restore.preflight import RestoreTarget, TargetState
from mlflow_ae5_server.restore.source import RestoreSource, find_source
from mlflow_ae5_server.restore.steps import Restore, RestoreResult
from mlflow_ae5_server.restore.target import ArtifactTarget
from mlflow_ae5_server.restore.undo import UndoRestore

LOCK_WAIT = 60.0  # seconds


def run(settings: Settings, report: Report, options: argparse.Namespace, lock_wait: float = LOCK_WAIT) -> int:
    """Run what `options` ask for. `lock_wait`: seconds until others must release the database."""
    store = check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    destination = settings.required("MLFLOW_ARTIFACTS_DESTINATION")
    target = RestoreTarget(store, destination, open_saved_copies(destination))
    try:
        if options.undo:
            if not options.dry_run:
                progress.start("Restore", "undo")
            _undo(settings, report, options, target, lock_wait)
        elif options.list_saved:
            preflight.wait_for_database(settings, store)
            list_saved.list_copies(target, report)
        elif options.drop_saved is not None:
            preflight.wait_for_database(settings, store)
            with contextlib.nullcontext() if options.dry_run else _locked(store, lock_wait):
                list_saved.drop_copy(target, report, options.drop_saved, dry_run=options.dry_run)
        else:
            _restore(settings, report, options, target, lock_wait)
        return 0
    finally:  # after a stop as well: the last line of the log says whether a server may be started
        with contextlib.suppress(ProjectError):
            report.add(interrupted_restore=journal.interrupted(destination))


def _restore(
    settings: Settings, report: Report, options: argparse.Namespace, target: RestoreTarget, lock_wait: float
) -> None:
    backups = settings.required("MLFLOW_TRACKING_BACKUP_DESTINATION")
    preflight.refuse_nesting(target, backups)
    store, replace, upgrade = target.store, options.replace, not options.no_upgrade
    source = find_source(backups, _snapshot(options.snapshot, target), shorten=options.shorten_text)
    report.add(**source.describe(store))
    source.report_keys(report)
    preflight.refuse_kind(source.snapshot, source.part, store)
    if options.dry_run:
        progress.start("Restore", "dry-run")
        dry_run.restore(settings, report, source, target, replace=replace, upgrade=upgrade)
        return
    progress.start("Restore", without=() if upgrade and source.is_outdated else ("migrate",))
    preflight.check(source.repository, source.snapshot).require_intact(source.snapshot)
    with progress.phase("check-target"):
        preflight.wait_for_database(settings, store)
        character_sets.require_database(store)
        artifacts = open_target(target.destination)
        source.refuse_names(artifacts)
        preflight.refuse_rights(target, replace=replace)
        _observe(target, replace=replace)  # before the lock creates a file next to a SQLite database
        shortened = source.refuse_values(store, report)
        matching = _matching_artifacts(source, target, artifacts, options)
        if target.journal().running is None:
            preflight.refuse_tight(target, source.snapshot, source.part, artifacts=matching is None)
    with _locked(store, lock_wait):
        observed = _observe(target, replace=replace)
        restore = Restore(source, target, artifacts, target.journal(), replace, upgrade, matching)
        result = restore.run(observed)
    _report_result(report, result, shortened=shortened > 0)
    _list_saved(target)


def _report_result(report: Report, result: RestoreResult, *, shortened: bool) -> None:
    report.add(
        artifacts=result.artifacts.files,
        artifact_bytes=result.artifacts.bytes,
        written_files=result.artifacts.written,
        links=result.artifacts.links,
        not_restored=result.artifacts.left_out[:20],
        artifacts_identical=True,  # otherwise the restore has raised
        database_identical=False if shortened else result.database_identical,
        saved_copy=result.saved_copy,
        upgraded=result.upgraded,
        outcome="done",
    )


def _snapshot(which: str, target: RestoreTarget) -> str:
    """The snapshot to restore; `latest` means that of an interrupted restore, where there is one."""
    running = target.journal().running
    if running is None:
        return which
    if running.is_undo:
        raise Configuration(
            f"an undo {running.start} has not finished",
            "run `restore --undo` first, which finishes it",
        )
    return running.snapshot if which == "latest" else which


def _observe(target: RestoreTarget, *, replace: bool) -> TargetState:
    """Observe the target. Raises TargetInUse, or TargetNotEmpty where nothing is resumed and nothing may be saved."""
    observed = target.observe()
    observed.refuse_user()
    observed.refuse_foreign()
    if not replace and target.journal().running is None:
        observed.refuse_occupied()
    return observed


def _matching_artifacts(
    source: RestoreSource, target: RestoreTarget, artifacts: ArtifactTarget, options: argparse.Namespace
) -> RestoreCounts | None:
    """The artifacts of the snapshot that stay where they are. A resumed restore does as it did before."""
    running = target.journal().running
    if not (options.same_artifacts if running is None else running.artifacts_stay):
        return None
    matching = source.matching_artifacts(artifacts)
    if matching is not None:
        say(f"{counted_files(matching.files, matching.bytes)} of the snapshot stay at {artifacts.shown}")
    elif running is not None and running.snapshot == source.snapshot.id:
        raise RepositoryFailed(
            f"the artifacts at {artifacts.shown} have changed since the restore of {running.snapshot} was started",
            "find the program that writes there; `restore --undo` brings back the previous database",
        )
    return matching


def _undo(
    settings: Settings, report: Report, options: argparse.Namespace, target: RestoreTarget, lock_wait: float
) -> None:
    undo = UndoRestore(target, target.journal(), options.saved)
    if options.dry_run:
        dry_run.undo(settings, report, undo)
    else:
        undo.choose()
        preflight.wait_for_database(settings, target.store)
        target.observe().refuse_user()
        file = target.store.file
        if file is not None and not file.parent.is_dir():
            raise Configuration(f"there is no folder {file.parent}", "check MLFLOW_BACKEND_STORE_URI")
        with _locked(target.store, lock_wait):
            target.observe().refuse_user()
            restored, saved = UndoRestore(target, target.journal(), options.saved).run()
        say(f"brought back {restored}" + (f"; the data it replaced is saved as {saved}" if saved else ""))
        report.add(outcome="undone", restored_copy=restored, saved_copy=saved)
    _list_saved(target)


def _locked(store: Database, seconds: float) -> AbstractContextManager[None]:
    if store.file is not None:
        folders.make_writable(store.file.parent, "MLFLOW_BACKEND_STORE_URI")
    return locks.maintenance(store, seconds)


def _list_saved(target: RestoreTarget) -> None:
    for copy in target.journal().saved:
        say(f"saved copy: {copy.name} ({copy.contents}), {moment(copy.time)}")
