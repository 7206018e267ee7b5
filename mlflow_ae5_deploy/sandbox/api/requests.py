"""Read requests strictly; refuse unknown fields and parameters by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import web

from mlflow_ae5_deploy.common import json_input
from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.errors import bad
from mlflow_ae5_deploy.sandbox.models import SandboxAccount

CORE = web.AppKey("core", SandboxCore)
LABEL: web.RequestKey[str | None] = web.RequestKey("label", object)  # type: ignore[arg-type]
SECRET: web.RequestKey[str] = web.RequestKey("secret", str)
ACCOUNT: web.RequestKey[SandboxAccount | str | None] = web.RequestKey("account", object)  # type: ignore[arg-type]
_Handler = TypeVar("_Handler", bound=Callable[..., Any])
_KINDS = {str: "a string", bool: "a boolean", dict: "an object", list: "a list"}


def queries(*names: str) -> Callable[[_Handler], _Handler]:
    """Mark a handler as understanding these query parameters; any other is refused."""

    def mark(handler: _Handler) -> _Handler:
        handler.queries = names  # type: ignore[attr-defined]
        return handler

    return mark


def check_queries(request: web.Request) -> None:
    allowed = getattr(request.match_info.handler, "queries", ())
    unknown = sorted(set(request.query) - set(allowed))
    if unknown:
        raise bad(f"Sandbox: unknown query parameter {', '.join(unknown)}")


async def json_value(request: web.Request) -> Any:
    if "json" not in request.content_type:
        raise bad(f"Expected a JSON body, not {request.content_type}")
    try:
        return json_input.parse(await request.text())
    except (ValueError, LookupError) as error:  # LookupError: an unknown charset
        raise bad("Malformed JSON body") from error


async def json_fields(
    request: web.Request, required: dict[str, Any] | None = None, optional: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The body as an object with exactly these fields.

    Kinds: a type, or a tuple of types (NoneType for null).
    """
    data = await json_value(request)
    if not isinstance(data, dict):
        raise bad("Expected a JSON object")
    kinds = {**(required or {}), **(optional or {})}
    for name in data:
        if name not in kinds:
            raise bad(f"Sandbox: unknown field {name}")
    for name in required or {}:
        if name not in data:
            raise bad(f"Missing field {name}")
    for name, value in data.items():
        if not isinstance(value, kinds[name]) or (isinstance(value, bool) and kinds[name] is not bool):
            raise bad(f"Field {name} must be {_KINDS.get(kinds[name], 'of another type')}")
    return data


async def no_body(request: web.Request) -> None:
    if request.can_read_body and await request.read():
        raise bad("Sandbox: unexpected request body")


async def form_fields(
    request: web.Request, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, str]:
    if request.content_type != "application/x-www-form-urlencoded":
        raise bad(f"Expected a form, not {request.content_type}")
    form = await request.post()
    unknown = sorted(set(form) - set(required) - set(optional))
    if unknown:
        raise bad(f"Sandbox: unknown form field {', '.join(unknown)}")
    missing = [name for name in required if name not in form]
    if missing:
        raise bad(f"Missing form parameter: {', '.join(missing)}")
    return {name: str(value) for name, value in form.items()}


def variables_of(value: dict[str, Any]) -> dict[str, str]:
    for name, text in value.items():
        if not isinstance(text, str):
            raise bad(f"Variable {name} must be a string")
    return dict(value)


def account_of(request: web.Request) -> SandboxAccount:
    account = request[ACCOUNT]
    if not isinstance(account, SandboxAccount):
        raise TypeError("the route is not one for signed-in people")
    return account


def core_of(request: web.Request) -> SandboxCore:
    return request.app[CORE]


def done() -> web.Response:
    """An empty 200, with the Content-Type that ae5-tools reads from every 200."""
    return web.Response(status=200, text="", content_type="application/json")
