"""What is put around MLflow's application: the frame policy, and a closed door for its assistant."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_ASSISTANT = "/ajax-api/3.0/mlflow/assistant"
_NOTEBOOK_RENDERER = "/static-files/lib/notebook-trace-renderer"  # made to be framed by notebooks anywhere
_ELSEWHERE = ("192.0.2.1", 0)  # a documentation address (RFC 5737): never this machine


def wrap(application: Application, content_security_policy: str | None) -> Application:
    """`application` with `content_security_policy` on every answer; None leaves MLflow's own frame policy alone.

    MLflow's assistant runs commands on the server for callers from 127.0.0.1. Behind AE5's proxy everybody may look
    like that, so its callers are always presented as coming from elsewhere; MLFLOW_ENABLE_REMOTE_ASSISTANT decides.
    """
    policy = content_security_policy.encode() if content_security_policy else None

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        path = scope["path"]
        if _ASSISTANT in path:
            scope = {**scope, "client": _ELSEWHERE}
        if policy is None or _NOTEBOOK_RENDERER in path:
            await application(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A second Content-Security-Policy header can only narrow the first, so MLflow's own is kept.
                headers = [*message.get("headers", []), (b"content-security-policy", policy)]
                message = {**message, "headers": headers}
            await send(message)

        await application(scope, receive, send_with_policy)

    return guarded
