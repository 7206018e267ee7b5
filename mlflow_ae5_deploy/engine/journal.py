"""The journal: lines of JSON, each on disk before the run goes on.

`intent` and `done` stand around each change; between them is one `effect` for each request that changed something.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow_ae5_deploy.common.clock import Clock
from mlflow_ae5_deploy.common.files import cannot_write, private_folder
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.config.state_dir import JOURNAL

_log = logging.getLogger(__name__)


_TYPES: dict[str, type | tuple[type, ...]] = {"stage": int, "writes": int, "seconds": (int, float), "added": list}


@dataclass(frozen=True, kw_only=True)
class JournalEntry:
    """One line. None for what an event does not have."""

    time: datetime | None  # None where the line has no readable time
    who: str = "?"
    verb: str = "?"
    event: str  # begin | intent | effect | done | failed | note | end | interrupted
    # the resource, of an effect and of a change before (intent) and after it (done)
    action: str | None = None
    resource: str | None = None
    name: str | None = None
    id: str | None = None
    account: str | None = None  # whose secret; at the beginning the service account
    added: Sequence[Any] | None = None  # collaborators
    # a change
    change: str | None = None  # its kind
    phrase: str | None = None
    reason: str | None = None
    stage: int | None = None
    # a run
    host: str | None = None
    outcome: str | None = None  # done, or the kind of an error
    kind: str | None = None  # of an error
    what: str | None = None  # of an error, or a job's message
    writes: int | None = None
    seconds: float | None = None

    def line(self) -> str:
        given = {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}
        if self.time is not None:
            given["time"] = self.time.isoformat(timespec="milliseconds")
        return json.dumps(given)

    @classmethod
    def parse(cls, line: str) -> JournalEntry | None:
        """None for what is no whole line of a journal."""
        try:
            data = json.loads(line)
        except ValueError:
            return None
        if not isinstance(data, dict) or not isinstance(data.get("event"), str):
            return None
        names = (field.name for field in fields(cls))
        given = {name: data[name] for name in names if isinstance(data.get(name), _TYPES.get(name, str))}
        try:
            time = datetime.fromisoformat(data["time"])
        except (KeyError, TypeError, ValueError):
            time = None
        return cls(**{**given, "time": time})


def backwards(path: Path) -> Iterator[JournalEntry]:
    """The entries of a journal, newest first; none where it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    yield from filter(None, map(JournalEntry.parse, reversed(lines)))  # a full disk or a crash may have truncated one


def operator() -> str:
    """Who runs this tool, as `user@machine`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class Journal:
    """`journal.jsonl` (0600) of one installation. With read_only nothing is written."""

    def __init__(self, folder: Path, clock: Clock, *, verb: str, read_only: bool = False) -> None:
        self.path = folder / JOURNAL
        self._clock = clock
        self._verb = verb
        self._read_only = read_only
        self.effects = 0
        """How many this run has noted."""

    def effect(self, action: str, resource: str, name: str = "", **more: Any) -> None:
        """Note what a request has just changed. more: such as id and account."""
        self.effects += 1
        self.write("effect", action=action, resource=resource, name=name, **more)

    def write(self, event: str, **more: Any) -> None:
        """Append an entry and wait until it is on disk. Texts are scrubbed of secrets."""
        if self._read_only:
            return
        scrubbed: dict[str, Any] = {
            key: scrub(value) if isinstance(value, str) else value for key, value in more.items()
        }
        entry = JournalEntry(time=self._clock.now(), who=operator(), verb=self._verb, event=event, **scrubbed)
        _log.info("%s %s", event, " ".join(f"{key}={value}" for key, value in more.items() if value not in ("", None)))
        private_folder(self.path.parent)
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                torn = size and os.pread(descriptor, 1, size - 1) != b"\n"  # what a full disk has left of a line
                os.write(descriptor, (("\n" if torn else "") + entry.line() + "\n").encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise cannot_write(error, self.path) from None
