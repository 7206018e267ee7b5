"""What the platform answers, as frozen records. Field meanings follow AE5's REST API v2."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal


@dataclass(frozen=True)
class User:
    """An account of the platform's identity provider (needs admin credentials to be read)."""

    id: str
    username: str
    enabled: bool
    email: str = ""


@dataclass(frozen=True)
class Project:
    """id is `a0-` and 32 hex digits. owner and name together are unique; name alone is not."""

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
    """name is what deployments and jobs refer to; `url` is the archive source they must be given."""

    id: str
    name: str
    url: str
    commands: tuple[Command, ...]
    created: datetime | None = None


@dataclass(frozen=True)
class Deployment:
    """id is `a2-` and 32 hex digits, new for every start: there is no restart in place.

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
    """id is `a2-`... like a deployment's. schedule is a cron expression, or None for run-once jobs."""

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
    """One execution of a job. state: initial | running | completed | failed | error | stopped."""

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
