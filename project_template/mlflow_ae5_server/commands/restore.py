"""Restore: a snapshot into an empty database and artifact store, or with what they hold kept aside; and its undo."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from mlflow_ae5_server.common import keys
from mlflow_ae5_server.common.errors import (
    ConfigurationError,
    CredentialsError,
    DamagedError,
    InUseError,
    ProjectError,
    StorageError,
    UnreachableError,
)
from mlflow_ae5_server.common.report import Report
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.common.text import amount
from mlflow_ae5_server.database import character_sets, dialects, locks, schema
from mlflow_ae5_server.database.connection import Database, check_uri, wait_until_ready
from mlflow_ae5_server.repository.repository import open_repository
from mlflow_ae5_server.restore import files as recover_files
from mlflow_ae5_server.restore import journal, list_saved, preflight
from mlflow_ae5_server.restore.journal import RestoreJournalFile
from mlflow_ae5_server.restore.open_saved_copies import beside
from mlflow_ae5_server.restore.saved_copies import SavedCopies
from mlflow_ae5_server.restore.steps import Restore, RestoreSource, say
from mlflow_ae5_server.restore.target import ArtifactTarget, open_target
from mlflow_ae5_server.restore.undo import UndoRestore

LOCK_WAIT = 60.0  # seconds
_DATABASE_WAIT = 20.0
_REPORTED = 500  # values in the report; the log has all


def run(settings: Settings, report: Report, options: argparse.Namespace, lock_wait: float = LOCK_WAIT) -> int:
    """Restore, say what a restore would do, or undo one; the facts go to `report`. Returns the exit code.

    `lock_wait`: seconds for a garbage collection or a backup at work to end.
    """
    store = check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    destination = _required(settings, "MLFLOW_ARTIFACTS_DESTINATION")
    saved_copies = beside(destination)
    try:
        return _act(settings, report, options, store, destination, saved_copies, lock_wait)
    finally:  # however it ends, being stopped included: whoever reads the last line must know what to start on it
        with contextlib.suppress(ProjectError):
            report.add(interrupted_restore=journal.unfinished(destination))


def _act(
    settings: Settings,
    report: Report,
    options: argparse.Namespace,
    store: Database,
    destination: str,
    saved_copies: SavedCopies,
    lock_wait: float,
) -> int:
    if options.undo and options.dry_run:
        return _undo_dry_run(settings, report, store, saved_copies, options.saved)
    if options.undo:
        return _undo(settings, report, store, saved_copies, lock_wait, options.saved)
    if options.drop_saved is not None or options.list_saved:
        return _kept(settings, report, options, store, saved_copies, lock_wait)
    backups = _required(settings, "MLFLOW_TRACKING_BACKUP_DESTINATION")
    preflight.refuse_nesting(store, destination, backups)
    source = dataclasses.replace(find(backups, _desired(options.snapshot, saved_copies)), shorten=options.shorten_text)
    report.add(**describe(source, store))
    tell_keys(source, report)
    preflight.refuse_kind(source.snapshot, source.part, store)
    if options.dry_run:
        return _dry_run(settings, report, options, source, store, destination, saved_copies)
    checked = _check(source)
    checked.require_sound(source.snapshot)
    wait(settings, store)
    character_sets.require_database(store)
    target = open_target(destination)
    recover_files.refuse_names(source.repository.files(source.snapshot), target)
    preflight.refuse_rights(store, destination, replace=options.replace)
    _refuse(store, saved_copies, replace=options.replace)  # before the lock makes a file beside a SQLite database
    shortened = _refuse_values(source, store, report)
    same = _same_artifacts(source, target, saved_copies) if _stay(options, saved_copies) else None
    if RestoreJournalFile(saved_copies).running is None:
        preflight.refuse_tight(store, destination, source.snapshot, source.part, artifacts=same is None)
    with _locked(store, lock_wait):
        found = _refuse(store, saved_copies, replace=options.replace)
        recovery = Restore(source, store, target, saved_copies, RestoreJournalFile(saved_copies))
        done = recovery.run(found, replace=options.replace, migrate=not options.no_upgrade, same=same)
    report.add(
        artifacts=done.restored.files,
        artifact_bytes=done.restored.bytes,
        written_files=done.restored.written,
        links=done.restored.links,
        not_restored=done.restored.left_out[:20],
        artifacts_identical=True,  # or an exception would have left `run`
        database_identical=done.database_identical if not shortened else False,
        saved_copy=done.saved_copy,
        upgraded=done.upgraded,
        outcome="done",
    )
    _tell_kept(saved_copies)
    return 0


def _stay(options: argparse.Namespace, saved_copies: SavedCopies) -> bool:
    """Whether the artifacts may stay where they are. A restore that was begun goes on as it began."""
    running = RestoreJournalFile(saved_copies).running
    return bool(options.same_artifacts) if running is None else running.in_place


def _same_artifacts(
    source: RestoreSource, target: ArtifactTarget, saved_copies: SavedCopies
) -> recover_files.RestoreCounts | None:
    same = recover_files.found(source.repository.files(source.snapshot), target)
    if same is not None:
        say(f"{same.files} files ({amount(same.bytes)}) of the snapshot stay unchanged at {saved_copies.shown}")
    elif (running := RestoreJournalFile(saved_copies).running) is not None and running.snapshot == source.snapshot.id:
        raise StorageError(
            f"the artifacts at {saved_copies.shown} have changed since the restore of {running.snapshot} began",
            "find out who writes there; `restore --undo` brings the database back as it was",
        )
    return same


def _refuse_values(source: RestoreSource, store: Database, report: Report) -> int:
    """Tell and report all values that `store` cannot keep. Returns how many of them are shortened; raises
    ConfigurationError for the others."""
    character_sets.require_database(store)  # else it cannot be asked which texts it takes for the same
    found = dialects.refused(source.part, source.repository.reader(), store)
    shortened = [item for item in found if source.shorten and item.free]
    refused = [item for item in found if not (source.shorten and item.free)]
    for item in shortened:
        say(f"shortened: {item}")
    for item in refused:
        say(f"cannot be kept: {item}{'' if not item.free else ' (free text: --shorten-text)'}")
    report.add(
        refused_values=[item.to_json() for item in refused[:_REPORTED]],
        refused_total=len(refused),
        shortened_values=[item.to_json() for item in shortened[:_REPORTED]],
        shortened_total=len(shortened),
    )
    if refused:
        raise dialects.refusal(refused, store)
    return len(shortened)


def find(backups: str, which: str) -> RestoreSource:
    """The snapshot `which` ("latest" or an id). Raises ConfigurationError, StorageError, DamagedError."""
    repository = open_repository(backups)
    snapshot = repository.snapshot(which)
    return RestoreSource(repository, snapshot, dialects.DatabasePart.from_json(snapshot.database))


def describe(source: RestoreSource, store: Database) -> dict[str, Any]:
    """What every report says of the snapshot."""
    return {
        "snapshot": source.snapshot.id,
        "dialect": {"source": source.part.dialect, "target": store.dialect},
        "rows": source.part.rows,
        "tables": len(source.part.tables),
        "artifacts": source.snapshot.artifacts.files,
        "artifact_bytes": source.snapshot.artifacts.bytes,
    }


def tell_keys(source: RestoreSource, report: Report) -> None:
    """Say which of the snapshot's keys is not the one that is at hand."""
    found = keys.told(source.snapshot.keys, os.environ)
    message = keys.in_words(found)
    for text in message:
        say(f"warning: {text}")
    report.add(keys=found, other_keys=message)


