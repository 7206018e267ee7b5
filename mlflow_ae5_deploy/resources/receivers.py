"""The receivers of messages, which the jobs get as a secret: their URLs hold passwords."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine.context import Context

VARIABLE = "MLFLOW_TRACKING_NOTIFY_URLS"
LIMIT = 20.0  # seconds for all receivers together
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
    _silence()
    import apprise

    for number, url in enumerate(found):
        if apprise.Apprise.instantiate(url.reveal()) is None:
            raise _no_url(context, number, "is no URL that apprise knows")


def desired(context: Context) -> Mapping[str, Secret]:
    """The secret of the jobs: without receivers only where it was stored before."""
    if found := urls(context):
        return {VARIABLE: Secret(" ".join(url.reveal() for url in found))}
    return {VARIABLE: Secret.public("unset")} if VARIABLE in context.cached.secret_names() else {}


def _no_url(context: Context, number: int, what: str) -> Configuration:
    return Configuration(
        f"The value of notify.urls.{number} {what}.",
        where=f"notify.urls.{number} ({context.settings.notify.urls[number]})",
        remedy="Write it as apprise has it, such as mailtos://USER:PASSWORD@HOST or slack://TOKEN_A/TOKEN_B/TOKEN_C.",
    )


# sending ----------------------------------------------------------------------------------------------------------


def send(receivers: Sequence[Secret], title: str, text: str, limit: float = LIMIT) -> list[bool]:
    """Whether each receiver took the message within `limit` seconds."""
    taken = [False] * len(receivers)

    def one(number: int) -> None:
        with contextlib.suppress(Exception):  # apprise's plugins, and the libraries they use
            taken[number] = _send(receivers[number], title, text)

    _silence()
    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(len(receivers))]
    deadline = time.monotonic() + limit
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    return list(taken)


def _send(receiver: Secret, title: str, text: str) -> bool:
    import apprise

    found = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False))
    return bool(
        found.add(receiver.reveal()) and found.notify(title=title, body=text, body_format=apprise.NotifyFormat.TEXT)
    )


def _silence() -> None:
    """What apprise logs has parts of the URL."""
    logging.getLogger("apprise").propagate = False
    logging.getLogger("apprise").addHandler(logging.NullHandler())
