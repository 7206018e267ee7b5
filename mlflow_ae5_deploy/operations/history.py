"""The journal as runs of verbs: who, when, what changed, how it ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.engine.journal import JournalEntry
from mlflow_ae5_deploy.jobs.other_machines import ONCE

_START = '{"time": '
_RUNS_OF_STAGES = frozenset({"install", "restore", "uninstall", "upgrade"})
DONE, UNFINISHED, INTERRUPTED, NOTED = "done", "unfinished", "interrupted", "noted"


@dataclass
class Entry:
    """One run of a verb, or a single effect of a verb without begin and end (such as a token issued by `env`)."""

    began: datetime | None
    ended: datetime | None
    who: str
    verb: str
    outcome: str
    """done | interrupted | unfinished (it was killed, or runs now) | noted | the kind of an error."""
    seconds: float | None = None
    """Without the time at questions, where the run has ended by itself."""
    changed: list[str] = field(default_factory=list)
    """Its effects, as phrases."""
    changes: int = 0
    """How many of them last; the job of a single run is created and deleted again."""
    trouble: list[str] = field(default_factory=list)
    """What failed on the way, and the error it ended with."""
    open_intents: list[JournalEntry] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class History:
    """entries: oldest first. unreadable: lines that are no journal lines, such as one that a full disk truncated."""

    entries: tuple[Entry, ...]
    unreadable: int


def read(path: Path) -> History:
    """No file means no history. Raises Configuration when it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return History((), 0)
    except OSError as error:
        problem = f"The journal cannot be read: {error.strerror or error}."
    else:
        return history_of(text.splitlines())
    raise Configuration(problem, where=str(path))


def history_of(lines: Iterable[str]) -> History:
    entries: list[Entry] = []
    open_: dict[tuple[str, str], Entry] = {}
    unreadable = 0
    for line in lines:
        if not line.strip():
            continue
        record = JournalEntry.parse(line)
        if record is None:
            unreadable += 1
            record = JournalEntry.parse(line[line.rfind(_START) :])  # after the part that a full disk has truncated
        if record is None:
            continue
        _take(record, entries, open_)
    for entry in entries:
        if entry.outcome in (UNFINISHED, INTERRUPTED):
            for intent in entry.open_intents:
                entry.trouble.append(f"started to {intent.phrase or 'change something'}; result not recorded")
    return History(tuple(entries), unreadable)


def interrupted_install(path: Path) -> datetime | None:
    """When the last run of the stages, if that was an `install` that did not end; None where it cannot be read."""
    try:
        entries = read(path).entries
    except Configuration:
        return None
    runs = [entry for entry in entries if entry.verb.partition(" ")[0] in _RUNS_OF_STAGES and entry.outcome != NOTED]
    if not runs or runs[-1].verb != "install" or runs[-1].outcome not in (INTERRUPTED, UNFINISHED):
        return None
    return runs[-1].ended or runs[-1].began


def _take(record: JournalEntry, entries: list[Entry], open_: dict[tuple[str, str], Entry]) -> None:
    key, event = (record.who, record.verb), record.event
    if event == "begin":
        open_[key] = Entry(record.time, None, *key, UNFINISHED)  # an earlier one without an end stays unfinished
        entries.append(open_[key])
        return
    entry = open_.get(key)
    if entry is None:
        if event != "effect":
            return
        entry = Entry(record.time, record.time, *key, NOTED)
        entries.append(entry)
    if event == "intent":
        entry.open_intents.append(record)
    elif event == "done":
        entry.open_intents = [intent for intent in entry.open_intents if not _ends(record, intent)]
    elif event == "effect":
        entry.changed.append(_effect(record))
        entry.changes += not (record.resource == "job" and (record.name or "").startswith(ONCE))
    elif event == "failed":
        entry.trouble.append(_failure(record))
    elif event in ("end", "interrupted"):
        entry.ended, entry.seconds = record.time, record.seconds
        if entry.seconds is None and entry.began and entry.ended:
            entry.seconds = round((entry.ended - entry.began).total_seconds(), 1)
        entry.outcome = INTERRUPTED if event == "interrupted" else record.outcome or DONE
        what = record.what
        if what and not any(what in line for line in entry.trouble):
            entry.trouble.append(what)
        del open_[key]


def _ends(done: JournalEntry, intent: JournalEntry) -> bool:
    """Whether `done` is of the same change: their entries differ in event and time only."""
    return replace(done, event=intent.event, time=intent.time) == intent


def _effect(record: JournalEntry) -> str:
    identity, account = record.id and f"({record.id})", record.account and f"for {record.account}"
    return " ".join(word for word in (record.action, record.resource, record.name, identity, account) if word)


def _failure(record: JournalEntry) -> str:
    position = f"{record.account}: " if record.account else f"stage {record.stage}: " if record.stage else ""
    return f"{position}{record.what or record.kind or 'failed'}"
