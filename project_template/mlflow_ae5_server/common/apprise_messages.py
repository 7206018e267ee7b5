"""Send messages through apprise.

Client and server project share this file: the server project has a copy, and a test keeps the two equal.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Sequence
from contextvars import ContextVar

LIMIT = 20.0  # seconds for all receivers together
_STATUS = re.compile(r"error=(\d{3})\b")
_reasons: ContextVar[list[str]] = ContextVar("reasons")
"""Why a receiver did not accept a message. A context, because apprise sends in a thread of its own."""


class _KeepReason(logging.Handler):
    """What apprise logs has parts of the URL, so no more than the kind of failure is kept."""

    def emit(self, record: logging.LogRecord) -> None:
        text, found = record.getMessage(), _reasons.get([])
        if status := _STATUS.search(text):
            found.append(f"HTTP {status[1]}")
        elif "onnection error" in text:
            found.append("no connection")


_LOGGER = logging.getLogger("apprise")
_LOGGER.propagate = False
_LOGGER.addHandler(_KeepReason(logging.WARNING))


def is_supported(url: str) -> bool:
    """Whether apprise has such a receiver."""
    import apprise

    return apprise.Apprise.instantiate(url) is not None


def send(urls: Sequence[str], title: str, text: str, limit: float = LIMIT) -> list[str]:
    """For each receiver, why it did not accept the message within `limit` seconds; empty where it did."""
    refused = [f"no answer within {limit:g} s"] * len(urls)

    def one(number: int) -> None:
        accepted, reasons = False, list[str]()
        _reasons.set(reasons)
        with contextlib.suppress(Exception):  # apprise's plugins, and the libraries they use
            accepted = _send(urls[number], title, text)
        refused[number] = "" if accepted else next(iter(reasons), "the reason is not known")

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(len(urls))]
    deadline = time.monotonic() + limit
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    return list(refused)


def _send(url: str, title: str, text: str) -> bool:
    import apprise

    receiver = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False))
    return bool(receiver.add(url) and receiver.notify(title=title, body=text, body_format=apprise.NotifyFormat.TEXT))
