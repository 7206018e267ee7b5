"""`status --notify`: notify the receivers of problems that are new, and of those that have ended, once each."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_ae5_deploy.common import apprise_messages, json_input
from mlflow_ae5_deploy.common.errors import Configuration, DeployError
from mlflow_ae5_deploy.common.files import write_private_json
from mlflow_ae5_deploy.common.optional_packages import install_extra
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.common.text import counted, whole_commands
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.operations.status.run import Status
from mlflow_ae5_deploy.resources import receivers

_FILE = "notified.json"  # key of a problem -> what was notified, of those that have not ended
_NO_STATUS = "no-status"  # stands for a check that failed
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
    """Notify of errors that are new or have ended. Warnings are not sent: no installation is unhealthy for one."""
    found = {problem.key: f"{problem.message} ({problem.code})" for problem in status.errors}
    _notify(context, _notified(context), found, {problem.key: problem.remedy for problem in status.errors})


def about_failure(context: Context, error: DeployError) -> None:
    """Notify of a check that failed. Whether other problems have ended is not known then."""
    notified = _notified(context)
    found = {**notified, _NO_STATUS: f"The status is not known: {error.what} ({_NO_STATUS})"}
    _notify(context, notified, found, {_NO_STATUS: error.remedy})


def _notify(
    context: Context, notified: Mapping[str, str], found: Mapping[str, str], remedies: Mapping[str, str]
) -> None:
    """notified, found: by key, as in the file. remedies: of the new ones at least."""
    new, ended = found.keys() - notified.keys(), notified.keys() - found.keys()
    if not new and not ended:
        return
    host, project = context.access.target.options.hostname, context.settings.project.name
    lines = [f"What: {found[key]}\nWhat to do: {whole_commands(remedies[key])}" for key in sorted(new)]
    lines += [f"Ended: {notified[key]}" for key in sorted(ended)]
    lines.append(f"Where: project {project} of {context.account} on {host}")
    urls = [url.reveal() for url in receivers.urls(context)]
    title = _title(len(found), any_new=bool(new))
    refused = apprise_messages.send(urls, scrub(title), scrub("\n".join(lines)))
    context.warn(
        [f"notify.urls.{number} did not accept the message: {why}." for number, why in enumerate(refused) if why]
    )
    if not all(refused):
        write_private_json(context.folders.state / _FILE, {key: scrub(text) for key, text in found.items()})


def _title(problems: int, *, any_new: bool) -> str:
    if not problems:
        return "MLflow: healthy again"
    return f"MLflow: {counted(problems, 'problems')}{'' if any_new else ' left'}"


def _notified(context: Context) -> dict[str, str]:
    """Of earlier runs; empty where nothing usable is recorded."""
    try:
        with (context.folders.state / _FILE).open("rb") as stream:
            content = json_input.parse(stream.read(_LARGEST))
    except (OSError, ValueError):
        return {}
    return {key: text for key, text in content.items() if isinstance(text, str)} if isinstance(content, dict) else {}
