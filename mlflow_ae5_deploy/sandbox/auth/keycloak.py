"""Keycloak's admin API: tokens, users, roles, groups, events, impersonation."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from mlflow_ae5_deploy.sandbox.api import views
from mlflow_ae5_deploy.sandbox.api.requests import core_of, form_fields, json_fields, json_value, no_body, queries
from mlflow_ae5_deploy.sandbox.auth.accounts import ROLES
from mlflow_ae5_deploy.sandbox.auth.login import set_sso_cookie
from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.errors import ApiError, bad, not_found
from mlflow_ae5_deploy.sandbox.models import SandboxAccount

MASTER = "/auth/realms/master/protocol/openid-connect"
ADMIN = "/auth/admin/realms/AnacondaPlatform"
REFRESH_SECONDS = 1800.0
_FIELDS = {
    "enabled": "enabled",
    "emailVerified": "email_verified",
    "firstName": "first_name",
    "lastName": "last_name",
    "email": "email",
}


_KINDS = {"email": str, "firstName": str, "lastName": str, "enabled": bool, "emailVerified": bool}


def routes() -> list[web.RouteDef]:
    return [
        web.post(f"{MASTER}/token", token),
        web.post(f"{MASTER}/logout", logout),
        web.get(f"{ADMIN}/users", list_users),
        web.post(f"{ADMIN}/users", create_user),
        web.get(f"{ADMIN}/users/{{id}}", get_user),
        web.put(f"{ADMIN}/users/{{id}}", update_user),
        web.delete(f"{ADMIN}/users/{{id}}", delete_user),
        web.post(f"{ADMIN}/users/{{id}}/impersonation", impersonate),
        web.get(f"{ADMIN}/users/{{id}}/role-mappings/realm", list_mappings),
        web.post(f"{ADMIN}/users/{{id}}/role-mappings/realm", add_roles),
        web.delete(f"{ADMIN}/users/{{id}}/role-mappings/realm", remove_roles),
        web.get(f"{ADMIN}/roles", list_roles),
        web.get(f"{ADMIN}/roles/{{name}}/users", role_users),
        web.get(f"{ADMIN}/groups", list_groups),
        web.get(f"{ADMIN}/groups/{{id}}/members", group_members),
        web.get(f"{ADMIN}/events", list_events),
    ]


async def token(request: web.Request) -> web.Response:
    core = core_of(request)
    fields = await form_fields(request, ("grant_type", "client_id"), ("username", "password", "refresh_token"))
    if fields["client_id"] != "admin-cli":
        return _oauth_error(401, "invalid_client", "Invalid client or Invalid client credentials")
    username = core.state.admin["username"]
    if fields["grant_type"] == "password":
        if not core.identity.admin_password_matches(fields.get("username", ""), fields.get("password", "")):
            return _oauth_error(401, "invalid_grant", "Invalid user credentials")
    elif fields["grant_type"] == "refresh_token":
        if core.identity.holder("admin-refresh", fields.get("refresh_token")) is None:
            return _oauth_error(400, "invalid_grant", "Token is not active")
        core.identity.revoke(fields["refresh_token"])
    else:
        return _oauth_error(400, "unsupported_grant_type", "Unsupported grant_type")
    seconds = core.settings.access_token_seconds
    answer = {
        "access_token": core.identity.grant("admin-access", username, seconds),
        "expires_in": int(seconds),
        "refresh_token": core.identity.grant("admin-refresh", username, REFRESH_SECONDS),
        "refresh_expires_in": int(REFRESH_SECONDS),
        "token_type": "Bearer",
        "not-before-policy": 0,
        "scope": "profile email",
    }
    core.save()
    return web.json_response(answer)


async def logout(request: web.Request) -> web.Response:
    core = core_of(request)
    fields = await form_fields(request, ("refresh_token", "client_id"))
    core.identity.revoke(fields["refresh_token"])
    core.save()
    return web.Response(status=204)


# -- users ----------------------------------------------------------------------------------


@queries("first", "max", "username", "exact")
async def list_users(request: web.Request) -> web.Response:
    accounts = list(core_of(request).state.accounts.values())
    desired = request.query.get("username")
    if desired is not None:
        exact = request.query.get("exact") == "true"
        accounts = [a for a in accounts if (a.username == desired.lower() if exact else desired.lower() in a.username)]
    return _page(request, [views.user(a) for a in accounts])


async def create_user(request: web.Request) -> web.Response:
    core = core_of(request)
    fields = await json_fields(
        request,
        {"username": str},
        _KINDS | {"groups": list, "credentials": list},
    )
    if not fields["username"]:
        raise bad("User name is missing")
    groups = fields.get("groups", [])
    for name in groups:
        if name.strip("/") not in core.state.group_ids:
            raise bad(f"Group {name} does not exist")
    password, temporary = _password(fields.get("credentials", []))
    values: dict[str, Any] = {"enabled": False, "email_verified": False}
    values |= {attribute: fields[name] for name, attribute in _FIELDS.items() if name in fields}
    values |= {"password_temporary": temporary, "groups": [name.strip("/") for name in groups]}
    account = core.identity.create(fields["username"], password, **values)
    core.save()
    location = f"{core.origin}{ADMIN}/users/{account.id}"
    return web.Response(status=201, headers={"Location": location})


def _password(credentials: list[Any]) -> tuple[str, bool]:
    if len(credentials) != 1 or set(credentials[0]) - {"type", "temporary", "value"}:
        raise bad("Sandbox: supports exactly one credential, with type, temporary and value")
    entry = credentials[0]
    if entry.get("type") != "password" or not isinstance(entry.get("value"), str) or not entry["value"]:
        raise bad("Sandbox: supports only password credentials")
    return entry["value"], bool(entry.get("temporary", False))


async def get_user(request: web.Request) -> web.Response:
    return web.json_response(views.user(_account(request)))


async def update_user(request: web.Request) -> web.Response:
    account = _account(request)
    fields = await json_fields(request, None, _KINDS)
    for name, value in fields.items():
        setattr(account, _FIELDS[name], value)
    core = core_of(request)
    if not account.enabled:
        core.identity.revoke_all(account.username)
    core.save()
    return web.Response(status=204)


async def delete_user(request: web.Request) -> web.Response:
    core = core_of(request)
    account = _account(request)
    await no_body(request)
    core.identity.delete(account)
    core.save()
    return web.Response(status=204)


async def impersonate(request: web.Request) -> web.Response:
    core = core_of(request)
    account = _account(request)
    if not account.enabled:
        raise bad("User is disabled")
    response = web.json_response({"sameRealm": False, "redirect": f"{core.origin}/"})
    set_sso_cookie(core, response, account)
    return response


# -- roles, groups, events ------------------------------------------------------------------


@queries("first", "max")
async def list_roles(request: web.Request) -> web.Response:
    ids = core_of(request).state.role_ids
    return _page(request, [_role(ids[name], name) for name in ROLES])


@queries("first", "max")
async def role_users(request: web.Request) -> web.Response:
    core = core_of(request)
    name = request.match_info["name"]
    if name not in core.state.role_ids:
        raise not_found("Role")
    return _page(request, [views.user(a) for a in core.state.accounts.values() if name in a.roles])


async def list_mappings(request: web.Request) -> web.Response:
    ids = core_of(request).state.role_ids
    return web.json_response([_role(ids[name], name) for name in _account(request).roles])


async def add_roles(request: web.Request) -> web.Response:
    account = _account(request)
    account.roles += [name for name in await _roles(request) if name not in account.roles]
    core_of(request).save()
    return web.Response(status=204)


async def remove_roles(request: web.Request) -> web.Response:
    account = _account(request)
    gone = await _roles(request)
    account.roles = [name for name in account.roles if name not in gone]
    core_of(request).save()
    return web.Response(status=204)


async def _roles(request: web.Request) -> list[str]:
    data = await json_value(request)
    ids = core_of(request).state.role_ids
    if not isinstance(data, list) or not all(isinstance(r, dict) and {"id", "name"} <= set(r) for r in data):
        raise bad("Expected a list of roles with id and name")
    for role in data:
        if ids.get(role["name"]) != role["id"]:
            raise not_found("Role")
    return [role["name"] for role in data]


@queries("first", "max")
async def list_groups(request: web.Request) -> web.Response:
    items = core_of(request).state.group_ids.items()
    return _page(request, [{"id": i, "name": n, "path": f"/{n}", "subGroups": []} for n, i in items])


@queries("first", "max")
async def group_members(request: web.Request) -> web.Response:
    core = core_of(request)
    name = next((n for n, i in core.state.group_ids.items() if i == request.match_info["id"]), None)
    if name is None:
        raise not_found("Could not find group by id: group")
    return _page(request, [views.user(a) for a in core.state.accounts.values() if name in a.groups])


@queries("first", "max", "client", "type")
async def list_events(request: web.Request) -> web.Response:
    if request.query.get("type", "LOGIN") != "LOGIN":
        return _page(request, [])
    common = {"type": "LOGIN", "clientId": "anaconda-platform", "details": {"auth_method": "openid-connect"}}
    return _page(request, [common | entry for entry in reversed(core_of(request).state.logins)])


def _account(request: web.Request) -> SandboxAccount:
    account = core_of(request).state.accounts.get(request.match_info["id"])
    if account is None:
        raise not_found("User")
    return account


def _role(role_id: str, name: str) -> dict[str, Any]:
    return {"id": role_id, "name": name, "composite": False, "clientRole": False, "containerId": "AnacondaPlatform"}


def _page(request: web.Request, items: list[dict[str, Any]]) -> web.Response:
    try:
        first, most = int(request.query.get("first", "0")), int(request.query.get("max", "100"))
    except ValueError as error:
        raise bad("first and max must be numbers") from error
    return web.json_response(items[first : first + most])


def _oauth_error(status: int, error: str, description: str) -> web.Response:
    return web.json_response({"error": error, "error_description": description}, status=status)


def check_admin(core: SandboxCore, request: web.Request) -> str:
    """The administrator behind the bearer token. Raises ApiError 401."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    grant = core.identity.holder("admin-access", value) if scheme == "Bearer" else None
    if grant is None:
        raise ApiError(401, "Unauthorized")
    return grant.username
