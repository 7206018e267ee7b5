"""Logging of HTTP, without headers, queries, forms and pages."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

import requests

from mlflow_ae5_deploy.common.redaction import scrub

_log = logging.getLogger(__name__)
_LONGEST = 100_000  # bytes of a body that is looked at
_SHOWN = 800  # characters of it
_PRIVATE = ("/token", "/impersonation", "/logs")  # ends of paths whose answers may hold an unregistered secret


def log_exchange(request: requests.PreparedRequest, response: requests.Response | None, seconds: float) -> None:
    """Log one line for a request; on DEBUG also the JSON sent and received."""
    if not _log.isEnabledFor(logging.INFO):
        return
    parts = urlsplit(request.url or "")
    outcome = "no answer" if response is None else str(response.status_code)
    _log.info("%s %s%s %s, %.0f ms", request.method, parts.netloc, parts.path, outcome, 1000 * seconds)
    if request.body:
        _log.debug("  sent: %s", _shown(request.headers.get("content-type"), request.body))
    if response is not None and response.content and not parts.path.endswith(_PRIVATE):
        _log.debug("  received: %s", _shown(response.headers.get("content-type"), response.content))


def _shown(content_type: str | bytes | None, body: object) -> str:
    kind = str(content_type or "unknown type").partition(";")[0]
    if isinstance(body, str):
        body = body.encode()
    if not isinstance(body, bytes):
        return f"{kind}, a stream"
    if "json" not in kind or len(body) > _LONGEST:
        return f"{kind}, {len(body):,} bytes"
    text = scrub(body.decode("utf-8", "replace"))  # before it is cut: a part of a secret would not be known as one
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"
