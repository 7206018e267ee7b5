"""Checks of single values.

Each returns the value to use, or raises ValueError with the problem; for a mapping with a list of (key, problem).

Messages never repeat the value: it may be a secret in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.common.variable_names import DATABASE, GC_TTL
from mlflow_ae5_deploy.config.database_uri import holds_password, leaves_its_folder, login_in, parse_store_uri
from mlflow_ae5_deploy.config.server_variables import problem_of, refusal_of

DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_NAME = re.compile(r"[A-Za-z0-9._ -]+\Z")
_ACCOUNT = re.compile(r"[\w@.+-]+\Z")
_SECRET_NAME = re.compile(r"[A-Za-z0-9_]+\Z")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_CONSTRAINT = re.compile(r"(?:==?|[<>]=?|!=|~=)[A-Za-z0-9.*+!_<>=,|~-]*[A-Za-z0-9*]\Z")
_COMMAND_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_CONFIDENTIAL = re.compile(
    r"(PASSWORD|PASSWD|SECRET|SECRET_KEY|ACCESS_KEY|ACCOUNT_KEY|PRIVATE_KEY|API_KEY|TOKEN|CONNECTION_STRING)\Z"
)
_LOCATIONS = ("MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_DEFAULT_ARTIFACT_ROOT")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# The tool writes these itself, so a second source for them would only fight with the first.
MANAGED_SECRETS = {
    "MLFLOW_BACKEND_STORE_URI": "server.backend_store_uri",
    "MLFLOW_ARTIFACTS_DESTINATION": "server.artifacts_destination",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT": "server.default_artifact_root",
    "MLFLOW_TRACKING_GC_TTL": "server.gc_ttl",
    "MLFLOW_TRACKING_METRICS": "server.metrics",
    "MLFLOW_TRACKING_URI": "the deployment (stage 10)",
    "MLFLOW_REGISTRY_URI": "the deployment (stage 10)",
    "MLFLOW_TRACKING_TOKEN": "the deployment (stage 12)",
    "MLFLOW_TRACKING_BACKUP_DESTINATION": "backup.destination",
    "MLFLOW_TRACKING_NOTIFY_URLS": "notify.urls",
}
BACKUP_SCHEMES = ("s3", "gs", "abfs", "abfss", "wasb", "wasbs", "az")


def text(value: str) -> str:
    """Something on one line."""
    if not value.strip():
        raise ValueError("must not be empty")
    if _CONTROL.search(value):
        raise ValueError("must be one line of text without control characters")
    return value


def name(value: str) -> str:
    """The name of a project, deployment or job."""
    if not _NAME.match(value):
        raise ValueError(
            "may contain only letters, digits, '.', '_', '-' and spaces: ae5-tools takes other characters "
            "(: / , * ? [ ] | & = < >) for a pattern or path"
        )
    if value != value.strip():
        raise ValueError("must not begin or end with a space")
    return value


def endpoint(value: str) -> str:
    """A static endpoint: one label of a DNS name."""
    if DNS_LABEL.match(value):
        return value
    problem = "must be one DNS label: 1 to 63 of a-z, 0-9 and '-', not beginning or ending with '-'"
    desired = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:63].strip("-")
    raise ValueError(f"{problem}; use '{desired}'" if desired else problem)


def hostname(value: str) -> str:
    """`host` or `host:port`, in lower case; also of an address without a path, such as https://AE5.example.com:443/."""
    scheme, separator, address = value.partition("://")
    if separator and scheme.lower() != "https":
        raise ValueError("must be an address with https://, or a host name such as ae5.example.com")
    bare = (address if separator else value).removesuffix("/")
    if any(mark in bare for mark in "/?#@\\"):
        raise ValueError("must be a host name such as ae5.example.com, without path, query and user name")
    host, colon, port = bare.removesuffix(":443").partition(":")
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("must have a port from 1 to 65535 after ':'")
    host = host.lower()
    if not host or len(host) > 253 or not all(DNS_LABEL.match(label) for label in host.split(".")):
        raise ValueError("must be a host name of letters, digits, '-' and '.', and optionally ':PORT'")
    return f"{host}:{port}" if colon else host


def account(value: str) -> str:
    """The name of a user."""
    group(value)
    if not _ACCOUNT.match(value):
        raise ValueError(
            "may contain only letters, digits, '@', '.', '_', '-' and '+': ae5-tools takes other characters "
            "(: , * ? [ ] | & = < >) for a pattern"
        )
    return value


def group(value: str) -> str:
    """The name of a group."""
    if re.search(r"[\s/\x00-\x1f\x7f]", text(value)):
        raise ValueError("must not contain spaces or '/'")
    return value


def email(value: str) -> str:
    if not re.match(r"[^@\s]+@[^@\s]+\Z", value):
        raise ValueError("is not an e-mail address")
    return value


def secret_name(value: str) -> str:
    """A name AE5 can store a secret under, and that the tool does not write itself."""
    if not _SECRET_NAME.match(value):
        raise ValueError("may contain only letters, digits and '_'")
    if problem := _managed(value) or refusal_of(value):
        raise ValueError(problem)
    return value


def _managed(name: str) -> str:
    """Why this tool alone stores this secret; empty if others may."""
    return f"is managed by this tool; its value comes from {MANAGED_SECRETS[name]}" if name in MANAGED_SECRETS else ""


