"""Notify people that a job has failed, and that it works again: once each, through apprise.

A notified failure is an empty file `notified/KIND` in the folder of the recorded outcomes; where no store is on this
machine, in the backup repository. A job never fails because of a receiver, nor waits long for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mlflow_ae5_server.common import apprise_messages, outcomes
from mlflow_ae5_server.common.contract import EXIT_CODES
from mlflow_ae5_server.common.errors import ProjectError
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.common.report import say
from mlflow_ae5_server.common.settings import NOTIFY_URLS, Settings
from mlflow_ae5_server.repository.backend import Backend
from mlflow_ae5_server.repository.folder_backend import FolderBackend
from mlflow_ae5_server.repository.repository import open_repository

_NAMES = {
    "backup": "backup",
    "check": "backup check",
    "drill": "drill",
    "gc": "garbage collection",
    "prune": "prune of backups",
}
_COUNTS = {
    "damaged_total": "objects are damaged",
    "unreadable": "artifacts could not be read",
    "external": "artifact locations are outside the store",
    "skipped_total": "items were skipped",
}
_READ_LOG = "read the job's log: mlflow-ae5-deploy logs --run latest"
Send = Callable[[Sequence[str], str, str], list[str]]


@dataclass(frozen=True)
class Event:
    """How a job, or a part of it, ended. error: empty for a success."""

    kind: str
    error: str = ""
    hint: str = ""
    is_incomplete: bool = False


def events(report: Mapping[str, Any]) -> Iterator[Event]:
    """What a job's report shows. A run that only looked, or left the work to another one, shows nothing."""
    for kind, part in outcomes.parts(report):
        if part["outcome"] == "skipped":
            continue
        if part["exit_code"]:
            is_incomplete = part["exit_code"] == EXIT_CODES["incomplete"]
            yield Event(kind, _error(part, report["exit_code"]), part.get("hint") or _READ_LOG, is_incomplete)
        else:
            yield Event(kind)


def _error(part: Mapping[str, Any], exit_code: int) -> str:
    """exit_code: of the job, which a part of it need not fail."""
    numbers = {field: part.get(field) or 0 for field in _COUNTS}
    counts = {field: len(number) if isinstance(number, list) else number for field, number in numbers.items()}
    found = [f"{number} {_COUNTS[field]}" for field, number in counts.items() if number]
    error = part.get("error") or ", ".join(found) or f"it ended as {part['outcome']}"
    return f"{error} (exit code {exit_code})" if exit_code else str(error)


def about(settings: Settings, report: Mapping[str, Any], send: Send | None = None, now: datetime | None = None) -> None:
    """Notify of what has changed since the last message. Raises nothing: the job has ended."""
    try:
        _notify(settings, report, send or apprise_messages.send, now or datetime.now(UTC))
    except Exception as error:
        say(f"warning: nobody was notified of the result of this job: {type(error).__name__}")


def _notify(settings: Settings, report: Mapping[str, Any], send: Send, now: datetime) -> None:
    urls = (settings.value(NOTIFY_URLS) or "").split()
    found = list(events(report)) if urls else []
    if not found:
        return
    notified = _open_notified(settings)
    for event in found:
        if bool(event.error) == _is_notified(notified, event.kind):
            continue
        refused = send(urls, *_message(event, settings, report, now))
        for number, why in enumerate(refused):
            if why:
                say(f"warning: notify.urls.{number} did not accept the message: {why}")
        if not all(refused):
            _note(notified, event)


def _message(event: Event, settings: Settings, report: Mapping[str, Any], now: datetime) -> tuple[str, str]:
    """Title and text."""
    name = _NAMES[event.kind]
    where = settings.value("MLFLOW_TRACKING_URI") or "this MLflow server"
    lines = [f"Where: {where}, job {report['command']}, {now:%Y-%m-%d %H:%M} UTC"]
    if event.error:
        title = f"MLflow: {name} {'is incomplete' if event.is_incomplete else 'failed'}"
        lines = [f"What: {event.error}", *lines, f"What to do: {event.hint}"]
    else:
        title = f"MLflow: {name} works again"
        lines = ["What: the last run succeeded", *lines, "What to do: nothing"]
    return scrub(title), scrub("\n".join(lines))


# notified failures ------------------------------------------------------------------------------------------------


def _open_notified(settings: Settings) -> Backend | None:
    """None where nothing can be recorded: then each failure is notified, and no recovery."""
    try:
        if (folder := outcomes.recorded_in(settings)) is not None:
            return FolderBackend(folder)
        return open_repository(settings.value("MLFLOW_TRACKING_BACKUP_DESTINATION") or "").backend
    except ProjectError as error:
        say(f"warning: it is not known which failures were notified: {error.message}")
        return None


def _is_notified(notified: Backend | None, kind: str) -> bool:
    try:
        return notified is not None and notified.read(f"notified/{kind}") is not None
    except ProjectError:
        return False


def _note(notified: Backend | None, event: Event) -> None:
    name = f"notified/{event.kind}"
    try:
        if notified is not None and event.error:
            notified.write(name, b"")
        elif notified is not None:
            notified.delete([name])
    except ProjectError as error:
        say(f"warning: the notification could not be recorded: {error.message}")
