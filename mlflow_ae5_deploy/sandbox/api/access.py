"""Look up records with the caller's permission, and check requests for workloads."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from mlflow_ae5_deploy.sandbox.api import views
from mlflow_ae5_deploy.sandbox.api.profiles import check_profile
from mlflow_ae5_deploy.sandbox.api.requests import account_of, core_of, json_value, variables_of
from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.errors import bad, denied, not_found
from mlflow_ae5_deploy.sandbox.models import (
    SandboxAccount,
    SandboxDeployment,
    SandboxJob,
    SandboxProject,
    SandboxRun,
    new_hex,
    now_text,
)
from mlflow_ae5_deploy.sandbox.supervisor.workload import STORAGE_URL


def project_of(request: web.Request, need: str = "r") -> SandboxProject:
    """The requested project; 404 if not visible, 403 without the permission `need`."""
    core, account = core_of(request), account_of(request)
    project = visible_project(core, account, request.match_info["id"])
    if project is None:
        raise not_found("Project")
    permission = core.project_permission(account, project)
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


def visible_project(core: SandboxCore, account: SandboxAccount, project_id: str) -> SandboxProject | None:
    project = core.state.projects.get(project_id)
    return project if project and core.project_permission(account, project) else None


def visible_projects(core: SandboxCore, account: SandboxAccount) -> list[SandboxProject]:
    seen = [p for p in core.state.projects.values() if core.project_permission(account, p)]
    return [p for p in seen if core.timing.in_list(p.id)]


def visible_deployments(core: SandboxCore, account: SandboxAccount) -> list[SandboxDeployment]:
    return [d for d in core.state.deployments.values() if core.may_open(account, d) and core.timing.in_list(d.id)]


def visible_jobs(core: SandboxCore, account: SandboxAccount) -> list[SandboxJob]:
    return [j for j in core.state.jobs.values() if j.owner == account.username and core.timing.in_list(j.id)]


def visible_runs(core: SandboxCore, account: SandboxAccount) -> list[SandboxRun]:
    return [r for r in core.state.runs.values() if r.owner == account.username and core.timing.in_list(r.id)]


def check_source(project: SandboxProject, fields: dict[str, Any]) -> str:
    """The concrete revision of a request for a workload. Raises ApiError 400."""
    revision = project.revision(fields["revision"])
    if revision is None:
        raise bad(f"Unknown revision {fields['revision']}")
    prefix = f"{STORAGE_URL}/{project.hex}/archive/"
    if fields["source"] not in {prefix + name for name in ("latest", fields["revision"], revision.name)}:
        raise bad(f"Source does not belong to revision {fields['revision']} of the project")
    if not revision.has_command(fields["command"]):
        raise bad(f"Unknown command {fields['command']}")
    check_profile(fields["resource_profile"])
    if fields["target"] != "deploy":
        raise bad(f"Unknown target {fields['target']}")
    return revision.name


def workload_fields(project: SandboxProject, owner: str, fields: dict[str, Any], name: str) -> dict[str, Any]:
    """The common fields of a new deployment or job, from a checked request."""
    now = now_text()
    return {
        **{"id": f"a2-{new_hex()}", "name": name, "owner": owner, "created": now, "updated": now},
        **{"project_id": project.id, "project_name": project.name, "project_owner": project.owner},
        **{key: fields[key] for key in ("command", "revision", "resource_profile")},
        "variables": variables_of(fields.get("variables", {})),
    }


async def put_collaborators(
    request: web.Request, record: SandboxProject | SandboxDeployment, permissions: tuple[str, ...]
) -> web.Response:
    """Replace the collaborators.

    Extra fields that a client echoes from our own answers are dropped.
    """
    core = core_of(request)
    data = await json_value(request)
    if not isinstance(data, list):
        raise bad("Expected a list of collaborators")
    entries: dict[tuple[str, str], dict[str, str]] = {}
    for item in data:
        entry = _collaborator(item, permissions)
        exists = core.identity.by_name(entry["id"]) if entry["type"] == "user" else entry["id"] in core.state.group_ids
        if not exists:
            raise bad(f"Unknown {entry['type']} {entry['id']}")
        entries[entry["type"], entry["id"]] = entry
    record.collaborators = list(entries.values())
    core.save()
    shown = views.collaborators(core, record.collaborators)
    return web.json_response({"collaborators": shown, "action": {"error": False, "done": True}})


def _collaborator(item: Any, permissions: tuple[str, ...]) -> dict[str, str]:
    echoed = {"_record_type", "first_name", "last_name", "email"}
    if not isinstance(item, dict) or not {"id", "type", "permission"} <= set(item):
        raise bad("A collaborator needs id, type and permission")
    unknown = sorted(set(item) - {"id", "type", "permission"} - echoed)
    if unknown:
        raise bad(f"Sandbox: unknown field {', '.join(unknown)}")
    if item["type"] not in ("user", "group"):
        raise bad("A collaborator's type is user or group")
    if item["permission"] not in permissions:
        raise bad(f"A collaborator's permission is {' or '.join(permissions)}")
    return {"id": str(item["id"]), "type": item["type"], "permission": item["permission"]}
