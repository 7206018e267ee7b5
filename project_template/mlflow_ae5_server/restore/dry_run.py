"""Check what a restore or an undo would do and what would be refused, and change nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlflow_ae5_server.common import progress
from mlflow_ae5_server.common.errors import (
    LoginFailed,
    ProjectError,
    SnapshotDamaged,
    TargetInUse,
    Unreachable,
)
from mlflow_ae5_server.common.report import Report, say
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.common.text import counted_files, moment
from mlflow_ae5_server.database import character_sets, saved_copy, schema
from mlflow_ae5_server.restore import journal, preflight
from mlflow_ae5_server.restore.open import open_target
from mlflow_ae5_server.restore.preflight import RestoreTarget
from mlflow_ae5_server.restore.source import RestoreSource
from mlflow_ae5_server.restore.undo import UndoRestore


def restore(
    settings: Settings,
    report: Report,
    source: RestoreSource,
    target: RestoreTarget,
    *,
    replace: bool,
    upgrade: bool,
) -> None:
    """Check every blob of the snapshot, and all that a restore checks. Refusals are reported, not raised."""
    checked = preflight.check(source.repository, source.snapshot)
    report.add(
        dry_run=True,
        checked_objects=checked.verified.checked_objects,
        of_objects=checked.verified.of_objects,
        checked_bytes=checked.verified.checked_bytes,
        damaged=checked.verified.damaged[:20],
        estimated_seconds=preflight.estimate(checked, source.snapshot, source.part),
    )
    checked.require_intact(source.snapshot)

    store = target.store

    def refuse_occupied() -> None:
        if not replace and target.journal().running is None:
            observed = target.observe()
            observed.refuse_foreign()
            observed.refuse_occupied()

    # One by one: a running server, which would be stopped, must not hide what would be refused even then.
    with progress.phase("check-target"):
        refusals = collect_refusals(
            {
                "database": lambda: preflight.wait_for_database(settings, store),
                "user": lambda: target.observe().refuse_user(),
                "foreign": lambda: target.observe().refuse_foreign(),
                "held": lambda: saved_copy.require_free(store),
                "characters": lambda: character_sets.require_database(store),
                "occupied": refuse_occupied,
                "names": lambda: source.refuse_names(open_target(target.destination)),
                "rights": lambda: preflight.refuse_rights(target, replace=replace),
                "values": lambda: source.refuse_values(store, report),
                "room": lambda: preflight.refuse_tight(target, source.snapshot, source.part),
            }
        )
    if message := journal.interrupted(target.destination):
        say(f"{message}; a restore resumes it")
    part, artifacts = source.part, source.snapshot.artifacts
    print(f"would write {part.contents} to {store.shown}")
    print(f"would write {counted_files(artifacts.files, artifacts.bytes)} to {target.saved_copies.shown}")
    upgraded = None
    if upgrade and source.is_outdated:
        upgraded = {"revision": part.revision, "new_revision": schema.latest()}
        print(f"would upgrade the schema from {part.revision} to {schema.latest()}")
    report.add(outcome="dry-run", would_refuse=refusals, would_upgrade=upgraded, written_files=0)


def undo(settings: Settings, report: Report, undo: UndoRestore) -> None:
    """Check whether a saved copy can be brought back. Raises NotFound, SnapshotDamaged where none can.

    What may have changed by the time of the undo, such as a running server, is reported, not raised.
    """
    undo.choose()
    preflight.wait_for_database(settings, undo.target.store)
    copy = undo.check()
    refusals = collect_refusals(
        {
            "user": lambda: undo.target.observe().refuse_user(),
            "held": lambda: saved_copy.require_free(undo.target.store),
        }
    )
    print(f"would bring back {copy.name} ({copy.contents}), saved {moment(copy.time)}")
    report.add(outcome="dry-run", dry_run=True, would_restore=copy.name, would_refuse=refusals)


def collect_refusals(attempts: Mapping[str, Callable[[], object]]) -> list[dict[str, Any]]:
    """Run all checks and return what they refuse, each error once."""
    refusals: list[dict[str, Any]] = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except SnapshotDamaged:  # of the snapshot: no change of the target would help
            raise
        except ProjectError as error:
            message = {"exit_code": error.exit_code, "error": error.message, "hint": error.hint}
            if any(message.items() <= other.items() for other in refusals):
                continue
            refusals.append({"name": name, **message})
            running = name == "user" and isinstance(error, TargetInUse)
            result = "the server has to be stopped" if running else "the restore would be refused"
            say(f"at this time {result}: {error}")
            if name == "database" or (len(refusals) == 1 and isinstance(error, Unreachable | LoginFailed)):
                break  # without a database nothing more can be checked
    return refusals
