"""Resource profiles, editors, secrets, static endpoints, and empty lists."""

from __future__ import annotations

import os
from typing import Any

from aiohttp import web

from mlflow_ae5_deploy.sandbox.api.requests import SECRET, account_of, core_of, done, json_fields, no_body, queries
from mlflow_ae5_deploy.sandbox.errors import bad, not_found
from mlflow_ae5_deploy.sandbox.secret_files import SecretFiles

API = "/api/v2"
SECRET_FILES = web.AppKey("secret_files", SecretFiles)
# The tail in brackets is what ae5-tools takes the figures from; it fails without.
PROFILES: dict[str, str] = {
    "default": f"Default (CPU: {max(1, (os.cpu_count() or 1) // 2)}, Memory: 4096MB, GPU: 0)",
    "large": f"Large (CPU: {os.cpu_count() or 1}, Memory: 8192MB, GPU: 0)",
}
EDITORS: list[dict[str, Any]] = [
    {"id": "jupyterlab", "name": "JupyterLab", "is_default": True},
    {"id": "notebook", "name": "Jupyter Notebook", "is_default": False},
    {"id": "vscode", "name": "Visual Studio Code", "is_default": False},
]


def check_profile(name: str) -> None:
    if name not in PROFILES:
        raise bad(f"Unknown resource profile {name}")


def routes() -> list[web.RouteDef]:
    return [
        web.get(f"{API}/projects/actions", actions),
        web.get(f"{API}/template_projects", empty),
        web.get(f"{API}/sample_projects", empty),
        web.get(f"{API}/sessions", empty),
        web.delete(f"{API}/sessions/{{id}}", no_session),
        web.get(f"{API}/credentials/user", list_secrets),
        web.post(f"{API}/credentials/user", put_secret),
        web.delete(f"{API}/credentials/user/{{name}}", delete_secret),
        web.get("/platform/deploy/api/v1/apps/static-endpoints", static_endpoints),
    ]


@queries("q")
async def actions(request: web.Request) -> web.Response:
    if request.query.get("q") != "create_action":
        raise bad("Sandbox: supports only q=create_action")
    profiles = [{"name": name, "description": text} for name, text in PROFILES.items()]
    return web.json_response([{"resource_profiles": profiles, "editors": EDITORS}])


async def empty(_: web.Request) -> web.Response:
    return web.json_response([])


async def no_session(_: web.Request) -> web.Response:
    raise not_found("Session")


async def list_secrets(request: web.Request) -> web.Response:
    names = core_of(request).state.secrets.get(account_of(request).username, {})
    return web.json_response({"data": list(names)})


async def put_secret(request: web.Request) -> web.Response:
    fields = await json_fields(request, {"key": str, "value": str})
    if not fields["key"] or any(c in fields["key"] for c in "/\0") or fields["key"] in (".", ".."):
        raise bad("Invalid secret name")
    request[SECRET] = fields["key"]
    request.app[SECRET_FILES].put(account_of(request).username, fields["key"], fields["value"])
    return done()


async def delete_secret(request: web.Request) -> web.Response:
    core, name, username = core_of(request), request.match_info["name"], account_of(request).username
    await no_body(request)
    request[SECRET] = name
    secrets = core.state.secrets.get(username, {})
    if name not in secrets or "-" in name:
        raise not_found("Secret")
    del secrets[name]
    core.save()
    request.app[SECRET_FILES].sync(username)
    return done()


async def static_endpoints(request: web.Request) -> web.Response:
    """Endpoints claimed by any project, with or without a running deployment."""
    core = core_of(request)
    found = []
    for label, project_id in core.state.claims.items():
        record = {"id": label, "project_url": f"http://anaconda-enterprise-ap-storage/projects/{project_id[3:]}"}
        if not core.vhosts:
            record["static_endpoint"] = label
        found.append(record)
    return web.json_response({"data": found})
