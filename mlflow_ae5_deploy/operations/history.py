"""The journal as runs of verbs: who, when, what changed, how it ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow_ae5_deploy.common.errors import Configuration

_START = '{"time": '
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
    changed: list[str] = field(default_factory=list)
    """Its effects, as phrases."""
    trouble: list[str] = field(default_factory=list)
    """What failed on the way, and the error it ended with."""
    open_intents: list[Mapping[str, Any]] = field(default_factory=list, repr=False)

    @property
    def seconds(self) -> float | None:
        if self.began is None or self.ended is None:
            return None
        return round((self.ended - self.began).total_seconds(), 1)


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
        record = _record(line)
        if record is None:
            unreadable += 1
            record = _record(line[line.rfind(_START) :])  # after the part that a full disk has truncated
        if record is None:
            continue
        _take(record, entries, open_)
    for entry in entries:
        if entry.outcome in (UNFINISHED, INTERRUPTED):
            for intent in entry.open_intents:
                entry.trouble.append(f"began to {intent.get('phrase') or 'change something'}, outcome not recorded")
    return History(tuple(entries), unreadable)


def last_effect(path: Path, action: str, resource: str, name: str) -> datetime | None:
    """When the journal last recorded this effect; None where it did not, or cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        record = _record(line)
        keys = ("event", "action", "resource", "name")
        if record and [record.get(key) for key in keys] == ["effect", action, resource, name]:
            return _moment(record.get("time"))
    return None


def _record(line: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "event" in found else None


def _take(record: Mapping[str, Any], entries: list[Entry], open_: dict[tuple[str, str], Entry]) -> None:
    who, verb, event = (str(record.get(key) or "?") for key in ("who", "verb", "event"))
    when, key = _moment(record.get("time")), (who, verb)
    if event == "begin":
        open_[key] = Entry(when, None, who, verb, UNFINISHED)  # an earlier one without an end stays unfinished
        entries.append(open_[key])
        return
    entry = open_.get(key)
    if entry is None:
        if event != "effect":
            return
        entry = Entry(when, when, who, verb, NOTED)
        entries.append(entry)
    if event == "intent":
        entry.open_intents.append(record)
    elif event == "done":
        entry.open_intents = [intent for intent in entry.open_intents if not _ends(record, intent)]
    elif event == "effect":
        entry.changed.append(_effect(record))
    elif event == "failed":
        entry.trouble.append(_failure(record))
    elif event in ("end", "interrupted"):
        entry.ended = when
        entry.outcome = INTERRUPTED if event == "interrupted" else str(record.get("outcome") or DONE)
        what = str(record.get("what") or "")
        if what and not any(what in line for line in entry.trouble):
            entry.trouble.append(what)
        del open_[key]


def _ends(done: Mapping[str, Any], intent: Mapping[str, Any]) -> bool:
    """Whether `done` is of the same change: their records differ in the time only."""
    return all(done.get(key) == value for key, value in intent.items() if key not in ("event", "time"))


def _effect(record: Mapping[str, Any]) -> str:
    words = [str(record.get(key) or "") for key in ("action", "resource", "name")]
    identity, account = str(record.get("id") or ""), str(record.get("account") or "")
    if identity:
        words.append(f"({identity})")
    if account:
        words.append(f"for {account}")
    return " ".join(word for word in words if word)


def _failure(record: Mapping[str, Any]) -> str:
    position = f"stage {record['stage']}: " if record.get("stage") else ""
    position = f"{record['account']}: " if record.get("account") else position
    return f"{position}{record.get('what') or record.get('kind') or 'failed'}"


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
