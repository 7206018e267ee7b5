"""Restore a snapshot, undo a restore, and list or delete the saved copies of restores."""

from __future__ import annotations

import argparse
import contextlib
from contextlib import AbstractContextManager

from mlflow_ae5_server.common import folders
from mlflow_ae5_server.common.errors import ConfigurationError, ProjectError, StorageError
from mlflow_ae5_server.common.report import Report, say
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.common.text import amount
from mlflow_ae5_server.database import character_sets, locks
from mlflow_ae5_server.database.connection import Database, check_uri
from mlflow_ae5_server.restore import dry_run, journal, list_saved, preflight
from mlflow_ae5_server.restore.files import RestoreCounts
from mlflow_ae5_server.restore.journal import RestoreJournalFile
from mlflow_ae5_server.restore.open import open_saved_copies, open_target
from mlflow_ae5_server.restore.saved_copies import SavedCopies
from mlflow_ae5_server.restore.source import RestoreSource, find_source
from mlflow_ae5_server.restore.steps import Restore, RestoreResult
from mlflow_ae5_server.restore.target import ArtifactTarget
from mlflow_ae5_server.restore.undo import UndoRestore

LOCK_WAIT = 60.0  # seconds


def run(settings: Settings, report: Report, options: argparse.Namespace, lock_wait: float = LOCK_WAIT) -> int:
    """Run what `options` ask for. `lock_wait`: seconds for a running garbage collection or backup to end."""
    store = check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    destination = _required(settings, "MLFLOW_ARTIFACTS_DESTINATION")
    saved_copies = open_saved_copies(destination)
    try:
        if options.undo:
            _undo(settings, report, options, store, saved_copies, lock_wait)
        elif options.list_saved:
            preflight.wait_for_database(settings, store)
            list_saved.list_copies(store, saved_copies, report)
        elif options.drop_saved is not None:
            preflight.wait_for_database(settings, store)
            with contextlib.nullcontext() if options.dry_run else _locked(store, lock_wait):
                list_saved.drop_copy(store, saved_copies, report, options.drop_saved, dry_run=options.dry_run)
        else:
            _restore(settings, report, options, store, destination, saved_copies, lock_wait)
        return 0
    finally:  # after a stop as well: the last line of the log says whether a server may be started
        with contextlib.suppress(ProjectError):
            report.add(interrupted_restore=journal.interrupted(destination))


def _restore(
    settings: Settings,
    report: Report,
    options: argparse.Namespace,
    store: Database,
    destination: str,
    saved_copies: SavedCopies,
    lock_wait: float,
) -> None:
    backups = _required(settings, "MLFLOW_TRACKING_BACKUP_DESTINATION")
    preflight.refuse_nesting(store, destination, backups)
    source = find_source(backups, _snapshot(options.snapshot, saved_copies), shorten=options.shorten_text)
    report.add(**source.describe(store))
    source.report_keys(report)
    preflight.refuse_kind(source.snapshot, source.part, store)
    replace, upgrade = options.replace, not options.no_upgrade
    if options.dry_run:
        dry_run.restore(settings, report, source, store, destination, saved_copies, replace=replace, upgrade=upgrade)
        return
    preflight.check(source.repository, source.snapshot).require_intact(source.snapshot)
    preflight.wait_for_database(settings, store)
    character_sets.require_database(store)
    target = open_target(destination)
    source.refuse_names(target)
    preflight.refuse_rights(store, destination, replace=replace)
    _observe(store, saved_copies, replace=replace)  # before the lock creates a file next to a SQLite database
    shortened = source.refuse_values(store, report)
    matching = _matching_artifacts(source, target, saved_copies, options)
    if RestoreJournalFile(saved_copies).running is None:
        preflight.refuse_tight(store, destination, source.snapshot, source.part, artifacts=matching is None)
    with _locked(store, lock_wait):
        observed = _observe(store, saved_copies, replace=replace)
        restore = Restore(
            source, store, target, saved_copies, RestoreJournalFile(saved_copies), replace, upgrade, matching
        )
        result = restore.run(observed)
    _report_result(report, result, shortened=shortened > 0)
    _list_saved(saved_copies)


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


def _snapshot(which: str, saved_copies: SavedCopies) -> str:
    """The snapshot to restore; `latest` means that of an interrupted restore, where there is one."""
    running = RestoreJournalFile(saved_copies).running
    if running is None:
        return which
    if running.is_undo:
        raise ConfigurationError(
            f"an undo started {running.started} by {running.started_by} has not ended",
            "finish it first: restore --undo",
        )
    return running.snapshot if which == "latest" else which


def _observe(store: Database, saved_copies: SavedCopies, *, replace: bool) -> preflight.TargetState:
    """Observe the target. Raises InUseError, or NotEmptyError where nothing is resumed and nothing may be saved."""
    observed = preflight.observe(store, saved_copies)
    preflight.refuse_user(observed, store)
    preflight.refuse_foreign(observed, store)
    if not replace and RestoreJournalFile(saved_copies).running is None:
        preflight.refuse_occupied(observed, store, saved_copies)
    return observed


def _matching_artifacts(
    source: RestoreSource, target: ArtifactTarget, saved_copies: SavedCopies, options: argparse.Namespace
) -> RestoreCounts | None:
    """The artifacts of the snapshot that stay where they are. A resumed restore does as it did before."""
    running = RestoreJournalFile(saved_copies).running
    if not (options.same_artifacts if running is None else running.artifacts_stay):
        return None
    matching = source.matching_artifacts(target)
    if matching is not None:
        say(f"{matching.files} files ({amount(matching.bytes)}) of the snapshot stay at {saved_copies.shown}")
    elif running is not None and running.snapshot == source.snapshot.id:
        raise StorageError(
            f"the artifacts at {saved_copies.shown} have changed since the restore of {running.snapshot} was started",
            "find out who writes there; `restore --undo` brings the previous database back",
        )
    return matching


def _undo(
    settings: Settings,
    report: Report,
    options: argparse.Namespace,
    store: Database,
    saved_copies: SavedCopies,
    lock_wait: float,
) -> None:
    def undo() -> UndoRestore:
        return UndoRestore(store, saved_copies, RestoreJournalFile(saved_copies), options.saved)

    if options.dry_run:
        dry_run.undo(settings, report, undo())
    else:
        undo().choose()
        preflight.wait_for_database(settings, store)
        preflight.refuse_user(preflight.observe(store, saved_copies), store)
        if store.file is not None and not store.file.parent.is_dir():
            raise ConfigurationError(f"there is no folder {store.file.parent}", "check MLFLOW_BACKEND_STORE_URI")
        with _locked(store, lock_wait):
            preflight.refuse_user(preflight.observe(store, saved_copies), store)
            brought_back, saved = undo().run()
        say(f"brought back {brought_back}" + (f"; the data it replaced is saved as {saved}" if saved else ""))
        report.add(outcome="undone", restored_copy=brought_back, saved_copy=saved)
    _list_saved(saved_copies)


def _locked(store: Database, seconds: float) -> AbstractContextManager[None]:
    if store.file is not None:
        folders.make_writable(store.file.parent, "MLFLOW_BACKEND_STORE_URI")
    return locks.maintenance(store, seconds)


def _list_saved(saved_copies: SavedCopies) -> None:
    for copy in RestoreJournalFile(saved_copies).saved:
        say(f"saved copy: {copy.name} ({copy.contents}), {copy.time}")


def _required(settings: Settings, name: str) -> str:
    value = settings.value(name)
    if not value:
        raise ConfigurationError(f"{name} is not set", "set it as for the server")
    return value