def _desired(which: str, saved_copies: SavedCopies) -> str:
    """`latest` means the snapshot of an unfinished restore, where there is one."""
    running = RestoreJournalFile(saved_copies).running
    if running is None:
        return which
    if running.is_undo:
        raise ConfigurationError(
            f"an undo that {running.who} began {running.started} has not ended", "finish it first: restore --undo"
        )
    return running.snapshot if which == "latest" else which


def _check(source: RestoreSource) -> preflight.Preflight:
    snapshot = source.snapshot
    say(f"checking the snapshot {snapshot.id} of {snapshot.started} (MLflow {snapshot.mlflow_version})")
    checked = preflight.check(source.repository, snapshot)
    found = checked.verified
    how = f"{found.checked_objects} of them read ({amount(found.checked_bytes)})"
    say(f"{found.of_objects} objects, {how}, {found.found} damaged, in {checked.seconds:.1f} s")
    return checked


def _refuse(store: Database, saved_copies: SavedCopies, *, replace: bool) -> preflight.TargetState:
    """Raises InUseError, or NotEmptyError where no restore is to be gone on with and nothing may be put aside."""
    found = preflight.look(store, saved_copies)
    preflight.refuse_user(found, store)
    preflight.refuse_foreign(found, store)
    if not replace and RestoreJournalFile(saved_copies).running is None:
        preflight.refuse_occupied(found, store, saved_copies)
    return found


