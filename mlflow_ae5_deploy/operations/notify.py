"""`status --notify`: notify the receivers of problems that are new, and of those that have ended, once each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mlflow_ae5_deploy.common import json_input
from mlflow_ae5_deploy.common.errors import Configuration, DeployError
from mlflow_ae5_deploy.common.files import write_private
from mlflow_ae5_deploy.common.optional_packages import install_extra
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.common.text import counted, whole_commands
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.operations.status.run import Status
from mlflow_ae5_deploy.resources import receivers

FILE = "notified.json"  # problem code -> its message, of those that were notified and have not ended
NO_STATUS = "no-status"  # stands for a check that failed
_LARGEST = 1024 * 1024  # bytes of the file


def require_receivers(context: Context) -> None:
    """Raise Configuration where no message can be sent."""
    if not context.settings.notify.urls:
        raise Configuration(
            "There are no receivers to notify.",
            where="notify.urls",
            remedy="Set notify.urls, or leave out --notify.",
        )
    if not receivers.can_send():
        raise Configuration(
            "apprise is not installed, which sends the messages.",
            where="status --notify",
            remedy=f"Run `{install_extra('notify')}`.",
        )
    receivers.check(context)


def about_status(context: Context, status: Status) -> None:
    """Of errors; a warning makes no installation unhealthy."""
    remedies = {problem.code: problem.remedy for problem in status.errors}
    _notify(context, {problem.code: problem.message for problem in status.errors}, remedies)


def about_failure(context: Context, error: DeployError) -> None:
    """Of a check that failed; whether other problems have ended is not known."""
    found = {**_read(context.folders.state / FILE), NO_STATUS: f"The status is not known: {error.what}"}
    _notify(context, found, {NO_STATUS: error.remedy})


def _notify(context: Context, found: Mapping[str, str], remedies: Mapping[str, str]) -> None:
    file = context.folders.state / FILE
    notified = _read(file)
    new, ended = found.keys() - notified.keys(), notified.keys() - found.keys()
    if not new and not ended:
        return
    host, project = context.access.target.options.hostname, context.settings.project.name
    lines = [
        f"What: {found[code]} ({code})\nWhat to do: {whole_commands(remedies.get(code, ''))}" for code in sorted(new)
    ]
    lines += [f"Ended: {notified[code]} ({code})" for code in sorted(ended)]
    lines.append(f"Where: project {project} of {context.account} on {host}")
    taken = receivers.send(receivers.urls(context), scrub(_title(new, found)), scrub("\n".join(lines)))
    context.warn(
        [f"notify.urls.{number} did not take the message." for number, is_taken in enumerate(taken) if not is_taken]
    )
    if any(taken):
        write_private(file, json.dumps({code: scrub(text) for code, text in found.items()}).encode())


def _title(new: object, found: Mapping[str, str]) -> str:
    if not found:
        return "MLflow: healthy again"
    return f"MLflow: {counted(len(found), 'problems')}" if new else f"MLflow: {counted(len(found), 'problems')} left"


def _read(file: Path) -> dict[str, str]:
    try:
        with file.open("rb") as stream:
            content = json_input.parse(stream.read(_LARGEST))
    except (OSError, ValueError):
        return {}
    return {code: text for code, text in content.items() if isinstance(text, str)} if isinstance(content, dict) else {}
