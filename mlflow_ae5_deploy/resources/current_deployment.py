"""The deployment of this installation: its spec, the one that exists, and how that differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.common.errors import NotFound
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import DeploymentSpec
from mlflow_ae5_deploy.jobs.runner import required_project


@dataclass(frozen=True)
class DeploymentMatch:
    current: Deployment | None  # the one to keep
    duplicates: tuple[Deployment, ...]  # others of our project, which would serve the same data
    rival: Deployment | None  # of another project, on our endpoint


@dataclass(frozen=True)
class Drift:
    """Differences in words."""

    patch: tuple[str, ...]  # can be fixed in place
    restart: tuple[str, ...]  # need a restart


def desired_deployment(context: Context) -> DeploymentSpec:
    desired = context.settings.deployment
    return DeploymentSpec(
        name=desired.name,
        endpoint=desired.endpoint,
        command=desired.command,
        resource_profile=desired.resource_profile,
        revision=desired.revision,
    )


def match_deployment(context: Context) -> DeploymentMatch:
    project = context.cached.project(context.settings.project.name)
    return select(context.cached.deployments(), project, desired_deployment(context))


def select(deployments: Sequence[Deployment], project: Project | None, desired: DeploymentSpec) -> DeploymentMatch:
    """Pure."""
    rival = next(
        (d for d in deployments if d.endpoint == desired.endpoint and (project is None or d.project_id != project.id)),
        None,
    )
    ours = [
        d
        for d in deployments
        if project is not None
        and d.project_id == project.id
        and (d.endpoint == desired.endpoint or d.name == desired.name or d.command == desired.command)
    ]
    # The one on the endpoint is the one clients talk to; then the one of our name; then a working one.
    ours.sort(key=lambda d: (d.endpoint != desired.endpoint, d.name != desired.name, not d.is_started, d.id))
    return DeploymentMatch(ours[0] if ours else None, tuple(ours[1:]), rival)


def drift(current: Deployment, desired: DeploymentSpec) -> Drift:
    """Pure."""
    patch = ("public, so anyone can read and delete experiments",) if current.public else ()
    rows = (
        ("name", current.name, desired.name),
        ("endpoint", current.endpoint or "(none)", desired.endpoint),
        ("command", current.command, desired.command),
        ("resource profile", current.resource_profile, desired.resource_profile),
        ("revision", current.revision, desired.revision),
    )
    restart = tuple(f"{what}: {has} → {becomes}" for what, has, becomes in rows if has != becomes)
    return Drift(patch, restart)


def project_name(context: Context, project_id: str) -> str:
    project: Project | None = next((p for p in context.cached.projects() if p.id == project_id), None)
    return f"{project.owner}/{project.name}" if project else project_id


def required_installation(context: Context) -> Project:
    """The project, if it has a deployment, running or not."""
    project = required_project(context)
    required_deployment(context)
    return project


def required_deployment(context: Context) -> Deployment:
    """The server's deployment, running or not."""
    current = match_deployment(context).current
    if current is None:
        raise no_deployment(context)
    return current


def no_deployment(context: Context) -> NotFound:
    return NotFound(
        f"There is no deployment `{context.settings.deployment.name}` of `{context.account}`.",
        where=context.access.target.options.hostname,
        remedy="Run `mlflow-ae5-deploy install` first.",
    )
