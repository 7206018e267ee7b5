"""The browser login: Keycloak's form, the SSO cookie, the platform's session."""

from __future__ import annotations

import secrets
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from mlflow_ae5_deploy.sandbox.api.requests import core_of, form_fields, queries
from mlflow_ae5_deploy.sandbox.auth.accounts import CODE_SECONDS
from mlflow_ae5_deploy.sandbox.core import VHOST, SandboxCore
from mlflow_ae5_deploy.sandbox.errors import bad
from mlflow_ae5_deploy.sandbox.models import SandboxAccount
from mlflow_ae5_deploy.sandbox.pages.html import page

REALM = "/auth/realms/AnacondaPlatform"
SSO_COOKIE = "KEYCLOAK_IDENTITY"
SESSION_COOKIE = "anaconda-platform-session"
XSRF_COOKIE = "_xsrf"
INVALID = "Invalid username or password."
DISABLED = "Account is disabled, contact your administrator."
_AUTH_QUERIES = ("client_id", "scope", "response_type", "redirect_uri", "state")


def routes() -> list[web.RouteDef]:
    return [
        web.get(f"{REALM}/protocol/openid-connect/auth", authorize),
        web.post(f"{REALM}/login-actions/authenticate", authenticate),
        web.get(f"{REALM}/protocol/openid-connect/logout", sso_logout),
        web.get("/login", login),
        web.get("/logout", logout),
    ]


def auth_url(core: SandboxCore, return_to: str | None = None) -> str:
    query = {
        "client_id": "anaconda-platform",
        "scope": "openid",
        "response_type": "code",
        "redirect_uri": f"{core.origin}/login",
    }
    if return_to:
        query["state"] = return_to
    return f"{core.origin}{REALM}/protocol/openid-connect/auth?{urlencode(query)}"


@queries(*_AUTH_QUERIES)
async def authorize(request: web.Request) -> web.Response:
    _check_client(request)
    core = core_of(request)
    account = core.identity.account_of("sso", request.cookies.get(SSO_COOKIE))
    if account is not None:
        return _back_with_code(core, account, request.query.get("state"))
    return _form(core, request.query.get("state"))


@queries("session_code", "client_id", "state")
async def authenticate(request: web.Request) -> web.Response:
    core = core_of(request)
    state = request.query.get("state")
    fields = await form_fields(request, ("username", "password"), ("credentialId", "login"))
    account = core.identity.authenticate(fields["username"], fields["password"])
    if account is None:
        return _form(core, state, INVALID, fields["username"])
    if not account.enabled:
        return _form(core, state, DISABLED, fields["username"])
    if account.password_temporary:
        lines = ["Your password is temporary: you need to change it.", "The sandbox cannot change passwords."]
        return page(core, "message.html", account=None, heading="Update password", lines=lines, link=None)
    core.identity.note_login(account)  # here, and not where a session begins: an impersonation is no login
    response = _back_with_code(core, account, state)
    set_sso_cookie(core, response, account)
    return response


@queries("code", "state")
async def login(request: web.Request) -> web.Response:
    """Exchange the code for a session. `state` is the address to return to."""
    core = core_of(request)
    code = request.query.get("code")
    account = core.identity.account_of("code", code)
    if account is None:
        return _redirect(auth_url(core))
    core.identity.revoke(code)
    xsrf = secrets.token_hex(16)
    session = core.identity.grant("session", account.username, core.settings.session_seconds, xsrf)
    core.save()
    response = _redirect(_own_address(core, request.query.get("state")) or f"{core.origin}/")
    domain = VHOST if core.vhosts else None
    response.set_cookie(SESSION_COOKIE, session, path="/", domain=domain, secure=True, httponly=True, samesite="Lax")
    response.set_cookie(XSRF_COOKIE, xsrf, path="/", domain=domain, secure=True)
    return response


async def logout(request: web.Request) -> web.Response:
    core = core_of(request)
    core.identity.revoke(request.cookies.get(SESSION_COOKIE))
    core.save()
    response = _redirect(f"{core.origin}{REALM}/protocol/openid-connect/logout")
    domain = VHOST if core.vhosts else None
    response.del_cookie(SESSION_COOKIE, path="/", domain=domain)
    response.del_cookie(XSRF_COOKIE, path="/", domain=domain)
    return response


async def sso_logout(request: web.Request) -> web.Response:
    core = core_of(request)
    core.identity.revoke(request.cookies.get(SSO_COOKIE))
    core.save()
    response = _redirect(f"{core.origin}/")
    response.del_cookie(SSO_COOKIE, path=f"{REALM}/")
    return response


def signed_in(request: web.Request) -> SandboxAccount | None:
    """The account of the request's session."""
    return core_of(request).identity.account_of("session", request.cookies.get(SESSION_COOKIE))


def set_sso_cookie(core: SandboxCore, response: web.Response, account: SandboxAccount) -> None:
    value = core.identity.grant("sso", account.username, core.settings.session_seconds)
    core.save()
    response.set_cookie(SSO_COOKIE, value, path=f"{REALM}/", secure=True, httponly=True, samesite="None")


def _check_client(request: web.Request) -> None:
    core = core_of(request)
    if request.query.get("client_id") != "anaconda-platform":
        raise bad("Client not found")
    if request.query.get("redirect_uri") != f"{core.origin}/login":
        raise bad("Invalid parameter: redirect_uri")
    if request.query.get("response_type") != "code":
        raise bad("Invalid parameter: response_type")


def _back_with_code(core: SandboxCore, account: SandboxAccount, state: str | None) -> web.Response:
    query = {"code": core.identity.grant("code", account.username, CODE_SECONDS)}
    core.save()
    if state:
        query["state"] = state
    return _redirect(f"{core.origin}/login?{urlencode(query)}")


def _own_address(core: SandboxCore, address: str | None) -> str | None:
    """The address, if it is one of this sandbox's endpoints: no open redirects."""
    parts = urlsplit(address or "")
    if parts.scheme != "https" or not (address or "").isprintable():
        return None
    own = {core.host} | {core.endpoint_host(d.label) for d in core.state.deployments.values()}
    return address if parts.netloc in own else None


def _redirect(address: str) -> web.Response:
    return web.Response(status=302, headers={"Location": address}, content_type="text/html")


def _form(core: SandboxCore, state: str | None, error: str = "", username: str = "") -> web.Response:
    query = {"session_code": secrets.token_urlsafe(8), "client_id": "anaconda-platform"}
    if state:
        query["state"] = state
    action = f"{core.origin}{REALM}/login-actions/authenticate?{urlencode(query)}"
    return page(core, "login.html", account=None, action=action, error=error, username=username)
