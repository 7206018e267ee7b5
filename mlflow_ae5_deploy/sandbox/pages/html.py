"""Make an HTML answer from a template."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mlflow_ae5_deploy.common.durations import duration, moment
from mlflow_ae5_deploy.common.visible import visible_lines
from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.models import SandboxAccount

_TEMPLATES = Path(__file__).with_name("templates")
_STYLE = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_ERRORS = {
    400: ("The sandbox does not understand the request", ""),
    401: ("You are not signed in", "Sign in, or send a token of the deployment."),
    403: ("You may not open this", "Its owner can share it with you, or sign in with another account."),
    404: ("Not found", "It does not exist, or it is not shared with you."),
    500: ("The sandbox failed", "Its log says more: `mlflow-ae5-deploy sandbox logs`."),
    501: (
        "The sandbox has no such page",
        "It answers only requests that it knows from AE5, and has a few pages of its own.",
    ),
    502: (
        "The server does not answer",
        "It may still be starting: reload in a few seconds. The deployment's log says more.",
    ),
}


def page(
    core: SandboxCore,
    template: str,
    *,
    status: int = 200,
    reason: str | None = None,
    embedder: str = "'none'",
    **values: Any,
) -> web.Response:
    """embedder: the origin that may show the page in a frame."""
    text = _ENVIRONMENT.get_template(template).render(home=f"{core.origin}/", **values)
    own = f"{core.origin} https://{f'*.{core.host}' if core.vhosts else 'localhost:*'}"
    policy = {
        "default-src": "'none'",
        "style-src": f"'sha256-{_STYLE_HASH}'",
        "img-src": "data:",
        "frame-src": own,
        "form-action": own,  # Chromium checks the redirects after a form, too: they lead to an endpoint
        "frame-ancestors": embedder,
        "base-uri": "'none'",
    }
    headers = {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return web.Response(
        text=text, status=status, reason=reason, headers=headers, content_type="text/html", charset="utf-8"
    )


def error_page(
    core: SandboxCore, status: int, reason: str, *, account: SandboxAccount | None, endpoint: str | None
) -> web.Response:
    """endpoint: the one that the request was for, if any; the platform may frame its errors."""
    heading, advice = _ERRORS.get(status, ("The request failed", ""))
    return page(
        core,
        "message.html",
        status=status,
        reason=reason,
        embedder=core.origin if endpoint else "'none'",
        account=account,
        heading=heading,
        lines=[f"{status} {reason}", *([advice] if advice else [])],
        link=(f"{core.origin}/", "Go to the overview"),
    )


def _moment(text: str) -> Markup:
    when = datetime.fromisoformat(text)
    shown = moment(when, datetime.now(UTC))
    return Markup('<time datetime="{}">{}</time>').format(when.isoformat(timespec="seconds"), shown)


def _took(run: dict[str, Any]) -> str:
    """How long a run took; empty while it runs."""
    if run["state"] in ("initial", "running"):
        return ""
    return duration(datetime.fromisoformat(run["updated"]) - datetime.fromisoformat(run["created"]))


def _safe(value: Any) -> Any:
    """Names and logs come from outside: show the characters in them that hide or reverse others."""
    return visible_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_TEMPLATES),
    autoescape=True,
    finalize=_safe,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["moment"] = _moment
_ENVIRONMENT.globals.update(style=Markup(_STYLE), took=_took)  # noqa: S704 - our own file
