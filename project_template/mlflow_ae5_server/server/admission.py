"""Admission control: how many requests use the database or wait for it.

All others get 503.

MLflow's requests hold a connection while they ask for another. Under plain `mlflow server` forty of them may compete
for fifteen connections, each waits for the others, and after 30 s all get 400, which clients take as final: their data
is lost. Here a request starts only if every connection that it may need is free (`capacity.py`), and one that cannot
wait gets 503 at once: MLflow's client repeats it, after the time in Retry-After.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass

import anyio.to_thread

from mlflow_ae5_server.server.host_guard import Application, Message, Receive, Scope, Send, answer

_DATABASE = ("/api/", "/ajax-api/", "/graphql", "/v1/")
# These move files, wait for a model's answer, or have a limit of their own: long, and on a connection only at first.
_OTHERS = ("artifact", "gateway-proxy", "/assistant/", "/server-info")
_OTHER_THREADS = 128  # for these and for pages, beside those of the requests that use the database
# MLflow's client repeats seven times, and with Retry-After it does not wait longer each time: more than a minute in
# all. At random, so that clients do not return all at once.
_RETRY_AFTER = (5, 15)


@dataclass(frozen=True)
class Bounds:
    """The limits of one worker."""

    working: int  # requests that use the database at once
    waiting: int = 128  # requests that wait for it
    seconds: float = 2.0  # that a request waits, at most


def uses_database(path: str) -> bool:
    """Whether a request for this path may hold database connections."""
    return path.startswith(_DATABASE) and not any(part in path for part in _OTHERS)


class _Slots:
    """The slots of requests that use the database, and the queue for them."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds, self._free = bounds, asyncio.Semaphore(bounds.working)
        self._waiting = 0

    async def take(self) -> bool:
        """Whether a slot was free, or became free in time."""
        if self._waiting >= self._bounds.waiting and self._free.locked():
            return False
        self._waiting += 1
        try:
            async with asyncio.timeout(self._bounds.seconds):
                return await self._free.acquire()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1

    def release(self) -> None:
        self._free.release()


def bound(
    application: Application,
    bounds: Bounds,
    prefix: str = "",
    *,
    retry_after: Callable[[], int] = lambda: random.randint(*_RETRY_AFTER),  # noqa: S311 - spreads load
    refused: Callable[[str], None] = lambda _reason: None,
) -> Application:
    """`application` within `bounds`, which pages, probes and files ignore. refused: called for each 503 of its own."""
    slots = _Slots(bounds)

    async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            anyio.to_thread.current_default_thread_limiter().total_tokens = bounds.working + _OTHER_THREADS
        if scope["type"] == "http":
            send = _with_retry_after(send, retry_after)
            if uses_database(scope["path"].removeprefix(prefix)):
                await _with_slot(application, slots, scope, receive, send, refused)
                return
        await application(scope, receive, send)

    return bounded


async def _with_slot(
    application: Application,
    slots: _Slots,
    scope: Scope,
    receive: Receive,
    send: Send,
    refused: Callable[[str], None],
) -> None:
    # Whole before it gets a slot, and answered after it gave it back: a slow client holds no connection.
    body = await _whole(receive)
    if body is None:
        return
    if not await slots.take():
        refused("overload")
        await _send_busy(send)
        return
    held = [slots]

    def release() -> None:
        if held:
            held.pop().release()

    async def send_after_release(message: Message) -> None:
        if message["type"] == "http.response.start":
            release()
        await send(message)

    pending = [body]

    async def receive_body() -> Message:
        return pending.pop() if pending else await receive()

    try:
        await application(scope, receive_body, send_after_release)
    finally:
        release()


async def _whole(receive: Receive) -> Message | None:
    """The request's body in one message; None if the client has gone."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return {"type": "http.request", "body": b"".join(parts), "more_body": False}


def _with_retry_after(send: Send, retry_after: Callable[[], int]) -> Send:
    """`send` with Retry-After on every 503, also MLflow's own."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 503:
            headers = [item for item in message.get("headers", []) if item[0].lower() != b"retry-after"]
            message = {**message, "headers": [*headers, (b"retry-after", str(retry_after()).encode())]}
        await send(message)

    return sending


async def _send_busy(send: Send) -> None:
    error = {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "The server is busy: try again later."}
    await answer(send, 503, json.dumps(error).encode(), (b"content-type", b"application/json"))
