"""The restore journal: what a restore writes down before it does it, so that a later run can resume or undo it.

One small file next to the artifacts (see saved_copies.py): the restore or undo in progress, if any, and the saved
copies that can be brought back. It is deleted when there is neither.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from mlflow_ae5_server.common import json_input
from mlflow_ae5_server.common.errors import ProjectError, RestoreUnfinished
from mlflow_ae5_server.common.text import moment, shown
from mlflow_ae5_server.restore.open import open_saved_copies
from mlflow_ae5_server.restore.saved_copies import COPY_NAME, SavedCopies, damaged_journal

SAVE_STEPS = ("save-database", "save-artifacts")
RESTORE_STEPS = (*SAVE_STEPS, "restore-artifacts", "load-database", "upgrade-schema")
UNDO_STEPS = ("undo-save-database", "undo-save-artifacts", "bring-back-artifacts", "bring-back-database")
CopyName = str  # as COPY_NAME has it
Unprinted = str  # any text, also one that must not reach a terminal


@dataclass(frozen=True)
class RestoreInProgress:
    """A restore or an undo that has started and not ended."""

    step: str  # the next one; repeating a step does no harm
    snapshot: str
    started: str
    started_by: str
    save_as: CopyName | None = None  # the saved copy to which the present data is moved
    # The saved copy that an undo brings back. Not `save_as` where a restore displaces the data of an interrupted one.
    original: CopyName | None = None
    artifacts_stay: bool = False  # they are not moved

    @property
    def start(self) -> str:
        """For people."""
        return f"started {moment(self.started)} by {self.started_by}"

    @property
    def is_undo(self) -> bool:
        return self.step in UNDO_STEPS

    @property
    def is_saving(self) -> bool:
        """Whether nothing has been restored yet; parts of the present data may be in the saved copy."""
        return self.step in SAVE_STEPS


@dataclass(frozen=True)
class SavedCopy:
    """Data that was moved away when `snapshot` was restored at `time`, or when that restore was undone."""

    name: CopyName
    snapshot: str
    time: str
    database: bool  # whether there was any
    artifacts: bool  # whether there were any
    artifacts_stay: bool = False  # they were not moved, and belong to either database
    store: Unprinted = ""  # the database that was restored into, as it is shown

    @property
    def contents(self) -> str:
        """The parts, for a person."""
        parts = " and ".join(part for part in ("database", "artifacts") if getattr(self, part)) or "nothing"
        return f"{parts}; the artifacts were not moved" if self.artifacts_stay else parts


@dataclass(frozen=True)
class RestoreJournal:
    running: RestoreInProgress | None = None
    saved: tuple[SavedCopy, ...] = ()  # oldest first

    def to_bytes(self) -> bytes:
        document = {
            "format": 1,
            "what": "a restore of mlflow-ae5-deploy; do not delete this file while it runs",
            "running": asdict(self.running) if self.running else None,
            "saved": [asdict(copy) for copy in self.saved],
        }
        return json.dumps(document, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> RestoreJournal:
        """Raises SnapshotDamaged for what no restore has written."""
        try:
            document = json_input.parse(data)
            running = None if document["running"] is None else RestoreInProgress(**document["running"])
            journal = cls(running, tuple(SavedCopy(**copy) for copy in document["saved"]))
            valid = document["format"] == 1 and journal._is_valid()
        except (ValueError, KeyError, TypeError):
            valid = False
        if not valid:
            raise damaged_journal(where, "is not what a restore wrote")
        return journal

    def _is_valid(self) -> bool:
        """Whether every value is of a kind that a restore writes: others may be able to write the file."""
        records: list[RestoreInProgress | SavedCopy] = [*self.saved]
        if self.running is not None:
            if self.running.step not in RESTORE_STEPS + UNDO_STEPS:
                return False
            if self.running.is_undo and self.running.original is None:
                return False
            records.append(self.running)
        return all(_CHECKS[str(one.type)](getattr(record, one.name)) for record in records for one in fields(record))


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "bool": lambda value: type(value) is bool,
    "str": lambda value: isinstance(value, str) and value.isprintable(),
    "Unprinted": lambda value: isinstance(value, str),
    "CopyName": lambda value: isinstance(value, str) and re.fullmatch(COPY_NAME, value) is not None,
    "CopyName | None": lambda value: value is None or _CHECKS["CopyName"](value),
}


class RestoreJournalFile:
    """The restore journal of one destination. Every change is durable when the method returns."""

    def __init__(self, saved_copies: SavedCopies) -> None:
        self._saved_copies = saved_copies
        data = saved_copies.read_journal()
        self.content = RestoreJournal() if data is None else RestoreJournal.from_bytes(data, saved_copies.shown)
        self._previous: RestoreJournal | None = None

    @property
    def running(self) -> RestoreInProgress | None:
        return self.content.running

    @property
    def saved(self) -> tuple[SavedCopy, ...]:
        return self.content.saved

    def require_running(self) -> RestoreInProgress:
        if self.running is None:
            raise AssertionError("nothing is in progress")
        return self.running

    def begin(self, running: RestoreInProgress, copy: SavedCopy | None = None) -> None:
        """Start `running`, which is about to move data to `copy`."""
        self._previous = self.content
        others = tuple(one for one in self.saved if copy is None or one.name != copy.name)
        self._write(RestoreJournal(running, (*others, copy) if copy else others))

    @contextlib.contextmanager
    def reverted_if_refused(self, saved_names: Callable[[], Collection[str]]) -> Iterator[None]:
        """Undo this run's `begin` where the first step is refused, which has then changed nothing.

        Not where the saved copy is there, or cannot be looked for: the answer to its making may have been lost.
        """
        with self._reverted(self._previous, self.require_running().save_as, saved_names):
            yield

    @contextlib.contextmanager
    def listed(self, copy: SavedCopy, saved_names: Callable[[], Collection[str]]) -> Iterator[None]:
        """List `copy` before the body makes it; no longer where the body is refused and nothing was made."""
        before = self.content
        self.add(copy)
        with self._reverted(before, copy.name, saved_names):
            yield

    @contextlib.contextmanager
    def _reverted(
        self, before: RestoreJournal | None, name: str | None, saved_names: Callable[[], Collection[str]]
    ) -> Iterator[None]:
        """Write `before` where the body is refused without making the saved copy `name`."""
        try:
            yield
        except ProjectError:
            if before is not None and _is_missing(name, saved_names):
                self._write(before)
            raise

    def enter(self, step: str) -> None:
        """Make `step` the next one."""
        self._write(replace(self.content, running=replace(self.require_running(), step=step)))

    def add(self, copy: SavedCopy) -> None:
        self._write(replace(self.content, saved=(*self.saved, copy)))

    def end(self, drop: str | None = None) -> None:
        """Nothing is in progress any more, and the saved copy `drop` is gone."""
        self._write(RestoreJournal(None, tuple(copy for copy in self.saved if copy.name != drop)))

    def find(self, name: str | None) -> SavedCopy | None:
        return next((copy for copy in self.saved if copy.name == name), None)

    def last_saved(self) -> SavedCopy | None:
        """The copy of the last restore with --replace or the last undo; not of an interrupted restore's data."""
        return next((copy for copy in reversed(self.saved) if not copy.name.startswith("failed_")), None)

    def _write(self, content: RestoreJournal) -> None:
        empty = content.running is None and not content.saved
        self._saved_copies.write_journal(None if empty else content.to_bytes())
        self.content = content


def _is_missing(name: str | None, saved_names: Callable[[], Collection[str]]) -> bool:
    try:
        return name not in saved_names()
    except ProjectError:
        return False


def interrupted(destination: str) -> str | None:
    """The restore or undo that has not ended at this artifact destination, for a person; None where there is none."""
    running = RestoreJournalFile(open_saved_copies(destination)).running
    if running is None:
        return None
    what = "an undo of a restore" if running.is_undo else f"a restore of the snapshot {running.snapshot}"
    return f"{what}, {running.start}, has not finished"


def refuse_interrupted(destination: str) -> None:
    """Raise RestoreUnfinished where database and artifacts are incomplete, and what opening the journal raises."""
    if message := interrupted(destination):
        raise RestoreUnfinished(
            f"the data is incomplete: {message}",
            "run the same `restore` again, which finishes it, or `restore --undo`",
            interrupted_restore=message,
        )


def new_name(kind: str) -> str:
    """A name for a saved copy: fit for a folder, an object store's prefix and a database's schema."""
    return f"{kind}_{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(3)}"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def this_process() -> str:
    return shown(f"{socket.gethostname()}:{os.getpid()}")
