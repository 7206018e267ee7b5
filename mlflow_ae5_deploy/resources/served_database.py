"""Which database a server works on, as far as its log shows it, and whether that is the configured one.

The bundled server names its database in a line of its own. Of other releases the command line may be in the log, as
upstream's launcher prints it, or else what MLflow's migrations say of the kind of database.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from mlflow_ae5_deploy.common.errors import Configuration, PlatformError
from mlflow_ae5_deploy.engine.context import Context

_NAMED = re.compile(r"^database: (\S.*)$", re.MULTILINE)
_COMMAND_LINE = re.compile(r"--backend-store-uri[=\s]+['\"]?([^\s'\"]+)")
_MIGRATIONS = re.compile(r"\bContext impl (\w+)Impl\b")
_URI = re.compile(r"(?P<dialect>\w+)(?:\+\w+)?://(?:[^/]*@)?(?P<host>[^/?@]*)(?:/(?P<name>[^?]*))?")
_PORTS = {"postgresql": "5432", "mysql": "3306", "mssql": "1433"}
_DIALECTS = {"mariadb": "mysql", "postgres": "postgresql"}
_MASK = "***"


@dataclass(frozen=True)
class Database:
    """host: with its port. host and name are empty where they are not known."""

    dialect: str
    host: str = ""
    name: str = ""

    def __str__(self) -> str:
        return " ".join(text for text in (self.dialect, self.name, f"on {self.host}" if self.host else "") if text)

    def may_be(self, other: Database) -> bool:
        if self.dialect != other.dialect or (self.host and other.host and self.host != other.host):
            return False
        if self.dialect == "sqlite" and self.name.startswith("/") != other.name.startswith("/"):
            longer, shorter = sorted((self.name, other.name), key=len, reverse=True)
            return longer.endswith(f"/{shorter.lstrip('/')}") or not shorter
        return not self.name or not other.name or self.name == other.name


@dataclass(frozen=True)
class Observation:
    """served: what the log shows."""

    served: Database
    configured: Database

    @property
    def same(self) -> bool:
        return self.served.may_be(self.configured)

    @property
    def difference(self) -> str:
        return f"by its log it works on {self.served}; configured is {self.configured}"


def observe(context: Context, deployment_id: str) -> Observation | None:
    """None where nothing can be seen: not in the log, or the configured one is not known here without asking."""
    uri = context.settings.server.backend_store_uri
    if getattr(uri, "kind", "") == "prompt" and not context.values.knows(uri):
        return None
    try:
        configured = parse(context.values.store_uri(uri).reveal())
        log = context.platform.logs(deployment_id).app
    except (Configuration, PlatformError):
        return None
    if configured is None:
        return None
    seen = served_by(log)
    if not seen:
        return None
    # The log of one server may speak of several, such as that of its users: it is wrong if none is the configured one.
    return Observation(next((one for one in seen if one.may_be(configured)), seen[-1]), configured)


def served_by(log: str) -> list[Database]:
    """The databases that a log speaks of, by the best evidence there is: of the last start, where that can be told."""
    for evidence in (_NAMED, _COMMAND_LINE):
        if found := [database for uri in evidence.findall(log) if (database := parse(uri)) is not None]:
            return found[-1:]
    return [Database(_dialect(name)) for name in _MIGRATIONS.findall(log)]


def parse(uri: str) -> Database | None:
    """None for what is no URI. What a log has masked is unknown."""
    found = _URI.match(uri.strip())
    if found is None:
        return None
    dialect = _dialect(found["dialect"])
    host, name = found["host"].lower(), unquote(found["name"] or "")
    if host and dialect in _PORTS and not re.search(r":\d+\Z", host):
        host = f"{host}:{_PORTS[dialect]}"
    if dialect == "sqlite":
        name = re.sub(r"(?:(?<=/)|\A)(?:\./)+|(?<=/)/+", "", name)
    return Database(dialect, "" if _MASK in host else host, "" if _MASK in name else name)


def _dialect(name: str) -> str:
    return _DIALECTS.get(name.lower(), name.lower())
