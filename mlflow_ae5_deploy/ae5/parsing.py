"""Parse AE5's JSON: strict about the fields in use, indifferent to others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from mlflow_ae5_deploy.ae5.models import (
    Collaborator,
    Command,
    Deployment,
    DeploymentLogs,
    Job,
    Project,
    ResourceProfile,
    Revision,
    Run,
    StaticEndpoint,
    User,
)
from mlflow_ae5_deploy.common.errors import UnexpectedAnswer


def as_list(answer: Any, what: str) -> list[dict[str, Any]]:
    """The records of a list answer, bare or under `data`. AE5 uses both."""
    records = answer.get("data") if isinstance(answer, dict) else answer
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise UnexpectedAnswer(f"The answer about {what} is not a list of records.", where=what)
    return records


def as_record(answer: Any, what: str) -> dict[str, Any]:
    """The record of a single answer, bare, under `data`, or as a list of one."""
    record = answer.get("data", answer) if isinstance(answer, dict) else answer
    if isinstance(record, list) and len(record) == 1:
        record = record[0]
    if not isinstance(record, dict):
        raise UnexpectedAnswer(f"The answer about {what} is not a record.", where=what)
    return record


def parse_user(record: Mapping[str, Any]) -> User:
    return User(
        id=_text(record, "id", "user"),
        username=_text(record, "username", "user"),
        enabled=record.get("enabled", True) is not False,
        email=str(record.get("email") or ""),
    )


def parse_project(record: Mapping[str, Any]) -> Project:
    return Project(
        id=_text(record, "id", "project"),
        name=_text(record, "name", "project"),
        owner=_text(record, "owner", "project"),
        resource_profile=str(record.get("resource_profile") or "default"),
        created=_moment(record.get("created")),
        updated=_moment(record.get("updated")),
    )


def parse_revision(record: Mapping[str, Any]) -> Revision:
    commands = record.get("commands") or []
    if not isinstance(commands, list):
        raise UnexpectedAnswer("A revision's field commands is not a list.", where="revision")
    return Revision(
        id=_text(record, "id", "revision"),
        name=_text(record, "name", "revision"),
        url=_text(record, "url", "revision"),
        commands=tuple(
            Command(id=_text(command, "id", "command"), env_spec=command.get("env_spec")) for command in commands
        ),
        created=_moment(record.get("created")),
    )


def parse_deployment(record: Mapping[str, Any], hostname: str) -> Deployment:
    """hostname: the platform's, with its port; the URL's first label is the endpoint."""
    url = _url(record)
    identity = _text(record, "id", "deployment")
    return Deployment(
        id=identity,
        name=str(record.get("name") or ""),
        owner=_text(record, "owner", "deployment"),
        project_id=_project_id(record, "deployment"),
        state=_text(record, "state", "deployment"),
        status_text=str(record.get("status_text") or ""),
        url=url,
        endpoint=_endpoint(record, url, identity, hostname),
        command=str(record.get("command") or ""),
        revision=str(record.get("revision") or ""),
        resource_profile=str(record.get("resource_profile") or ""),
        public=_flag(record, "public", "deployment"),
        created=_moment(record.get("created")),
        updated=_moment(record.get("updated")),
        variables=_variables(record),
    )


def parse_logs(answer: Any) -> DeploymentLogs:
    record = as_record(answer, "logs of a deployment")
    return DeploymentLogs(
        app=_prose(record.get("app")), events=_prose(record.get("events")), proxy=_prose(record.get("proxy"))
    )


def parse_collaborator(record: Mapping[str, Any]) -> Collaborator:
    kind = _text(record, "type", "collaborator")
    if kind not in ("user", "group"):
        raise UnexpectedAnswer(f"A collaborator is neither user nor group but {kind!r}.", where="collaborator")
    return Collaborator(
        id=_text(record, "id", "collaborator"),
        type="group" if kind == "group" else "user",
        permission=str(record.get("permission") or "r"),
    )


def parse_static_endpoint(record: Mapping[str, Any]) -> StaticEndpoint:
    """project_id is empty for a claim without a project, which AE5 may list."""
    name = record.get("static_endpoint") or _text(record, "id", "static endpoint")
    return StaticEndpoint(name=str(name), project_id=_project_id(record, "static endpoint", needed=False))


def parse_job(record: Mapping[str, Any]) -> Job:
    """project_id is empty for the platform's own jobs, which have no project."""
    return Job(
        id=_text(record, "id", "job"),
        name=_text(record, "name", "job"),
        owner=str(record.get("owner") or ""),
        project_id=_project_id(record, "job", needed=False),
        command=str(record.get("command") or ""),
        schedule=str(record.get("schedule") or "") or None,
        state=str(record.get("state") or ""),
        resource_profile=str(record.get("resource_profile") or ""),
        revision=str(record.get("revision") or ""),
        variables=_variables(record),
        created=_moment(record.get("created")),
    )


def parse_run(record: Mapping[str, Any], job_id: str | None = None) -> Run:
    return Run(
        id=_text(record, "id", "run"),
        name=str(record.get("name") or ""),
        owner=str(record.get("owner") or ""),
        project_id=_project_id(record, "run", needed=False),
        state=_text(record, "state", "run"),
        job_id=job_id or str(record.get("job_id") or "") or None,
        created=_moment(record.get("created")),
    )


def parse_resource_profile(record: Mapping[str, Any]) -> ResourceProfile:
    return ResourceProfile(
        name=_text(record, "name", "resource profile"), description=str(record.get("description") or "")
    )


def _url(record: Mapping[str, Any]) -> str | None:
    """The URL, or None for an unprintable one: it is printed as is, for a shell."""
    url = str(record.get("url") or "")
    return url if url and url.isascii() and url.isprintable() and " " not in url else None


def _text(record: Mapping[str, Any], field: str, what: str) -> str:
    value = record.get(field) if isinstance(record, Mapping) else None
    if not isinstance(value, str) or not value:
        raise UnexpectedAnswer(f"The platform's record of a {what} has no {field}.", where=f"{what}.{field}")
    return value


def _flag(record: Mapping[str, Any], field: str, what: str) -> bool:
    value = record.get(field)
    if not isinstance(value, bool):
        raise UnexpectedAnswer(f"The platform's record of a {what} has no {field}.", where=f"{what}.{field}")
    return value


def _project_id(record: Mapping[str, Any], what: str, *, needed: bool = True) -> str:
    """The id from project_url, whose last part is the project's hex digits."""
    url = record.get("project_url")
    if isinstance(url, str) and url.strip("/"):
        return "a0-" + url.rstrip("/").rsplit("/", 1)[-1]
    given = record.get("project_id")
    if isinstance(given, str) and given:
        return given
    if needed:
        raise UnexpectedAnswer(f"The platform's record of a {what} has no project_url.", where=f"{what}.project_url")
    return ""


def _endpoint(record: Mapping[str, Any], url: str | None, identity: str, hostname: str) -> str | None:
    stated = record.get("static_endpoint")
    if isinstance(stated, str) and stated:
        return stated
    home = hostname.split(":")[0].lower()
    host = (urlsplit(url).hostname or "").lower() if url else ""
    label, _, rest = host.partition(".")
    if rest != home or identity.endswith(label):  # without a static endpoint the label is the deployment's own hex
        return None
    return label


def _variables(record: Mapping[str, Any]) -> dict[str, str]:
    given = record.get("variables")
    return {str(name): str(value) for name, value in given.items()} if isinstance(given, Mapping) else {}


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _prose(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, indent=1, default=str)
