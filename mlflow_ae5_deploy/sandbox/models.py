"""The sandbox's records as stored on disk; `api/views.py` renders them."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, TypeVar


def now_text() -> str:
    """AE5 writes ISO-8601 with microseconds and a numeric offset."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def new_hex() -> str:
    return uuid.uuid4().hex


@dataclass
class SandboxAccount:
    id: str
    username: str
    password_hash: str
    email: str = ""
    first_name: str = ""
    last_name: str = ""
    enabled: bool = True
    email_verified: bool = True
    password_temporary: bool = False
    groups: list[str] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    created_ms: int = 0


@dataclass
class SandboxGrant:
    """What a session, cookie, code or token stands for, stored under its SHA-256. expires: epoch seconds."""

    kind: str
    username: str
    expires: float
    xsrf_hash: str = ""


@dataclass
class SandboxRevision:
    name: str
    commands: list[dict[str, Any]]
    created: str
    updated: str

    def has_command(self, name: str) -> bool:
        return any(command["id"] == name for command in self.commands)


@dataclass
class SandboxProject:
    id: str
    name: str
    owner: str
    created: str
    updated: str
    editor: str = "jupyterlab"
    resource_profile: str = "default"
    collaborators: list[dict[str, str]] = field(default_factory=list)
    revisions: list[SandboxRevision] = field(default_factory=list)
    """oldest first"""
    activity: list[dict[str, Any]] = field(default_factory=list)
    """oldest first"""

    @property
    def hex(self) -> str:
        return self.id[3:]

    def revision(self, name: str) -> SandboxRevision | None:
        if name == "latest":
            return self.revisions[-1]
        return next((r for r in self.revisions if r.name == name), None)

    def note(self, kind: str, owner: str, message: str, description: str) -> None:
        """Add a finished action to the activity."""
        now = now_text()
        action = {"id": new_hex(), "type": kind, "status": "created", "done": True, "error": False, "owner": owner}
        texts = {"message": message, "description": description, "created": now, "updated": now}
        self.activity.append(action | texts)


@dataclass(kw_only=True)
class SandboxWorkload:
    """Common fields of a deployment, a job and a run: a command of a project."""

    id: str
    name: str
    owner: str
    project_id: str
    project_name: str
    project_owner: str
    command: str
    revision: str
    """as requested: a name or `latest`"""
    resource_profile: str
    created: str
    updated: str
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def hex(self) -> str:
        return self.id[3:]

    def shared(self) -> dict[str, Any]:
        """The values of these fields, for another record."""
        return {f.name: getattr(self, f.name) for f in fields(SandboxWorkload)}


@dataclass(kw_only=True)
class SandboxProcess(SandboxWorkload):
    resolved_revision: str
    state: str = "initial"
    status_text: str = "Pending"


@dataclass(kw_only=True)
class SandboxDeployment(SandboxProcess):
    public: bool
    label: str
    """first host label: the static endpoint, or the id's 32 hex digits"""
    static_endpoint: str | None
    came_up: bool = False
    """it has answered at least once: from then on a crash means restart, not failure"""
    collaborators: list[dict[str, str]] = field(default_factory=list)
    tokens: dict[str, float] = field(default_factory=dict)
    """SHA-256 of the token -> expiry, epoch seconds"""

    @property
    def pod(self) -> str:
        return f"anaconda-app-{self.hex}-sandbox"


@dataclass(kw_only=True)
class SandboxJob(SandboxWorkload):
    schedule: str | None
    paused: bool = False


@dataclass(kw_only=True)
class SandboxRun(SandboxProcess):
    job_id: str

    @property
    def active(self) -> bool:
        return self.state in ("initial", "running")


@dataclass
class SandboxSecret:
    """value: in clear, because workloads read it from a file. due: when that file appears, in epoch seconds."""

    value: str
    due: float


@dataclass
class SandboxState:
    accounts: dict[str, SandboxAccount] = field(default_factory=dict)
    """by id"""
    admin: dict[str, str] = field(default_factory=dict)
    """username, password_hash of the administrator of the master realm"""
    group_ids: dict[str, str] = field(default_factory=dict)
    role_ids: dict[str, str] = field(default_factory=dict)
    logins: list[dict[str, Any]] = field(default_factory=list)
    grants: dict[str, SandboxGrant] = field(default_factory=dict)
    projects: dict[str, SandboxProject] = field(default_factory=dict)
    deployments: dict[str, SandboxDeployment] = field(default_factory=dict)
    jobs: dict[str, SandboxJob] = field(default_factory=dict)
    runs: dict[str, SandboxRun] = field(default_factory=dict)
    secrets: dict[str, dict[str, SandboxSecret]] = field(default_factory=dict)
    """username -> name -> secret"""
    claims: dict[str, str] = field(default_factory=dict)
    """static endpoint -> project id"""
    released: dict[str, float] = field(default_factory=dict)
    """endpoint label -> epoch seconds of the last stop there"""
    endpoint_ports: dict[str, int] = field(default_factory=dict)
    """endpoint label -> its own port, where names below localhost do not resolve"""
    addressing: str = ""
    port: int = 0
    control_port: int = 0
    database: dict[str, Any] = field(default_factory=dict)


_Record = TypeVar("_Record")
_NESTED: dict[str, type[Any]] = {
    "accounts": SandboxAccount,
    "grants": SandboxGrant,
    "projects": SandboxProject,
    "deployments": SandboxDeployment,
    "jobs": SandboxJob,
    "runs": SandboxRun,
}


def state_to_json(state: SandboxState) -> str:
    """The text of the state file; faster than `dataclasses.asdict`, which copies it."""
    return json.dumps(state, default=vars)


def state_from_json(data: dict[str, Any]) -> SandboxState:
    """Parse the state file. KeyError, TypeError or ValueError for another format."""
    values = dict(data)
    for name, kind in _NESTED.items():
        values[name] = {key: _record(kind, item) for key, item in values.get(name, {}).items()}
    values["secrets"] = {
        user: {name: SandboxSecret(**item) for name, item in items.items()}
        for user, items in values.get("secrets", {}).items()
    }
    return SandboxState(**values)


def _record(kind: type[_Record], item: dict[str, Any]) -> _Record:
    if kind is SandboxProject:
        item = {**item, "revisions": [SandboxRevision(**r) for r in item["revisions"]]}
    return kind(**item)