def _refuse_occupied(store: Database, saved_copies: SavedCopies) -> None:
    """Whether or not a server is at work on it."""
    found = preflight.look(store, saved_copies)
    preflight.refuse_foreign(found, store)
    if RestoreJournalFile(saved_copies).running is None:
        preflight.refuse_occupied(found, store, saved_copies)


def wait(settings: Settings, store: Database) -> None:
    """For a database that does not answer yet; a SQLite file that is not there is not waited for."""
    if store.file is None or store.file.is_file():
        wait = min(_DATABASE_WAIT, settings.seconds("MLFLOW_TRACKING_DATABASE_WAIT"))
        wait_until_ready(store, wait, say=say)


def _locked(store: Database, seconds: float) -> AbstractContextManager[None]:
    if store.file is not None:
        from mlflow_ae5_server.common import folders

        folders.make_writable(store.file.parent, "MLFLOW_BACKEND_STORE_URI")
    return locks.maintenance(store, seconds)


def _dry_run(
    settings: Settings,
    report: Report,
    options: argparse.Namespace,
    source: RestoreSource,
    store: Database,
    destination: str,
    saved_copies: SavedCopies,
) -> int:
    """Check every object, and everything that a restore would check; what it would refuse is told, not raised."""
    checked = _check(source)
    report.add(
        dry_run=True,
        checked_objects=checked.verified.checked_objects,
        of_objects=checked.verified.of_objects,
        checked_bytes=checked.verified.checked_bytes,
        damaged=checked.verified.damaged[:20],
        estimated_seconds=preflight.estimate(checked, source.snapshot, source.part),
    )
    checked.require_sound(source.snapshot)
    # Each by itself: a server at work will be stopped, and must not hide what would be refused even then.
    refusals = _refusals(
        {
            "database": lambda: wait(settings, store),
            "user": lambda: preflight.refuse_user(preflight.look(store, saved_copies), store),
            "foreign": lambda: preflight.refuse_foreign(preflight.look(store, saved_copies), store),
            "held": lambda: dialects.require_free(store),
            "characters": lambda: character_sets.require_database(store),
            "occupied": lambda: None if options.replace else _refuse_occupied(store, saved_copies),
            "names": lambda: recover_files.refuse_names(
                source.repository.files(source.snapshot), open_target(destination)
            ),
            "rights": lambda: preflight.refuse_rights(store, destination, replace=options.replace),
            "values": lambda: _refuse_values(source, store, report),
            "room": lambda: preflight.refuse_tight(store, destination, source.snapshot, source.part),
        }
    )
    if left := journal.unfinished(destination):
        say(f"note: {left}; a restore goes on with it")
    part, artifacts = source.part, source.snapshot.artifacts
    print(f"would write {part.rows} rows in {len(part.tables)} tables to {store.shown}")
    print(f"would write {artifacts.files} files ({amount(artifacts.bytes)}) to {saved_copies.shown}")
    upgrade = None
    if not options.no_upgrade and part.revision != schema.latest():
        upgrade = {"revision": part.revision, "new_revision": schema.latest()}
        print(f"would upgrade the schema from {upgrade['revision']} to {upgrade['new_revision']}")
    report.add(outcome="dry-run", would_refuse=refusals, would_upgrade=upgrade, written_files=0)
    return 0


