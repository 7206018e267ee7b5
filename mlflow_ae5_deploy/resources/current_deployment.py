"""The deployment of this installation: its spec, and the one that exists."""

from __future__ import annotations

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.common.errors import NotFound
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import DeploymentSpec
from mlflow_ae5_deploy.jobs.runner import required_project
from mlflow_ae5_deploy.resources.deployment_spec import DeploymentMatch, select


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
