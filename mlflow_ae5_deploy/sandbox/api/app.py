"""The application of the API: routes, authentication, faults, call log and errors."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable

from aiohttp import web

from mlflow_ae5_deploy.sandbox.api import deployments, jobs, profiles, projects
from mlflow_ae5_deploy.sandbox.api.proxy import Proxy
from mlflow_ae5_deploy.sandbox.api.requests import ACCOUNT, CORE, LABEL, SECRET, check_queries
from mlflow_ae5_deploy.sandbox.auth import keycloak, login
from mlflow_ae5_deploy.sandbox.auth.accounts import digest
from mlflow_ae5_deploy.sandbox.auth.login import SESSION_COOKIE, XSRF_COOKIE, auth_url, signed_in
from mlflow_ae5_deploy.sandbox.control_plane.control import Control, Fault
from mlflow_ae5_deploy.sandbox.core import VHOST, SandboxCore
from mlflow_ae5_deploy.sandbox.errors import ApiError
from mlflow_ae5_deploy.sandbox.pages import routes as pages
from mlflow_ae5_deploy.sandbox.pages.html import error_page
from mlflow_ae5_deploy.sandbox.ports import Endpoints

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_SAFE = ("GET", "HEAD", "OPTIONS")
_API = ("/api/", "/platform/")
_PAGES = ("/projects/", "/deployments/", "/jobs/", "/runs/")
_HOLD_POLL_SECONDS = 0.005


def platform_app(core: SandboxCore, proxy: Proxy) -> web.Application:
    """Build the application of every port; a request is routed by port or Host header."""
    app = web.Application(
        middlewares=[_observed, _errors, _to_endpoints(proxy), _authenticated],
        client_max_size=16 << 20,
    )
    app[CORE] = core
    # `projects/actions` and `projects/upload` must come before `projects/{id}`.
    for module in (login, keycloak, profiles, projects, deployments, jobs, pages):
        app.add_routes(module.routes())
    return app


def _to_endpoints(proxy: Proxy) -> Callable[..., Awaitable[web.StreamResponse]]:
    @web.middleware
    async def dispatch(request: web.Request, handler: _Handler) -> web.StreamResponse:
        label = request[LABEL]
        return await (handler(request) if label is None else proxy.handle(request, label))

    return dispatch


def endpoint_label(core: SandboxCore, endpoints: Endpoints, request: web.Request) -> str | None:
    """The endpoint this request is for, or None when it is for the platform."""
    if core.vhosts:
        name = request.host.rpartition(":")[0] or request.host
        return name.removesuffix(f".{VHOST}") if name.endswith(f".{VHOST}") else None
    port = request.transport.get_extra_info("sockname")[1] if request.transport else 0
    return None if port == core.state.port else endpoints.label_of_port(port)


@web.middleware
async def _observed(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Every request goes into the call log, and meets the faults waiting for it."""
    core = request.app[CORE]
    control = core.control
    request[LABEL] = request[ACCOUNT] = None
    request[SECRET] = ""
    if not request.raw_path.startswith("/"):  # the absolute form and CONNECT are for proxies
        core.log.warning("%s refused: 400, not a path of this server", request.method)
        return _refusal(request, 400, "Sandbox: the request target is not a path of this server")
    label = endpoint_label(core, request.app[deployments.ENDPOINTS], request)
    request[LABEL] = label
    surface = f"endpoint:{label}" if label else "platform"
    status = 500
    try:
        response = await _with_fault(request, handler, control.take_fault(request.method, request.path))
        status = response.status if request.transport is not None and not request.transport.is_closing() else 0
        return response
    finally:
        who = request[ACCOUNT]
        name = who if isinstance(who, str) else (who.username if who else "")
        control.note(surface, request.method, request.path, status, name, request[SECRET])
        core.log.info("%s %s %s -> %s (%s)", surface, request.method, _shown(request), status, name or "-")


