"""Parse a database URI, open an engine, wait until the database answers."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_ae5_server.common.errors import (
    Configuration,
    LoginFailed,
    ProjectError,
    Unreachable,
)
from mlflow_ae5_server.common.folders import sqlite_file
from mlflow_ae5_server.common.redaction import scrub

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

# dialect -> (driver in the URI, module to import, package to install), the preferred driver first.
# SQLAlchemy's own idea of the default driver changes with its version; this table does not.
DRIVERS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "postgresql": (("psycopg", "psycopg", "psycopg[binary]"), ("psycopg2", "psycopg2", "psycopg2-binary")),
    "mysql": (
        ("pymysql", "pymysql", "pymysql"),
        ("mysqldb", "MySQLdb", "mysqlclient"),
        ("mysqlconnector", "mysql.connector", "mysql-connector-python"),
    ),
    "mssql": (("pyodbc", "pyodbc", "pyodbc"), ("pymssql", "pymssql", "pymssql")),
    "sqlite": (("pysqlite", "sqlite3", "python with sqlite"),),
}
# dialect -> the driver whose package the environment `default` of anaconda-project.yml has
_IN_DEFAULT = {"postgresql": "psycopg", "mysql": "pymysql", "mssql": "pyodbc"}
_CONNECT_TIMEOUT = 5  # seconds for one attempt
_TIMEOUT_ARGUMENT = {
    "psycopg": "connect_timeout",
    "psycopg2": "connect_timeout",
    "pymysql": "connect_timeout",
    "mysqldb": "connect_timeout",
    "mysqlconnector": "connection_timeout",
    "pyodbc": "timeout",
    "pymssql": "login_timeout",
}
_REFUSED = re.compile(
    r"password authentication failed|no password supplied|access denied for user|login failed for user"
    r"|role \".*?\" does not exist|no pg_hba\.conf entry",
    re.I,
)
_MISSING = re.compile(r"database \".*?\" does not exist|unknown database|cannot open database", re.I)
_NOT_A_DATABASE = re.compile(r"unable to open database file|file is not a database|readonly database", re.I)

_WITHOUT_DATA = (  # remedy where a database does not exist or is empty
    "check MLFLOW_BACKEND_STORE_URI, and that its volume is mounted; start the server if it has never run; if its data "
    "is lost, `restore` a snapshot"
)


@dataclass(frozen=True)
class Database:
    """A usable database URI."""

    uri: str  # with its driver, and with its password
    dialect: str
    driver: str
    shown: str = field(compare=False)  # the URI without its password, as it was written, for messages
    file: Path | None  # of SQLite, but for a database in memory

    def __repr__(self) -> str:
        return f"Database({self.shown})"


@dataclass(frozen=True)
class Databases:
    """The databases of a server."""

    store: Database
    registry: Database  # of models: the store, unless it is configured
    replica: Database | None = None  # of the store, for reading

    @property
    def distinct(self) -> tuple[Database, ...]:
        """Each of them once, the store first."""
        return tuple(dict.fromkeys(filter(None, (self.store, self.registry, self.replica))))


def check_uri(uri: str | None, setting: str = "MLFLOW_BACKEND_STORE_URI") -> Database:
    """Parse `uri`, check its driver, and write that driver into the URI.

    Raises Configuration, which never repeats the URI's secrets.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    example = "postgresql://USER:PASSWORD@HOST:5432/DATABASE, special characters in the password %-encoded"
    if not uri:
        raise Configuration(f"{setting} is not set", f"set it as an AE5 secret: {example}")
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        raise Configuration(f"{setting} is not a database URI", f"write it as {example}") from None
    dialect, _, driver = url.drivername.partition("+")
    if dialect not in DRIVERS:
        hint = f"MLflow supports {', '.join(DRIVERS)}"
        if dialect == "postgres":
            hint = "write postgresql:// for postgres://"
        raise Configuration(f"{setting} names the database kind {dialect!r}, which MLflow does not know", hint)
    driver = _installed_driver(dialect, driver.lower(), setting)
    if dialect == "sqlite" and not url.database:
        raise Configuration(f"{setting} names no file", "write sqlite:///path/to/file.sqlite")
    # A textual replacement keeps the rest of the URI to the letter, which is what MLflow's own parser is given.
    full = uri if dialect == "sqlite" else f"{dialect}+{driver}" + uri[uri.index("://") :]
    return Database(full, dialect, driver, scrub(url.render_as_string(hide_password=True)), sqlite_file(uri))


