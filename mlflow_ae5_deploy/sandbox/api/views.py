"""Records as the API returns them, with the fields of a real AE5's records."""

from __future__ import annotations

from typing import Any

from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.models import (
    SandboxAccount,
    SandboxDeployment,
    SandboxJob,
    SandboxProject,
    SandboxRevision,
    SandboxRun,
    SandboxWorkload,
)
from mlflow_ae5_deploy.sandbox.supervisor.workload import STORAGE_URL

DEPLOY_URL = "http://anaconda-enterprise-ap-deploy"


def user(account: SandboxAccount) -> dict[str, Any]:
    return {
        "id": account.id,
        "createdTimestamp": account.created_ms,
        "username": account.username,
        "enabled": account.enabled,
        "totp": False,
        "emailVerified": account.email_verified,
        "firstName": account.first_name,
        "lastName": account.last_name,
        "email": account.email,
        "disableableCredentialTypes": [],
        "requiredActions": ["UPDATE_PASSWORD"] if account.password_temporary else [],
        "notBefore": 0,
        "access": {"manageGroupMembership": True, "view": True, "mapRoles": True, "impersonate": True, "manage": True},
    }


def project(core: SandboxCore, item: SandboxProject, account: SandboxAccount) -> dict[str, Any]:
    ready = core.timing.ripe(item.id)
    return {
        "id": item.id,
        "name": item.name,
        "owner": item.owner,
        "editor": item.editor,
        "resource_profile": item.resource_profile,
        "tags": [],
        "created": item.created,
        "updated": item.updated,
        "url": f"{STORAGE_URL}/{item.hex}",
        "repository": f"{item.owner}-{item.hex}",
        "repo_url": f"{core.origin}/platform/git/anaconda/{item.owner}-{item.hex}.git",
        "repo_owned": item.owner == account.username,
        "git_server": "default",
        "git_repos": {},
        "project_create_status": "done" if ready else "initial",
    }


def activity(core: SandboxCore, item: SandboxProject, entry: dict[str, Any]) -> dict[str, Any]:
    """The entry, not yet done while the project's creation ripens."""
    if entry["type"] == "create_action" and not core.timing.ripe(item.id):
        return entry | {"status": "initial", "done": False, "message": ""}
    return entry


def revision(item: SandboxProject, entry: SandboxRevision) -> dict[str, Any]:
    return {
        "id": entry.name,
        "name": entry.name,
        "owner": item.owner,
        "url": f"{STORAGE_URL}/{item.hex}/archive/{entry.name}",
        "commands": entry.commands,
        "created": entry.created,
        "updated": entry.updated,
    }


def _common(item: SandboxWorkload) -> dict[str, Any]:
    return {
        "id": item.id,
        "name": item.name,
        "owner": item.owner,
        "command": item.command,
        "revision": item.revision,
        "resource_profile": item.resource_profile,
        "source": f"{STORAGE_URL}/{item.project_id[3:]}/archive/{item.revision}",
        "project_url": f"{STORAGE_URL}/{item.project_id[3:]}",
        "project_name": item.project_name,
        "project_owner": item.project_owner,
        "variables": item.variables,
        "git_repos": {},
        "created": item.created,
        "updated": item.updated,
    }


def deployment(core: SandboxCore, item: SandboxDeployment) -> dict[str, Any]:
    state, status_text = item.state, item.status_text
    if not core.timing.ripe(item.id):
        state, status_text = ("initial", "Pending") if state == "initial" else ("starting", "Starting")
    record = _common(item) | {
        "state": state,
        "goal_state": "started",
        "status_text": status_text,
        "public": item.public,
        "replicas": 1,
        "url": f"https://{core.endpoint_host(item.label)}/",
    }
    if not core.vhosts and item.static_endpoint:
        # Without sub-domains the URL does not tell the endpoint's name.
        record["static_endpoint"] = item.static_endpoint
    return record


def job(core: SandboxCore, item: SandboxJob) -> dict[str, Any]:
    state, text = "scheduled", "Scheduled job"
    if item.schedule is None:
        runs = [r for r in core.state.runs.values() if r.job_id == item.id]
        state, text = (runs[-1].state, runs[-1].status_text) if runs else ("initial", "Pending")
    elif item.paused:
        state, text = "paused", "Paused job"
    return _common(item) | {
        "schedule": item.schedule,
        "state": state,
        "goal_state": "scheduled" if item.schedule else "completed",
        "status_text": text,
        "url": f"{DEPLOY_URL}/jobs/{item.hex}",
    }


def run(core: SandboxCore, item: SandboxRun) -> dict[str, Any]:
    state, text = item.state, item.status_text
    if not core.timing.ripe(item.id):
        state, text = ("initial", "Pending") if state == "initial" else ("running", "Running")
    return _common(item) | {
        "state": state,
        "goal_state": "completed",
        "status_text": text,
        "url": f"{DEPLOY_URL}/runs/{item.hex}",
    }


def collaborators(core: SandboxCore, items: list[dict[str, str]]) -> list[dict[str, Any]]:
    found = []
    for item in items:
        record: dict[str, Any] = dict(item)
        account = core.identity.by_name(item["id"]) if item["type"] == "user" else None
        if account is not None:
            record |= {"first_name": account.first_name, "last_name": account.last_name, "email": account.email}
        found.append(record)
    return found
