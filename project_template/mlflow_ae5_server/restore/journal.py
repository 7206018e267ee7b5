"""What a restore writes down before it does it, so that the next run can go on, or undo.

One small file beside the artifacts (see saved_copies.py): the restore or undo at work, if any, and what was kept
aside and can still be brought back. It is gone when there is neither.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from mlflow_ae5_server.common import json_input
from mlflow_ae5_server.common.errors import ProjectError, UnfinishedError
from mlflow_ae5_server.common.text import shown
from mlflow_ae5_server.restore.open_saved_copies import beside
from mlflow_ae5_server.restore.saved_copies import SavedCopies, damaged_journal

SAVING = ("save-database", "save-artifacts")
RESTORE = (*SAVING, "artifacts", "database", "upgrade")
UNDO = ("undo-save-database", "undo-save-artifacts", "undo-artifacts", "undo-database")
_NAME = re.compile(r"(kept|undone|failed)_[0-9]{8}_[0-9]{6}_[0-9a-f]{6}")
CopyName = str  # as _NAME has it
Unprinted = str  # any text, also what must not reach a terminal


@dataclass(frozen=True)
class RestoreInProgress:
    """A restore or an undo that has begun and not ended.

    `phase` is the next thing to do; doing it twice does no harm. `aside`: where what is in the way goes. `kept`: where
    the data is, or will be, that an undo brings back; another name than `aside` when a restore displaces what an
    unfinished one has left. `in_place`: the artifacts stay where they are.
    """

    phase: str
    snapshot: str
    started: str
    who: str
    aside: CopyName | None = None
    kept: CopyName | None = None
    in_place: bool = False

    @property
    def is_undo(self) -> bool:
        return self.phase in UNDO


@dataclass(frozen=True)
class SavedCopy:
    """Data kept aside under `name` when `snapshot` took its place at `time`, or gave it up (an undo).

    `database`, `artifacts`: whether there was any. `in_place`: the artifacts stayed where they are, and are those of
    either database. `store`: the database that was restored into, as it is shown.
    """

    name: CopyName
    snapshot: str
    time: str
    database: bool
    artifacts: bool
    in_place: bool = False
    store: Unprinted = ""


@dataclass(frozen=True)
class RestoreJournal:
    running: RestoreInProgress | None = None
    kept: tuple[SavedCopy, ...] = ()

    def to_bytes(self) -> bytes:
        document = {
            "format": 1,
            "what": "a restore of mlflow-ae5-deploy; do not delete this file while it runs",
            "running": asdict(self.running) if self.running else None,
            "kept": [asdict(entry) for entry in self.kept],
        }
        return json.dumps(document, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> RestoreJournal:
        try:
            document = json_input.parse(data)
            running = None if document["running"] is None else RestoreInProgress(**document["running"])
            journal = cls(running, tuple(SavedCopy(**entry) for entry in document["kept"]))
            written = document["format"] == 1 and _is_written(journal)
        except (ValueError, KeyError, TypeError):
            written = False
        if not written:
            raise damaged_journal(where, "is not what a restore wrote")
        return journal


class RestoreJournalFile:
    """The ledger of one destination. Every change is there for good before the method returns."""

    def __init__(self, saved_copies: SavedCopies) -> None:
        self._saved_copies = saved_copies
        data = saved_copies.read_journal()
        self.restore_journal = RestoreJournal() if data is None else RestoreJournal.from_bytes(data, saved_copies.shown)

    @property
    def running(self) -> RestoreInProgress | None:
        return self.restore_journal.running

    def begin(self, running: RestoreInProgress, kept: SavedCopy | None = None) -> None:
        """`running` begins; what it is about to put aside is `kept`."""
        others = tuple(entry for entry in self.restore_journal.kept if kept is None or entry.name != kept.name)
        self._write(replace(self.restore_journal, running=running, kept=(*others, kept) if kept else others))

    def turn(self, phase: str) -> None:
        """What comes next is `phase`."""
        if self.restore_journal.running is not None:
            self._write(replace(self.restore_journal, running=replace(self.restore_journal.running, phase=phase)))

    def end(self, forget: str | None = None) -> None:
        """Nothing runs any more, and `forget` is not kept any more."""
        kept = tuple(entry for entry in self.restore_journal.kept if entry.name != forget)
        self._write(replace(self.restore_journal, running=None, kept=kept))

    def keep(self, kept: SavedCopy) -> None:
        self._write(replace(self.restore_journal, kept=(*self.restore_journal.kept, kept)))

    def or_unsay(self, before: RestoreJournal | None, act: Callable[[], None]) -> None:
        """Do what is all or nothing; where it is refused, the ledger is `before` again."""
        try:
            act()
        except ProjectError:
            if before is not None:
                self._write(before)
            raise

    def kept(self, name: str | None) -> SavedCopy | None:
        return next((entry for entry in self.restore_journal.kept if entry.name == name), None)

    def last_kept(self) -> SavedCopy | None:
        """What the last --replace kept; not what an undo put aside, which would make undo undo itself."""
        return next((entry for entry in reversed(self.restore_journal.kept) if entry.name.startswith("kept_")), None)

    def last_undone(self) -> SavedCopy | None:
        """What an undo put aside after the last --replace: that one is undone already."""
        last = next((e for e in reversed(self.restore_journal.kept) if e.name.startswith(("kept_", "undone_"))), None)
        return last if last is not None and last.name.startswith("undone_") else None

    def _write(self, restore_journal: RestoreJournal) -> None:
        empty = restore_journal.running is None and not restore_journal.kept
        self._saved_copies.write_journal(None if empty else restore_journal.to_bytes())
        self.restore_journal = restore_journal


def unfinished(destination: str) -> str | None:
    """What a restore to this artifact destination has left undone, in words; None where none has."""
    running = RestoreJournalFile(beside(destination)).running
    if running is None:
        return None
    what = "an undo of a restore" if running.is_undo else f"a restore of the snapshot {running.snapshot}"
    return f"{what}, begun {running.started} by {running.who}, has not ended"


def refuse_unfinished(destination: str) -> None:
    """UnfinishedError where database and artifacts are not whole. Raises what `beside` and its ledger do."""
    if left := unfinished(destination):
        raise UnfinishedError(
            f"what is there is not whole: {left}",
            "run the same `restore` again, which finishes it, or `restore --undo`",
            interrupted_restore=left,
        )


def new_name(kind: str) -> str:
    """A name for what is kept aside: fit for a folder, an object store's prefix and a database's schema."""
    return f"{kind}_{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(3)}"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def who() -> str:
    return shown(f"{socket.gethostname()}:{os.getpid()}")


def _is_written(journal: RestoreJournal) -> bool:
    """Whether every value is of a kind that a restore writes: others may be able to."""
    running = journal.running
    if running is not None and (running.phase not in RESTORE + UNDO or (running.is_undo and running.kept is None)):
        return False
    records: list[RestoreInProgress | SavedCopy] = [*journal.kept]
    records += [running] if running is not None else []
    return all(_CHECKS[str(one.type)](getattr(record, one.name)) for record in records for one in fields(record))


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "bool": lambda value: type(value) is bool,
    "str": lambda value: isinstance(value, str) and value.isprintable(),
    "Unprinted": lambda value: isinstance(value, str),
    "CopyName": lambda value: isinstance(value, str) and _NAME.fullmatch(value) is not None,
    "CopyName | None": lambda value: value is None or _CHECKS["CopyName"](value),
}