def _refusals(attempts: Mapping[str, Callable[[], object]]) -> list[dict[str, Any]]:
    """What would be refused, and why. One error is told once."""
    found: list[dict[str, Any]] = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except DamagedError:  # the snapshot: no change of the target would help
            raise
        except ProjectError as error:
            message = preflight.message(error)
            if any(message.items() <= other.items() for other in found):
                continue
            found.append({"name": name, **message})
            at_work = name == "user" and isinstance(error, InUseError)
            now = "a server is at work, which is to be stopped for it" if at_work else "it would be refused"
            say(f"as things are, {now}: {error}")
            if name == "database" or (len(found) == 1 and isinstance(error, UnreachableError | CredentialsError)):
                break  # without a database there is nothing more to ask
    return found


def _undo_dry_run(
    settings: Settings, report: Report, store: Database, saved_copies: SavedCopies, name: str | None
) -> int:
    """Whether there is something to bring back. Raises AbsentError, DamagedError where there is not.

    What may pass until the undo itself, such as a server at work, is told, as for a restore.
    """
    undo = UndoRestore(store, saved_copies, RestoreJournalFile(saved_copies), name)
    undo.require()
    wait(settings, store)
    kept = undo.check()
    refusals = _refusals(
        {
            "user": lambda: preflight.refuse_user(preflight.look(store, saved_copies), store),
            "held": lambda: dialects.require_free(store),
        }
    )
    print(f"would bring back {kept.name} ({list_saved.what(kept)}), kept aside {kept.time}")
    report.add(outcome="dry-run", dry_run=True, would_restore=kept.name, would_refuse=refusals)
    _tell_kept(saved_copies)
    return 0


def _undo(
    settings: Settings, report: Report, store: Database, saved_copies: SavedCopies, lock_wait: float, name: str | None
) -> int:
    UndoRestore(store, saved_copies, RestoreJournalFile(saved_copies), name).require()
    wait(settings, store)
    preflight.refuse_user(preflight.look(store, saved_copies), store)
    if store.file is not None and not store.file.parent.is_dir():
        raise ConfigurationError(f"there is no folder {store.file.parent}", "check MLFLOW_BACKEND_STORE_URI")
    with _locked(store, lock_wait):
        preflight.refuse_user(preflight.look(store, saved_copies), store)
        brought, aside = UndoRestore(store, saved_copies, RestoreJournalFile(saved_copies), name).run()
    say(f"brought back {brought}" + (f"; what was there is kept as {aside}" if aside else ""))
    report.add(outcome="undone", restored_copy=brought, saved_copy=aside)
    _tell_kept(saved_copies)
    return 0


def _kept(
    settings: Settings,
    report: Report,
    options: argparse.Namespace,
    store: Database,
    saved_copies: SavedCopies,
    lock_wait: float,
) -> int:
    """Told, or removed; that alone takes the lock."""
    wait(settings, store)
    if options.list_saved:
        return list_saved.tell(store, saved_copies, report)
    if options.dry_run:
        return list_saved.drop(store, saved_copies, report, options.drop_saved, dry_run=True)
    with _locked(store, lock_wait):
        return list_saved.drop(store, saved_copies, report, options.drop_saved, dry_run=False)


def _tell_kept(saved_copies: SavedCopies) -> None:
    for entry in RestoreJournalFile(saved_copies).restore_journal.kept:
        say(f"kept aside: {entry.name} ({list_saved.what(entry)}), {entry.time}")


def _required(settings: Settings, name: str) -> str:
    value = settings.value(name)
    if not value:
        raise ConfigurationError(f"{name} is not set", "set it as for the server")
    return value
