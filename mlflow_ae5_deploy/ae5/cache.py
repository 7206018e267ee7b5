"""A cache of the platform's lists, each read at most once until `forget`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import methodcaller
from typing import Any, TypeVar

from mlflow_ae5_deploy.ae5.access import Access
from mlflow_ae5_deploy.ae5.client import Client
from mlflow_ae5_deploy.ae5.models import (
    Collaborator,
    Deployment,
    Job,
    Project,
    ResourceProfile,
    Revision,
    StaticEndpoint,
)

T = TypeVar("T")


class PlatformCache:
    """Cached lists; all empty while the service account does not exist."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._seen: dict[str, Any] = {}
        self._hidden: set[str] = set()

    def forget(self, *names: str) -> None:
        """Drop the lists that a write made stale; without names, all."""
        for name in names or tuple(self._seen):
            for key in [k for k in self._seen if k == name or k.startswith(name + ":")]:
                del self._seen[key]

    def hide_project(self, project_id: str) -> None:
        """In a forecast, hide deployments and jobs of this project from now on."""
        self._hidden.add(project_id)

    @property
    def hides_projects(self) -> bool:
        return bool(self._hidden)

    def is_hidden(self, project: Project) -> bool:
        """Whether a forecast takes this project for gone."""
        return project.id in self._hidden

    def projects(self) -> list[Project]:
        return self._once("projects", methodcaller("projects"), [])

    def project(self, name: str) -> Project | None:
        return next((p for p in self.projects() if p.name == name and p.owner == self._access.account), None)

    def revisions(self, project: Project) -> list[Revision]:
        return self._once(f"revisions:{project.id}", methodcaller("revisions", project.id), [])

    def archive(self, project: Project) -> bytes:
        return self._once(f"archive:{project.id}", methodcaller("download_archive", project.id), b"")

    def deployments(self) -> list[Deployment]:
        found: list[Deployment] = self._once("deployments", methodcaller("deployments"), [])
        return [deployment for deployment in found if deployment.project_id not in self._hidden]

    def collaborators(self, deployment_id: str) -> list[Collaborator]:
        return self._once(f"collaborators:{deployment_id}", methodcaller("collaborators", deployment_id), [])

    def static_endpoints(self) -> list[StaticEndpoint]:
        return self._once("endpoints", methodcaller("static_endpoints"), [])

    def resource_profiles(self) -> list[ResourceProfile]:
        return self._once("profiles", methodcaller("resource_profiles"), [])

    def secret_names(self) -> set[str]:
        return self._once("secrets", methodcaller("secret_names"), set())

    def saw_secrets(self, names: Iterable[str]) -> None:
        """The platform has just listed these, after they were set."""
        if "secrets" in self._seen:
            self._seen["secrets"] = self._seen["secrets"] | set(names)

    def listed_secrets(self, names: Iterable[str]) -> None:
        """The platform has just listed all of them."""
        self._seen["secrets"] = set(names)

    def jobs(self) -> list[Job]:
        found: list[Job] = self._once("jobs", methodcaller("jobs"), [])
        return [job for job in found if job.project_id not in self._hidden]

    def jobs_of_hidden(self) -> list[Job]:
        """Jobs of projects that a forecast takes for deleted."""
        found: list[Job] = self._once("jobs", methodcaller("jobs"), [])
        return [job for job in found if job.project_id in self._hidden]

    def _once(self, key: str, read: Callable[[Client], T], blank: T) -> T:
        if self._access.account_missing:
            return blank
        if key not in self._seen:
            self._seen[key] = read(self._access.platform())
        found: T = self._seen[key]
        return found
