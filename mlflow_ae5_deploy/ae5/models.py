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
    """id: `a0-` and 32 hex digits. Owner and name together are unique."""

    id: str
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
    """name: for deployments and jobs. url: the archive source they need."""

    id: str
    name: str
    url: str
    commands: tuple[Command, ...]
    created: datetime | None = None


@dataclass(frozen=True)
class Deployment:
    """id: `a2-` and 32 hex digits, new for every start.

    state: initial | starting | started, or anything else, which means failed (see status_text).
    endpoint: first label of the URL's host, or the sandbox's own statement of it; None while there is no URL.
    """

    id: str
    name: str
    owner: str
    project_id: str
    state: str
    status_text: str
    url: str | None
    endpoint: str | None
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
    """id: like a deployment's. schedule: a cron expression, or None."""

    id: str
    name: str
    owner: str
    project_id: str
    command: str
    schedule: str | None
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
    state: str
    job_id: str | None = None
    created: datetime | None = None

    @property
    def is_active(self) -> bool:
        return self.state not in ("completed", "failed", "error", "stopped")


@dataclass(frozen=True)
class ResourceProfile:
    name: str
    description: str