def variable_name(value: str) -> str:
    if not VARIABLE.match(value):
        raise ValueError("may contain only letters, digits and '_', and must not begin with a digit")
    if value.startswith("CONDA_"):
        raise ValueError("must not begin with CONDA_, which anaconda-project reserves")
    return value


def variables(values: Any) -> Any:
    """Variables that others can read, in the archive or a job's record: no secrets.

    Checks types as well, so that all problems of all variables come at once.
    """
    return _each(values, _variable)


def server_variables(values: Any) -> Any:
    """Variables of the server that are stored as secrets, because jobs and server read those."""
    return _each(values, lambda key, value: _managed(key) or _variable(key, value))


def dependencies(values: Any) -> Any:
    """Package name -> version constraint."""
    return _each(values, _dependency)


def _each(values: Any, problem_of: Callable[[str, str], str]) -> Any:
    if not isinstance(values, dict):
        return values  # reported by the type check that follows
    problems = []
    for key, value in values.items():
        if not isinstance(key, str):
            problem = "the name must be text; put it in quotes"
        elif not isinstance(value, str):
            problem = "must be text; put it in quotes"
        else:
            problem = problem_of(key, value)
        if problem:
            problems.append((str(key), problem))
    if problems:
        raise ValueError(problems)
    return values


def _variable(key: str, value: str) -> str:
    try:
        variable_name(key)
        if key == DATABASE:
            parse_store_uri(value)
        if key in _LOCATIONS:
            check_location(value)
        if key == GC_TTL:
            ttl(value)
    except ValueError as error:
        return str(error)
    if "\0" in value:
        return "must not contain a NUL character"
    if is_confidential(key, value):
        return "would expose a secret to others; move it to server.secrets, as a reference"
    if re.match(r"env:[A-Za-z_]\w*\Z", value):
        return "is not resolved here, because variables are plain text; move it to server.secrets"
    return problem_of(key, value)


def is_confidential(key: str, value: str) -> bool:
    """Whether a variable may hold a secret, by its name or its value."""
    return holds_password(value) or bool(value and _CONFIDENTIAL.search(key.upper()))


def _dependency(key: str, value: str) -> str:
    if not _PACKAGE.match(key):
        return "is not a package name"
    return "" if _CONSTRAINT.match(value) else "must be a version constraint, such as '==3.17.2' or '>=2.9,<3'"


def channel(value: str) -> str:
    """A conda channel: a name or an address."""
    if re.search(r"\s", no_password(value)):
        raise ValueError("must not contain spaces")
    if "@" in value.partition("://")[2].partition("/")[0] or re.search(r"/t/[^/]+", value):
        raise ValueError("contains a token or user name, readable by everyone with access to the project")
    return value


def command_name(value: str) -> str:
    if not _COMMAND_NAME.match(value):
        raise ValueError("may contain only letters, digits, '.', '_' and '-'")
    return value


def no_password(value: str) -> str:
    """A URL, URI or path without credentials in it."""
    if holds_password(text(value)):
        raise ValueError("contains a password; the configuration must not hold secrets, only references")
    return value


def check_location(value: str) -> str:
    """A location of artifacts: a folder or URL, without credentials and `..`."""
    if value.partition("://")[0].lower() in BACKUP_SCHEMES and login_in(value):
        raise ValueError(
            "contains credentials; write s3://BUCKET/PREFIX and put them into server.secrets (AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY)"
        )
    if value and leaves_its_folder(no_password(value)):
        raise ValueError("contains '..': write a path below data/, or an absolute one")
    return value


def check_destination(value: str) -> str:
    """A backup destination: a folder or object store, without credentials and `..`."""
    if not value:
        raise ValueError("must not be empty")
    scheme, separator, _ = check_location(value).partition("://")
    if separator and scheme.lower() not in BACKUP_SCHEMES:
        raise ValueError(f"must be a folder or begin with {', '.join(f'{name}://' for name in BACKUP_SCHEMES)}")
    return value


def shell_command(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    if holds_password(value):
        raise ValueError("contains a password, readable by everyone with access to the project")
    return value


def accepts_options(unix: str) -> str:
    """A command that takes the options which AE5 appends to its very end."""
    if "\n" in unix:
        raise ValueError("must be one line without a line break at its end: write '>-', not '|' or '>'")
    if unix.rstrip().endswith(("|", "&", ";")) or re.search(r"(^|\s)#[^'\"]*\Z", unix):
        raise ValueError("must end with the program that takes the options AE5 appends")
    return unix


def cron(value: str) -> str:
    from mlflow_ae5_deploy.common.cron import parse_cron

    try:
        return parse_cron(value).expression
    except DeployError as error:
        raise ValueError(_with_remedy(error)) from None


def ttl(value: str) -> str:
    from mlflow_ae5_deploy.common.durations import parse_ttl

    try:
        parse_ttl(value)
    except DeployError as error:
        raise ValueError(_with_remedy(error)) from None
    return value


def sha256(value: str) -> str:
    if not re.match(r"[0-9a-fA-F]{64}\Z", value):
        raise ValueError("is not a SHA-256 checksum (64 hexadecimal digits)")
    return value.lower()


def distinct(values: list[str]) -> list[str]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"has {', '.join(twice)} more than once")
    return values


def _with_remedy(error: DeployError) -> str:
    return f"{error.what} {error.remedy}".strip()
