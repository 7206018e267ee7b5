"""What restores have kept aside: told, and removed for good when somebody asks for it by name."""

from __future__ import annotations

from typing import Any

from mlflow_ae5_server.common.errors import AbsentError, BusyError
from mlflow_ae5_server.common.report import Report
from mlflow_ae5_server.common.text import amount
from mlflow_ae5_server.database import dialects
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.restore.journal import RestoreJournalFile, SavedCopy
from mlflow_ae5_server.restore.saved_copies import SavedCopies
from mlflow_ae5_server.restore.steps import say


def tell(store: Database, saved_copies: SavedCopies, report: Report) -> int:
    """Everything that is kept aside, oldest first. Returns the exit code."""
    aside = [_fields(store, saved_copies, entry) for entry in RestoreJournalFile(saved_copies).restore_journal.kept]
    for fields in aside:
        say(_line(fields))
    report.add(action="list-saved", outcome="done", saved_copies=aside)
    return 0


def what(entry: SavedCopy) -> str:
    """What was kept, for a person."""
    held = " and ".join(name for name in ("database", "artifacts") if getattr(entry, name)) or "nothing"
    return f"{held}; the artifacts stayed where they are" if entry.in_place else held


def drop(store: Database, saved_copies: SavedCopies, report: Report, name: str, *, dry_run: bool) -> int:
    """Remove what is kept as `name`, or with `dry_run` say what that is. Whoever removes holds the maintenance lock.

    Repeatable: the ledger forgets it last. Returns the exit code. Raises AbsentError where nothing has that name,
    BusyError where a restore or an undo may still need it.
    """
    journal_file = RestoreJournalFile(saved_copies)
    report.add(action="drop-saved", dry_run=dry_run)
    entry = journal_file.kept(name)
    if entry is None:
        names = ", ".join(entry.name for entry in journal_file.restore_journal.kept) or "nothing"
        raise AbsentError(
            f"nothing is kept aside as {name!r} beside {saved_copies.shown}",
            f"`restore --list-saved` tells what there is: {names}",
        )
    if journal_file.running is not None:
        raise BusyError("a restore or an undo has not ended, and may need it", "finish it first; nothing was removed")
    fields = _fields(store, saved_copies, entry)
    say(("would remove " if dry_run else "removes ") + _line(fields))
    if dry_run:
        report.add(outcome="dry-run", would_delete=fields)
        return 0
    dialects.drop_saved(store, name)
    saved_copies.drop(name)
    journal_file.end(forget=name)
    report.add(outcome="done", deleted=fields)
    return 0


def _fields(store: Database, saved_copies: SavedCopies, entry: SavedCopy) -> dict[str, Any]:
    """`files` and `bytes` of the artifacts; `more`: they were not counted to their end."""
    held = saved_copies.contents(entry.name)
    database = (
        entry.database and (store.file is None or store.file.parent.is_dir()) and entry.name in dialects.kept(store)
    )
    return {
        "name": entry.name,
        "snapshot": entry.snapshot,
        "time": entry.time,
        "database": database,
        "files": held.files if held else 0,
        "bytes": held.bytes if held else 0,
        "more": held.more if held else False,
    }


def _line(fields: dict[str, Any]) -> str:
    database = "a database and " if fields["database"] else ""
    many = "more than " if fields["more"] else ""
    return (
        f"{fields['name']}: {database}{many}{fields['files']} files ({amount(fields['bytes'])}), kept aside "
        f"{fields['time']} for the snapshot {fields['snapshot']}"
    )
