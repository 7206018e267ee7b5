"""Deployments and the static endpoints they claim."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
from typing import Any

from aiohttp import web

from mlflow_ae5_deploy.sandbox.api import views
from mlflow_ae5_deploy.sandbox.api.access import (
    check_source,
    deployment_of,
    project_of,
    put_collaborators,
    visible_deployments,
    workload_fields,
)
from mlflow_ae5_deploy.sandbox.api.profiles import check_profile
from mlflow_ae5_deploy.sandbox.api.requests import account_of, core_of, done, json_fields, no_body
from mlflow_ae5_deploy.sandbox.auth.accounts import digest
from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.errors import bad
from mlflow_ae5_deploy.sandbox.models import SandboxDeployment, SandboxProject, now_text
from mlflow_ae5_deploy.sandbox.ports import Endpoints
from mlflow_ae5_deploy.sandbox.supervisor.deployments import DeploymentSupervisor

API = "/api/v2"
DEPLOYMENTS = web.AppKey("deployments", DeploymentSupervisor)
ENDPOINTS = web.AppKey("endpoints", Endpoints)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def routes() -> list[web.RouteDef]:
    one = f"{API}/deployments/{{id}}"
    return [
        web.post(f"{API}/projects/{{id}}/deployments", start),
        web.get(f"{API}/deployments", list_deployments),
        web.get(one, get_deployment),
        web.patch(one, patch),
        web.delete(one, stop),
        web.get(f"{one}/collaborators", list_collaborators),
        web.put(f"{one}/collaborators", share),
        web.get(f"{one}/logs", logs),
        web.post(f"{one}/token", token),
    ]


async def start(request: web.Request) -> web.Response:
    core, account = core_of(request), account_of(request)
    project = project_of(request)
    fields = await json_fields(
        request,
        {"source": str, "revision": str, "resource_profile": str, "command": str, "public": bool, "target": str},
        {"name": str, "static_endpoint": str, "variables": dict},
    )
    resolved = check_source(project, fields)
    name = fields.get("name", project.name)
    if "name" in fields and any(
        d.name == name and d.owner == account.username for d in core.state.deployments.values()
    ):
        raise bad(f"Deployment name is not unique: {name}")
    endpoint = _claimable(core, project, fields.get("static_endpoint"))
    shared = workload_fields(project, account.username, fields, name)
    deployment = SandboxDeployment(
        **shared,
        resolved_revision=resolved,
        public=fields["public"],
        label=endpoint or shared["id"][3:],
        static_endpoint=endpoint,
    )
    if endpoint:
        core.state.claims[endpoint] = project.id
    core.state.deployments[deployment.id] = deployment
    project.note("deploy_action", account.username, "Deployment created", f"Deployment {name} created")
    await request.app[ENDPOINTS].open(deployment.label)
    core.timing.born(deployment.id, core.settings)
    core.save()
    record = views.deployment(core, deployment)
    request.app[DEPLOYMENTS].launch(deployment)
    return web.json_response(record | {"action": project.activity[-1]})


def _claimable(core: SandboxCore, project: SandboxProject, desired: str | None) -> str | None:
    """The static endpoint to use, lower-cased. Raises ApiError 400 naming who has it."""
    if desired is None:
        return None
    alias = core.label_of_alias(desired)
    if alias is not None and alias not in core.state.claims:
        return None  # the address of an earlier deployment without a static endpoint
    label = alias or desired.lower()
    if not _LABEL.fullmatch(label):
        raise bad(f"Invalid static endpoint: {desired}")
    holder = core.state.claims.get(label)
    if holder is not None and holder != project.id:
        other = core.state.projects[holder]
        raise bad(f'Static endpoint "{label}" is already claimed by project {other.owner}/{other.name}')
    user = next((d for d in core.state.deployments.values() if d.label == label), None)
    if user is not None:
        raise bad(f'Static endpoint "{label}" is already in use by deployment {user.owner}/{user.name}')
    if core.is_being_released(label):
        raise bad(f'Static endpoint "{label}" is already in use: it is still being released')
    return label


async def list_deployments(request: web.Request) -> web.Response:
    core = core_of(request)
    found = visible_deployments(core, account_of(request))
    for deployment in found:
        core.timing.read(deployment.id)
    return web.json_response([views.deployment(core, d) for d in found])


async def get_deployment(request: web.Request) -> web.Response:
    core, deployment = core_of(request), deployment_of(request)
    core.timing.read(deployment.id)
    return web.json_response(views.deployment(core, deployment))


async def patch(request: web.Request) -> web.Response:
    """Change in place, with the same id; another revision or profile restarts it."""
    core, deployment = core_of(request), deployment_of(request, owner=True)
    fields = await json_fields(request, None, {"public": bool, "resource_profile": str, "revision": str})
    project = core.state.projects[deployment.project_id]
    revision = project.revision(fields.get("revision", deployment.revision))
    if revision is None or not revision.has_command(deployment.command):
        raise bad(f"Unknown revision {fields.get('revision')}")
    profile = fields.get("resource_profile", deployment.resource_profile)
    check_profile(profile)
    before = (deployment.resolved_revision, deployment.resource_profile)
    deployment.public = fields.get("public", deployment.public)
    deployment.resource_profile = profile
    if "revision" in fields:
        deployment.revision, deployment.resolved_revision = fields["revision"], revision.name
    deployment.updated = now_text()
    core.save()
    if before != (deployment.resolved_revision, deployment.resource_profile):
        await request.app[DEPLOYMENTS].restart(deployment)
    return web.json_response(views.deployment(core, deployment))


async def stop(request: web.Request) -> web.Response:
    """Delete the record and its tokens at once; answer when the processes have ended."""
    core, deployment = core_of(request), deployment_of(request, owner=True)
    await no_body(request)
    del core.state.deployments[deployment.id]
    if deployment.static_endpoint:
        core.state.released[deployment.label] = time.time()
    core.save()
    await request.app[DEPLOYMENTS].remove(deployment)
    await request.app[ENDPOINTS].close_unclaimed()
    return done()


async def list_collaborators(request: web.Request) -> web.Response:
    return web.json_response(views.collaborators(core_of(request), deployment_of(request).collaborators))


async def share(request: web.Request) -> web.Response:
    return await put_collaborators(request, deployment_of(request, owner=True), ("r",))


async def logs(request: web.Request) -> web.Response:
    deployment = deployment_of(request)
    return web.json_response(request.app[DEPLOYMENTS].logs(deployment) | {"name": deployment.pod})


async def token(request: web.Request) -> web.Response:
    """Issue a new token. Shaped like Keycloak's JWT; only its digest is checked."""
    core, deployment = core_of(request), deployment_of(request, owner=True)
    await no_body(request)
    now = time.time()
    expires = now + core.settings.deployment_token_seconds
    payload = {"iss": f"{core.origin}/auth/realms/AnacondaPlatform", "azp": f"anaconda-app-{deployment.hex}"}
    payload |= {"sub": deployment.owner, "jti": secrets.token_hex(16)}
    value = _signed(core, payload | {"iat": int(now), "exp": int(expires)})
    deployment.tokens[digest(value)] = expires
    core.save()
    return web.json_response({"token": value})


def _signed(core: SandboxCore, payload: dict[str, Any]) -> str:
    parts = [json.dumps(p, separators=(",", ":")).encode() for p in ({"alg": "HS256", "typ": "JWT"}, payload)]
    text = b".".join(base64.urlsafe_b64encode(p).rstrip(b"=") for p in parts)
    key = (core.state_dir / "ca-key.pem").read_bytes()
    signature = hmac.new(hashlib.sha256(key).digest(), text, hashlib.sha256).digest()
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
