"""Which deployment is ours, and how it differs from what is wanted. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.common.mlflow_api import Health
from mlflow_ae5_deploy.resources.secrets import SecretState


@dataclass(frozen=True)
class DeploymentSpec:
    account: str
    name: str
    endpoint: str
    command: str
    resource_profile: str
    revision: str


@dataclass(frozen=True)
class DeploymentMatch:
    """current: the one to keep. duplicates: others of our project that would serve the same data.
    rival: a deployment of another project on our endpoint."""

    current: Deployment | None
    duplicates: tuple[Deployment, ...]
    rival: Deployment | None


@dataclass(frozen=True)
class Drift:
    """Differences in words; `patch` can be mended in place, `restart` needs a new start."""

    patch: tuple[str, ...]
    restart: tuple[str, ...]


@dataclass(frozen=True)
class DeploymentState:
    """stale: names of secrets whose new value the running server has not seen. health: None if not started.

    uncertain: names of secrets that were stored over values this machine does not know, since the server started.
    other_database: how the database that the server works on differs from the configured one, where that is seen.
    """

    desired: DeploymentSpec
    project: Project | None
    secrets: tuple[SecretState, ...]
    stale: tuple[str, ...]
    current: Deployment | None
    duplicates: tuple[Deployment, ...]
    rival: Deployment | None
    health: Health | None
    uncertain: tuple[str, ...] = ()
    other_database: str = ""


def select(deployments: Sequence[Deployment], project: Project | None, desired: DeploymentSpec) -> DeploymentMatch:
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
    patch = ("it is public, so anyone can read and delete experiments",) if current.public else ()
    rows = (
        ("name", current.name, desired.name),
        ("endpoint", current.endpoint or "(none)", desired.endpoint),
        ("command", current.command, desired.command),
        ("resource profile", current.resource_profile, desired.resource_profile),
        ("revision", current.revision, desired.revision),
    )
    restart = tuple(
        f"its {what} is {has}, wanted is {requirement}" for what, has, requirement in rows if has != requirement
    )
    return Drift(patch, restart)
