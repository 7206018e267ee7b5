"""The receivers of messages, which the jobs get as a secret: their URLs hold passwords."""

from __future__ import annotations

import re
from importlib.util import find_spec

from mlflow_ae5_deploy.common import apprise_messages
from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine.context import Context

VARIABLE = "MLFLOW_TRACKING_NOTIFY_URLS"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://\S+\Z")


def can_send() -> bool:
    """Whether apprise is installed here."""
    return find_spec("apprise") is not None


def urls(context: Context) -> list[Secret]:
    """Raise Configuration for a reference that cannot be resolved, and for a value that is no URL."""
    found = []
    for number, reference in enumerate(context.settings.notify.urls):
        url = context.values.secret(reference, f"notify URL {number}")
        if not _URL.match(url.reveal()):
            raise _no_url(context, number, "is no URL")
        found.append(url)
    return found


def check(context: Context) -> None:
    """Raise Configuration also for a URL that apprise does not know, where apprise is installed."""
    found = urls(context)
    if not found or not can_send():
        return
    for number, url in enumerate(found):
        if not apprise_messages.is_supported(url.reveal()):
            raise _no_url(context, number, "is no URL that apprise knows")


def secret(context: Context) -> Secret:
    """All of them, as the jobs read them."""
    return Secret(" ".join(url.reveal() for url in urls(context)))


def _no_url(context: Context, number: int, what: str) -> Configuration:
    return Configuration(
        f"The value of notify.urls.{number} {what}.",
        where=f"notify.urls.{number} ({context.settings.notify.urls[number]})",
        remedy="Write it as apprise has it, such as mailtos://USER:PASSWORD@HOST or slack://TOKEN_A/TOKEN_B/TOKEN_C.",
    )
