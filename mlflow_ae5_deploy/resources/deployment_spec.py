"""Which deployment is ours, and how it differs from its spec. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.engine.records import DeploymentSpec


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
