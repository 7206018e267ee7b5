"""List the saved copies of restores, and delete one by its name."""

from __future__ import annotations

from typing import Any

from mlflow_ae5_server.common.errors import Locked, NotFound
from mlflow_ae5_server.common.report import Report, say
from mlflow_ae5_server.common.text import counted_files, moment
from mlflow_ae5_server.database import saved_copy
from mlflow_ae5_server.restore.journal import SavedCopy
from mlflow_ae5_server.restore.preflight import RestoreTarget


def list_copies(target: RestoreTarget, report: Report) -> None:
    """Report all saved copies, oldest first."""
    listed = [_fields(target, copy) for copy in target.journal().saved]
    for fields in listed:
        say(_line(fields))
    report.add(action="list-saved", outcome="done", saved_copies=listed)


def drop_copy(target: RestoreTarget, report: Report, name: str, *, dry_run: bool) -> None:
    """Delete the saved copy `name`, or with `dry_run` report it. To delete, hold the maintenance lock.

    Can be repeated: the journal forgets it last. Raises NotFound for an unknown name, Locked where a restore or
    an undo may still need it.
    """
    journal = target.journal()
    report.add(action="drop-saved", dry_run=dry_run)
    copy = journal.find(name)
    if copy is None:
        names = ", ".join(copy.name for copy in journal.saved) or "none"
        raise NotFound(
            f"no saved copy {name!r} next to {target.saved_copies.shown}", f"`restore --list-saved` lists them: {names}"
        )
    if journal.running is not None:
        raise Locked(
            "a restore or an undo is still in progress and may need it", "finish it first; nothing was deleted"
        )
    fields = _fields(target, copy)
    say(("would delete " if dry_run else "deleting ") + _line(fields))
    if dry_run:
        report.add(outcome="dry-run", would_delete=fields)
        return
    saved_copy.drop_saved(target.store, name)
    target.saved_copies.drop(name)
    journal.end(drop=name)
    report.add(outcome="done", deleted=fields)


def _fields(target: RestoreTarget, copy: SavedCopy) -> dict[str, Any]:
    store, artifacts = target.store, target.saved_copies.contents(copy.name)
    reachable = store.file is None or store.file.parent.is_dir()
    return {
        "name": copy.name,
        "snapshot": copy.snapshot,
        "time": copy.time,
        "database": copy.database and reachable and copy.name in saved_copy.saved_names(store),
        "files": artifacts.files if artifacts else 0,
        "bytes": artifacts.bytes if artifacts else 0,
        "more": artifacts.more if artifacts else False,  # not all files were counted
    }


def _line(fields: dict[str, Any]) -> str:
    cause = "the undo of the restore" if fields["name"].startswith("undone_") else "the restore"
    if not (fields["database"] or fields["files"]):
        return f"{fields['name']}: holds nothing, listed {moment(fields['time'])} by {cause} of {fields['snapshot']}"
    database = "a database and " if fields["database"] else ""
    more = "more than " if fields["more"] else ""
    return (
        f"{fields['name']}: {database}{more}{counted_files(fields['files'], fields['bytes'])}, saved "
        f"{moment(fields['time'])} by {cause} of {fields['snapshot']}"
    )
