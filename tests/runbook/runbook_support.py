"""A context for the pure parts of stages: settings, a fixed account and lists instead of a platform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow_ae5_deploy.ae5.connect import PlatformTarget
from mlflow_ae5_deploy.ae5.models import (
    Collaborator,
    Command,
    Deployment,
    Job,
    Project,
    ResourceProfile,
    Revision,
    StaticEndpoint,
)
from mlflow_ae5_deploy.ae5.options import ConnectionOptions
from mlflow_ae5_deploy.config.secret_refs import SecretResolver
from mlflow_ae5_deploy.config.settings import Settings
from mlflow_ae5_deploy.engine.context import Context, Folders, RunOptions
from mlflow_ae5_deploy.engine.journal import Journal
from mlflow_ae5_deploy.engine.state import SavedState
from tests.manual_clock import ManualClock
from tests.no_progress import NoProgress

ACCOUNT = "mlflow-service"
OURS = Project(id="a0-" + "1" * 32, name="mlflow.tracking.server", owner=ACCOUNT, resource_profile="default")
OTHER = Project(id="a0-" + "2" * 32, name="other", owner="somebody", resource_profile="default")


@dataclass
class Lists:
    """Stands where the platform cache stands."""

    projects_: Sequence[Project] = (OURS, OTHER)
    deployments_: Sequence[Deployment] = ()
    jobs_: Sequence[Job] = ()
    secrets_: set[str] = field(default_factory=set)
    collaborators_: Sequence[Collaborator] = ()
    endpoints_: Sequence[StaticEndpoint] = ()
    hides_projects: bool = False

    def forget(self, *names: str) -> None:
        """What is seen does not change."""

    def projects(self) -> list[Project]:
        return list(self.projects_)

    def project(self, name: str) -> Project | None:
        return next((p for p in self.projects_ if p.name == name and p.owner == ACCOUNT), None)

    def deployments(self) -> list[Deployment]:
        return list(self.deployments_)

    def jobs(self) -> list[Job]:
        return list(self.jobs_)

    def jobs_of_hidden(self) -> list[Job]:
        return []

    def secret_names(self) -> set[str]:
        return set(self.secrets_)

    def is_hidden(self, project: Project) -> bool:
        return False

    def resource_profiles(self) -> list[ResourceProfile]:
        return [ResourceProfile("default", ""), ResourceProfile("large", "")]

    def static_endpoints(self) -> list[StaticEndpoint]:
        return list(self.endpoints_)

    def revisions(self, project: Project) -> list[Revision]:
        names = ("TrackingServer", "GarbageCollection", "DatabaseUpgrade", "Restore", "Backup", "Drill")
        commands = tuple(Command(name) for name in names)
        return [Revision("0.0.1", "0.0.1", "http://x/projects/1/archive/0.0.1", commands)]

    def collaborators(self, deployment_id: str) -> list[Collaborator]:
        return list(self.collaborators_)


@dataclass
class Doors:
    """Stands where the sessions stand; nothing can be opened."""

    has_admin: bool = False
    account_missing: bool = False
    account: str = ACCOUNT
    how: str = "with the account's own password"
    platform_: Any = None
    target: PlatformTarget = field(
        default_factory=lambda: PlatformTarget(ConnectionOptions(hostname="ae5.example.com"), "auto", False, True)
    )

    def costs(self) -> tuple[int, int]:
        return (0, 0)

    def platform(self) -> Any:
        return self.platform_


def context(folder: Path, *, lists: Lists | None = None, doors: Doors | None = None, **settings: Any) -> Context:
    clock = ManualClock()
    return Context(
        settings=Settings.model_validate(settings),
        options=RunOptions(),
        access=doors or Doors(),  # type: ignore[arg-type]
        cached=lists or Lists(),  # type: ignore[arg-type]
        state=SavedState.load(folder),
        journal=Journal(folder, clock, verb="test"),
        values=SecretResolver({}, None),
        clock=clock,
        folders=Folders(folder, folder, folder),
        progress=NoProgress(),
    )


def deployment(**changes: Any) -> Deployment:
    values: dict[str, Any] = {
        "id": "a2-" + "a" * 32,
        "name": "dev.mlflow.tracking.server",
        "owner": ACCOUNT,
        "project_id": OURS.id,
        "state": "started",
        "status_text": "Started",
        "url": "https://dev-mlflow-tracking-server.ae5.example.com/",
        "endpoint": "dev-mlflow-tracking-server",
        "command": "TrackingServer",
        "revision": "latest",
        "resource_profile": "default",
        "public": False,
    }
    return Deployment(**{**values, **changes})


def job(**changes: Any) -> Job:
    values: dict[str, Any] = {
        "id": "a2-" + "b" * 32,
        "name": "scheduled mlflow.tracking.server garbage collection",
        "owner": ACCOUNT,
        "project_id": OURS.id,
        "command": "GarbageCollection",
        "schedule": "*/10 * * * *",
        "state": "scheduled",
        "resource_profile": "default",
        "revision": "latest",
    }
    return Job(**{**values, **changes})
