"""Send messages through apprise.

Client and server project share this file: the server project has a copy, and a test keeps the two equal.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence

LIMIT = 20.0  # seconds for all receivers together
_LOGGER = logging.getLogger("apprise")
_LOGGER.propagate = False  # what it logs has parts of the URL
_LOGGER.addHandler(logging.NullHandler())


def is_supported(url: str) -> bool:
    """Whether apprise has such a receiver."""
    import apprise

    return apprise.Apprise.instantiate(url) is not None


def send(urls: Sequence[str], title: str, text: str, limit: float = LIMIT) -> list[bool]:
    """Whether each receiver accepted the message within `limit` seconds."""
    accepted = [False] * len(urls)

    def one(number: int) -> None:
        with contextlib.suppress(Exception):  # apprise's plugins, and the libraries they use
            accepted[number] = _send(urls[number], title, text)

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(len(urls))]
    deadline = time.monotonic() + limit
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    return list(accepted)


def _send(url: str, title: str, text: str) -> bool:
    import apprise

    receiver = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False))
    return bool(receiver.add(url) and receiver.notify(title=title, body=text, body_format=apprise.NotifyFormat.TEXT))
