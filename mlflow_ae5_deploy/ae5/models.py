"""Frozen records of AE5's answers, with the fields of its REST API v2."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal


@dataclass(frozen=True)
class User:
    """An account of the identity provider."""

    id: str
    username: str
    enabled: bool
    email: str = ""


@dataclass(frozen=True)
class Project:
    """A project; owner and name together are unique."""

    id: str  # `a0-` and 32 hex digits
    name: str
    owner: str
    resource_profile: str
    created: datetime | None = None
    updated: datetime | None = None


@dataclass(frozen=True)
class Command:
    id: str
    env_spec: str | None = None


@dataclass(frozen=True)
class Revision:
    id: str
    name: str  # used by deployments and jobs
    url: str  # the source of its archive, for deployments and jobs
    commands: tuple[Command, ...]
    created: datetime | None = None


@dataclass(frozen=True)
class Deployment:
    id: str  # `a2-` and 32 hex digits, new for every start
    name: str
    owner: str
    project_id: str
    state: str  # initial | starting | started; any other means failed, see status_text
    status_text: str
    url: str | None
    endpoint: str | None  # first label of the URL's host, or as the sandbox states it; None without a URL
    command: str
    revision: str
    resource_profile: str
    public: bool
    created: datetime | None = None
    updated: datetime | None = None
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def is_starting(self) -> bool:
        return self.state in ("initial", "starting")

    @property
    def is_started(self) -> bool:
        return self.state == "started"


@dataclass(frozen=True)
class DeploymentLogs:
    app: str
    events: str
    proxy: str


@dataclass(frozen=True, order=True)
class Collaborator:
    id: str
    type: Literal["user", "group"]
    permission: str = "r"


@dataclass(frozen=True)
class StaticEndpoint:
    """A name claimed by a project, whether or not a deployment uses it now."""

    name: str
    project_id: str


@dataclass(frozen=True)
class Job:
    id: str  # like a deployment's
    name: str
    owner: str
    project_id: str  # empty for the platform's own jobs
    command: str
    schedule: str | None  # cron
    state: str
    resource_profile: str
    revision: str
    variables: dict[str, str] = field(default_factory=dict)
    created: datetime | None = None


@dataclass(frozen=True)
class Run:
    """One execution of a job."""

    id: str
    name: str
    owner: str
    project_id: str
    state: str  # initial | running | completed | failed | error | stopped
    job_id: str | None = None
    created: datetime | None = None

    @property
    def is_active(self) -> bool:
        return self.state not in ("completed", "failed", "error", "stopped")

    @property
    def age_key(self) -> tuple[float, str]:
        """Sorts runs from the oldest to the newest. One without a date is the oldest."""
        return (self.created.timestamp() if self.created else 0.0, self.id)


@dataclass(frozen=True)
class ResourceProfile:
    name: str
    description: str