async def _with_fault(request: web.Request, handler: _Handler, fault: Fault | None) -> web.StreamResponse:
    if fault is None:
        return await handler(request)
    if fault.delay:
        await asyncio.sleep(fault.delay)
    control = request.app[CORE].control
    if fault.hold and not fault.after and await _hold(control):
        return await handler(request)
    if fault.drop == "before" or (fault.status and not fault.after):
        return _cut(request) if fault.drop else _faulty(fault)
    response = await handler(request)
    if fault.hold and fault.after and await _hold(control):
        return response
    if fault.drop == "after":
        return _cut(request)
    return _faulty(fault) if fault.status else response


async def _hold(control: Control) -> bool:
    """Whether the request was released, unharmed."""
    ticket = control.hold()
    while control.is_held(ticket):
        await asyncio.sleep(_HOLD_POLL_SECONDS)
    return control.is_released(ticket)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _faulty(fault: Fault) -> web.Response:
    headers = {"Content-Type": "text/plain", **fault.headers}
    return web.Response(
        status=fault.status or 500, reason=fault.reason or None, body=fault.body.encode(), headers=headers
    )


@web.middleware
async def _errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Answer errors with their message as reason phrase and JSON; unknown routes: 501."""
    core = request.app[CORE]
    try:
        return await handler(request)
    except ApiError as error:
        level = core.log.warning if error.status in (400, 501) else core.log.info
        level("%s %s refused: %s %s", request.method, _shown(request), error.status, error.reason)
        return _refusal(request, error.status, error.reason)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        reason = f"Sandbox: no such route: {request.method} {_shown(request)}"
        core.log.error(reason)  # noqa: TRY400 - nothing broke here
        return _refusal(request, 501, reason)
    except web.HTTPException as error:
        return _refusal(request, error.status, error.reason)
    except Exception as error:
        if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
            raise  # the one who asked has gone
        core.log.exception("%s %s failed: internal error", request.method, _shown(request))
        return _refusal(request, 500, "Internal Server Error (see the sandbox's log)")


def _shown(request: web.Request) -> str:
    """The path as sent, still encoded and so one printable line, without the query."""
    return request.raw_path.partition("?")[0]


def _refusal(request: web.Request, status: int, reason: str) -> web.Response:
    """A page for a browser, and JSON for everything else and for the API."""
    safe = ApiError(status, reason).reason
    browser = request.method in _SAFE and "text/html" in request.headers.get("Accept", "")
    if browser and request.raw_path.startswith("/") and not request.path.startswith((*_API, keycloak.ADMIN)):
        return error_page(request.app[CORE], status, safe, account=signed_in(request), endpoint=request[LABEL])
    return web.json_response({"message": safe}, status=status, reason=safe)


@web.middleware
async def _authenticated(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Authenticate a user by session cookie, or the administrator by bearer token."""
    core = request.app[CORE]
    if request.match_info.http_exception is None:
        check_queries(request)
    path = request.path
    if path.startswith(f"{keycloak.ADMIN}/"):
        request[ACCOUNT] = keycloak.check_admin(core, request)
    elif path.startswith((*_API, *_PAGES)):
        account = signed_in(request)
        if account is None:
            is_page = path.startswith(_PAGES)
            if core.settings.unauthenticated == "302" or is_page:
                address = auth_url(core, f"{core.origin}{request.rel_url.raw_path}" if is_page else None)
                return web.Response(status=302, headers={"Location": address}, content_type="text/html")
            raise ApiError(401, "Unauthorized")
        request[ACCOUNT] = account
        if request.method not in _SAFE:
            _check_xsrf(core, request)
    return await handler(request)


def _check_xsrf(core: SandboxCore, request: web.Request) -> None:
    sent, cookie = request.headers.get("x-xsrftoken", ""), request.cookies.get(XSRF_COOKIE, "")
    grant = core.identity.holder("session", request.cookies.get(SESSION_COOKIE))
    if not sent:
        raise ApiError(403, "'_xsrf' argument missing from POST")
    if (
        not hmac.compare_digest(*(text.encode(errors="surrogateescape") for text in (sent, cookie)))
        or grant is None
        or grant.xsrf_hash != digest(sent)
    ):
        raise ApiError(403, "XSRF cookie does not match POST argument")
