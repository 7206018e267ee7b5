"""Finding records for the account that asks, with the right to do what it asks for."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from mlflow_ae5_deploy.sandbox.api.requests import account_of, core_of, json_value
from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.errors import bad, denied, not_found
from mlflow_ae5_deploy.sandbox.models import SandboxAccount, SandboxDeployment, SandboxJob, SandboxProject, SandboxRun


def project_of(request: web.Request, need: str = "r") -> SandboxProject:
    """need: `r`, `rw` or `owner`. What one may not see does not exist (404); what one may not change is 403."""
    core = core_of(request)
    project = core.state.projects.get(request.match_info["id"])
    permission = core.project_permission(account_of(request), project) if project else None
    if project is None or permission is None:
        raise not_found("Project")
    if need == "owner" and permission != "owner":
        raise denied("Only the owner may do this to the project")
    if need == "rw" and permission == "r":
        raise denied("The project is shared read-only")
    return project


def deployment_of(request: web.Request, *, owner: bool = False) -> SandboxDeployment:
    core, account = core_of(request), account_of(request)
    deployment = core.state.deployments.get(request.match_info["id"])
    if deployment is None or not core.may_open(account, deployment):
        raise not_found("Deployment")
    if owner and deployment.owner != account.username:
        raise denied("Only the owner may do this to the deployment")
    return deployment


def job_of(request: web.Request) -> SandboxJob:
    job = core_of(request).state.jobs.get(request.match_info["id"])
    if job is None or job.owner != account_of(request).username:
        raise not_found("Job")
    return job


def run_of(request: web.Request) -> SandboxRun:
    run = core_of(request).state.runs.get(request.match_info["id"])
    if run is None or run.owner != account_of(request).username:
        raise not_found("Run")
    return run


def visible_deployments(core: SandboxCore, account: SandboxAccount) -> list[SandboxDeployment]:
    return [d for d in core.state.deployments.values() if core.may_open(account, d) and core.timing.in_list(d.id)]


def visible_runs(core: SandboxCore, account: SandboxAccount) -> list[SandboxRun]:
    return [r for r in core.state.runs.values() if r.owner == account.username and core.timing.in_list(r.id)]


async def collaborator_list(request: web.Request, permissions: tuple[str, ...]) -> list[dict[str, str]]:
    """The body of a PUT, checked. Extra fields that a client echoes from our own answers are dropped."""
    core = core_of(request)
    data = await json_value(request)
    if not isinstance(data, list):
        raise bad("Expected a list of collaborators")
    found: dict[tuple[str, str], dict[str, str]] = {}
    for item in data:
        entry = _collaborator(item, permissions)
        exists = core.identity.by_name(entry["id"]) if entry["type"] == "user" else entry["id"] in core.state.group_ids
        if not exists:
            raise bad(f"Unknown {entry['type']} {entry['id']}")
        found[entry["type"], entry["id"]] = entry
    return list(found.values())


def _collaborator(item: Any, permissions: tuple[str, ...]) -> dict[str, str]:
    echoed = {"_record_type", "first_name", "last_name", "email"}
    if not isinstance(item, dict) or not {"id", "type", "permission"} <= set(item):
        raise bad("A collaborator has id, type and permission")
    unknown = sorted(set(item) - {"id", "type", "permission"} - echoed)
    if unknown:
        raise bad(f"Sandbox: unknown field {', '.join(unknown)}")
    if item["type"] not in ("user", "group"):
        raise bad("A collaborator's type is user or group")
    if item["permission"] not in permissions:
        raise bad(f"A collaborator's permission is {' or '.join(permissions)}")
    return {"id": str(item["id"]), "type": item["type"], "permission": item["permission"]}
