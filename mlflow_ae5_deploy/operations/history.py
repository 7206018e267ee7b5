"""The journal, told as runs of verbs: who, when, what changed, how it ended. Pure, but for reading the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow_ae5_deploy.errors import Configuration

DONE, CUT_OFF, INTERRUPTED, NOTED = "done", "cut off", "interrupted", "noted"


@dataclass
class Entry:
    """One run of a verb, or a single effect of a verb that keeps no frame (such as a token issued by `env`).

    outcome: done | interrupted | cut off (it was killed, or is at work now) | noted | the kind of an error.
    changed: what was done, in words. trouble: what failed on the way, and the error it ended with.
    """

    began: datetime | None
    ended: datetime | None
    who: str
    verb: str
    outcome: str
    changed: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float | None:
        if self.began is None or self.ended is None:
            return None
        return round((self.ended - self.began).total_seconds(), 1)


@dataclass(frozen=True)
class History:
    """entries: oldest first. unreadable: lines that are no journal lines, such as one that a full disk cut off."""

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
        return told(text.splitlines())
    raise Configuration(problem, where=str(path))


def told(lines: Iterable[str]) -> History:
    entries: list[Entry] = []
    open_: dict[tuple[str, str], Entry] = {}
    unreadable = 0
    for line in lines:
        if not line.strip():
            continue
        record = _record(line)
        if record is None:
            unreadable += 1
            continue
        _take(record, entries, open_)
    return History(tuple(entries), unreadable)


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
        open_[key] = Entry(when, None, who, verb, CUT_OFF)  # an earlier one that did not end stays as it is
        entries.append(open_[key])
        return
    entry = open_.get(key)
    if entry is None:
        if event != "effect":
            return
        entry = Entry(when, when, who, verb, NOTED)
        entries.append(entry)
    if event == "effect":
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


def _effect(record: Mapping[str, Any]) -> str:
    words = [str(record.get("action") or "change"), str(record.get("target") or "")]
    identity, account = str(record.get("id") or ""), str(record.get("account") or "")
    if identity and identity not in words[1]:
        words.append(f"({identity})")
    if account:
        words.append(f"for {account}")
    return " ".join(word for word in words if word)


def _failure(record: Mapping[str, Any]) -> str:
    place = f"stage {record['stage']}: " if record.get("stage") else ""
    place = f"{record['account']}: " if record.get("account") else place
    return f"{place}{record.get('what') or record.get('kind') or 'failed'}"


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