def _installed_driver(dialect: str, desired: str, setting: str) -> str:
    candidates = [entry for entry in DRIVERS[dialect] if desired in {"", entry[0]}]
    if not candidates:
        raise Configuration(
            f"{setting} names the driver {desired!r}, which is not known for {dialect}",
            f"write {dialect}+{DRIVERS[dialect][0][0]}://",
        )
    for driver, module, _package in candidates:
        with contextlib.suppress(ModuleNotFoundError):  # of its parent package
            if importlib.util.find_spec(module) is not None:
                return driver
    _driver, _module, package = candidates[0]
    hint = f"add {package} to the project's environment"
    if (shipped := _IN_DEFAULT.get(dialect)) in {entry[0] for entry in candidates}:
        hint = f"use the environment `default` (the commands without `Minimum`), or {hint}"
    elif shipped:
        hint = f"write {dialect}+{shipped}://, whose package is in the environment `default`, or {hint}"
    raise Configuration(f"{setting} needs the package {package} for {dialect}, which is not installed", hint)


def is_absent(database: Database) -> bool:
    """Whether it is a SQLite file that does not exist. Connecting would create it."""
    return database.file is not None and not database.file.exists()


def absent(database: Database) -> Configuration:
    """The error where the database does not exist."""
    return Configuration(f"there is no database {database.shown}", _WITHOUT_DATA)


def without_tables(database: Database) -> Configuration:
    """The error where the database is empty, or another application's."""
    return Configuration(f"{database.shown} holds no MLflow tables", _WITHOUT_DATA)


def connect_engine(database: Database, *, pooled: bool = False) -> Engine:
    """Return an engine without a pool, so that no connection survives a fork.

    pooled: reuse connections to a database server until `dispose`, each tested first; opening one costs as much as many
    small queries. A SQLite file is opened again each time.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.pool import NullPool

    arguments: dict[str, Any] = {}
    if name := _TIMEOUT_ARGUMENT.get(database.driver):
        arguments[name] = _CONNECT_TIMEOUT
    chosen = "client_encoding" in make_url(database.uri).query or "PGCLIENTENCODING" in os.environ
    if database.driver == "psycopg" and not chosen:
        # From a database in SQL_ASCII psycopg gives bytes, of which SQLAlchemy cannot even read the server's version.
        arguments["client_encoding"] = "utf8"
    if pooled and database.dialect != "sqlite":
        return create_engine(database.uri, pool_pre_ping=True, connect_args=arguments)
    return create_engine(database.uri, poolclass=NullPool, connect_args=arguments)


def wait_until_ready(
    database: Database,
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    say: Callable[[str], None] = lambda _text: None,
) -> None:
    """Return when the database answers a query.

    Raises LoginFailed or Configuration at once where waiting cannot help (wrong password, no such database),
    Unreachable after `seconds`.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    deadline, pause, reported = clock() + seconds, 0.25, False
    # SQLite opens a file without looking into it until a table is asked for.
    query = text("SELECT count(*) FROM sqlite_master" if database.dialect == "sqlite" else "SELECT 1")
    engine = connect_engine(database)
    while True:
        try:
            with engine.connect() as connection:
                connection.execute(query)
                return
        except (SQLAlchemyError, OSError, ValueError) as error:
            message = reason_of(error)
            if (refusal := refusal_of(message, database)) is not None:
                raise refusal from None
        if clock() + pause > deadline:
            raise Unreachable(
                f"the database {database.shown} did not answer within {seconds:g} s: {message}",
                "check host, port and network; MLFLOW_TRACKING_DATABASE_WAIT sets how long to wait, in seconds",
            )
        if not reported:
            say(f"waiting up to {seconds:g} s for the database {database.shown}: {message}")
            reported = True
        sleep(pause)
        pause = min(pause * 2, 5.0)


def reason_of(error: BaseException) -> str:
    """The driver's own message: one line, without secrets."""
    text = str(getattr(error, "orig", None) or error)
    match getattr(getattr(error, "orig", None), "args", ()):
        case (int(), str(message)):  # as drivers of MySQL have it
            text = message
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return scrub(lines[0] if lines else type(error).__name__)[:300]


def refusal_of(reason: str, database: Database) -> ProjectError | None:
    """The error of a wrong login or database, where waiting cannot help."""
    if _REFUSED.search(reason):
        return LoginFailed(
            f"the database {database.shown} refused the login: {reason}",
            "correct user and password in MLFLOW_BACKEND_STORE_URI (special characters %-encoded)",
        )
    if _MISSING.search(reason):
        return Configuration(
            f"the database {database.shown} does not exist: {reason}", "create it, or correct MLFLOW_BACKEND_STORE_URI"
        )
    if database.dialect == "sqlite" and _NOT_A_DATABASE.search(reason):
        return Configuration(
            f"{database.shown} cannot be used: {reason}", "check the path in MLFLOW_BACKEND_STORE_URI and permissions"
        )
    return None
