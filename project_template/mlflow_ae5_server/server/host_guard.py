"""Host and origin checks and the frame policy, around MLflow's application.

This is no authentication: AE5's proxy checks tokens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mlflow_ae5_server.server.host_policy import HostPolicy

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_ASSISTANT = "/ajax-api/3.0/mlflow/assistant"
_NOTEBOOK_RENDERER = "/static-files/lib/notebook-trace-renderer"  # made to be framed by notebooks anywhere
_ELSEWHERE = ("192.0.2.1", 0)  # a documentation address (RFC 5737): never this machine
_PROBES = ("/health", "/version")  # allowed under any host name, as in MLflow
_READING = frozenset({"GET", "HEAD"})
# MLflow's texts, by which jobs and `doctor` recognise them
_WRONG_HOST = b"Invalid Host header - possible DNS rebinding attack detected"
_WRONG_ORIGIN = b"Cross-origin request blocked"


def wrap(
    application: Application,
    policy: HostPolicy,
    prefix: str = "",
    *,
    frames: bool = True,
    refused: Callable[[str], None] = lambda _reason: None,
) -> Application:
    """`application` for the hosts and origins of `policy` only. refused: called for each 403.

    frames=False leaves MLflow's own frame policy. MLflow's assistant runs commands on the server for callers from
    127.0.0.1. Behind AE5's proxy any client may look like that, so all of them are presented as remote, and refused.
    """
    frame_policy = policy.content_security_policy.encode()
    probes = frozenset(prefix + path for path in _PROBES)

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        path = scope["path"]
        if frames and _NOTEBOOK_RENDERER not in path:
            send = _changing_headers(send, add=(b"content-security-policy", frame_policy))
        if path not in probes and not all(map(policy.allows_host, _values(scope, b"host") or [""])):
            refused("host")
            await _refuse(send, _WRONG_HOST)
            return
        if not all(map(policy.allows_origin, _values(scope, b"origin"))):
            if scope["method"] not in _READING:
                refused("origin")
                await _refuse(send, _WRONG_ORIGIN)
                return
            # Without these headers no browser lets the page read the answer.
            send = _changing_headers(send, drop=b"access-control-")
        if _ASSISTANT in path:
            scope = {**scope, "client": _ELSEWHERE}
        await application(scope, receive, send)

    return guarded


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for header, value in scope["headers"] if header == name]


def _changing_headers(send: Send, *, add: tuple[bytes, bytes] | None = None, drop: bytes | None = None) -> Send:
    """`send` with one more header, or without those that begin with `drop`."""

    async def send_changed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [
                item for item in message.get("headers", []) if drop is None or not item[0].lower().startswith(drop)
            ]
            # A second Content-Security-Policy header can only narrow the first, so MLflow's own stays.
            message = {**message, "headers": [*headers, *([add] if add else [])]}
        await send(message)

    return send_changed


async def _refuse(send: Send, reason: bytes) -> None:
    await answer(send, 403, reason, (b"content-type", b"text/plain"), (b"x-content-type-options", b"nosniff"))


async def answer(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """Send a whole answer."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})
