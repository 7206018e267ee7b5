"""What a server's log tells: its database, to compare with the configured one, and which keys it cannot read.

The bundled server names its database in a line of its own. The logs of other releases may show the command line, as
upstream's launcher prints it, or the kind of database, in the output of MLflow's migrations.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from urllib.parse import unquote

from mlflow_ae5_deploy.common.errors import Configuration, PlatformError
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.engine.context import Context

_NAMED = re.compile(r"^database: (\S.*)$", re.MULTILINE)
_LOST_KEYS = re.compile(r"^warning: (.+? encrypted with another MLFLOW_\w+, unreadable now.*?)\.?$", re.M)
_SHOWN, _CUT = 1000, " ... (`logs` shows all)"  # it names every webhook
_COMMAND_LINE = re.compile(r"--backend-store-uri[=\s]+['\"]?([^\s'\"]+)")
_MIGRATIONS = re.compile(r"\bContext impl (\w+)Impl\b")
_URI = re.compile(r"(?P<dialect>\w+)(?:\+\w+)?://(?:[^/]*@)?(?P<host>[^/?@]*)(?:/(?P<name>[^?]*))?")
_PORTS = {"postgresql": "5432", "mysql": "3306", "mssql": "1433"}
_DIALECTS = {"mariadb": "mysql", "postgres": "postgresql"}
_MASK = "***"


@dataclass(frozen=True)
class Database:
    """host and name are empty where the log does not show them."""

    dialect: str
    host: str = ""  # with the port
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
    served: Database  # the one in the log
    configured: Database
    lost_keys: tuple[str, ...] = ()  # the server's own sentences: what is encrypted with another key

    @property
    def same(self) -> bool:
        return self.served.may_be(self.configured)

    @property
    def difference(self) -> str:
        return f"database in its log: {self.served}; configured: {self.configured}"


def observe(context: Context, deployment_id: str) -> Observation | None:
    """None where the log shows no database, or the configured one is not available without asking a person."""
    uri = context.values.store_uri_at_hand(context.settings.server.backend_store_uri)
    configured = parse(uri.reveal()) if uri is not None else None
    if configured is None:
        return None
    try:
        log = context.platform.logs(deployment_id).app
    except (Configuration, PlatformError):
        return None
    served = served_by(log)
    if not served:
        return None
    # A log may name several (MLflow's users have their own): differ only if none is the configured one.
    seen = next((one for one in served if one.may_be(configured)), served[-1])
    return Observation(seen, configured, lost_keys(log))


def lost_keys(log: str) -> tuple[str, ...]:
    found = (textwrap.shorten(scrub(text), _SHOWN, placeholder=_CUT) for text in _LOST_KEYS.findall(log))
    return tuple(dict.fromkeys(f"The server's log: {text}." for text in found))


def served_by(log: str) -> list[Database]:
    """The last one named by server or command line, else every kind that migrations name."""
    for evidence in (_NAMED, _COMMAND_LINE):
        if databases := [database for uri in evidence.findall(log) if (database := parse(uri)) is not None]:
            return databases[-1:]
    return [Database(_dialect(name)) for name in _MIGRATIONS.findall(log)]


def parse(uri: str) -> Database | None:
    """None for a text that is no URI. Masked parts are empty."""
    match = _URI.match(uri.strip())
    if match is None:
        return None
    dialect = _dialect(match["dialect"])
    host, name = match["host"].lower(), unquote(match["name"] or "")
    if host and dialect in _PORTS and not re.search(r":\d+\Z", host):
        host = f"{host}:{_PORTS[dialect]}"
    if dialect == "sqlite":
        name = re.sub(r"(?:(?<=/)|\A)(?:\./)+|(?<=/)/+", "", name)
    return Database(dialect, "" if _MASK in host else host, "" if _MASK in name else name)


def _dialect(name: str) -> str:
    return _DIALECTS.get(name.lower(), name.lower())
