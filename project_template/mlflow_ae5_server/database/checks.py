"""The database behind MLFLOW_BACKEND_STORE_URI: is the URI usable, does it answer, is its schema ours?"""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_ae5_server.common.errors import (
    ConfigurationError,
    CredentialsError,
    ProjectError,
    SchemaError,
    UnreachableError,
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
_NAMED = 5  # tables in a message
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


@dataclass(frozen=True)
class Database:
    """A usable URI. `uri` holds the password; `shown` does not."""

    uri: str
    dialect: str
    driver: str
    shown: str
    file: Path | None

    def __repr__(self) -> str:
        return f"Database({self.shown})"


@dataclass(frozen=True)
class Schema:
    """`state` is "empty", "current", "outdated" or "unknown" (a revision this MLflow has never heard of).

    `missing`: tables that its revision says are there. No migration makes them again.
    """

    state: str
    found: str | None
    expected: str
    missing: tuple[str, ...] = ()


def check_uri(uri: str | None, setting: str = "MLFLOW_BACKEND_STORE_URI") -> Database:
    """Parse `uri` and make sure its driver is installed; names the driver in the URI, so that nothing has to guess.

    Raises ConfigurationError, which never repeats the URI's secrets.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    example = "postgresql://USER:PASSWORD@HOST:5432/DATABASE, special characters in the password %-encoded"
    if not uri:
        raise ConfigurationError(f"{setting} is not set", f"set it as an AE5 secret: {example}")
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"{setting} is not a database URI", f"write it as {example}") from None
    dialect, _, driver = url.drivername.partition("+")
    if dialect not in DRIVERS:
        known = ", ".join(DRIVERS)
        hint = "write postgresql:// for postgres://" if dialect == "postgres" else f"MLflow stores its data in {known}"
        raise ConfigurationError(f"{setting} names the database kind {dialect!r}, which MLflow does not know", hint)
    driver = _installed_driver(dialect, driver.lower(), setting)
    if dialect == "sqlite" and not url.database:
        raise ConfigurationError(f"{setting} names no file", "write sqlite:///path/to/file.sqlite")
    # A textual replacement keeps the rest of the URI to the letter, which is what MLflow's own parser is given.
    full = uri if dialect == "sqlite" else f"{dialect}+{driver}" + uri[uri.index("://") :]
    return Database(full, dialect, driver, scrub(url.render_as_string(hide_password=True)), sqlite_file(uri))


def _installed_driver(dialect: str, desired: str, setting: str) -> str:
    candidates = [entry for entry in DRIVERS[dialect] if desired in {"", entry[0]}]
    if not candidates:
        raise ConfigurationError(
            f"{setting} names the driver {desired!r}, which is not known for {dialect}",
            f"write {dialect}+{DRIVERS[dialect][0][0]}://",
        )
    for driver, module, _package in candidates:
        if _is_installed(module):
            return driver
    _driver, _module, package = candidates[0]
    hint = f"add {package} to the project's environment"
    if (shipped := _IN_DEFAULT.get(dialect)) in {entry[0] for entry in candidates}:
        hint = f"use the environment `default` (the commands without `Minimum`), or {hint}"
    elif shipped:
        hint = f"write {dialect}+{shipped}://, whose package is in the environment `default`, or {hint}"
    raise ConfigurationError(f"{setting} needs the package {package} for {dialect}, which is not installed", hint)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def is_absent(database: Database) -> bool:
    """Whether it is a SQLite file that is not there: connecting would make it, empty."""
    return database.file is not None and not database.file.exists()


def connect_engine(database: Database, *, keep: bool = False) -> Engine:
    """An engine without a pool, for this process's own look at the database: nothing of it survives a fork.

    keep: connections to a server are kept for the next look, each looked at first, until `dispose`; opening one costs
    as much as many small queries. A SQLite file is opened anew each time.
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
    if keep and database.dialect != "sqlite":
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
    """Return when the database answers a query. What waiting cannot cure (wrong password, no such database) fails now.

    Raises CredentialsError, ConfigurationError, or UnreachableError after `seconds`.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    deadline, pause, told = clock() + seconds, 0.25, False
    # SQLite opens a file without looking into it until a table is asked for.
    query = text("SELECT count(*) FROM sqlite_master" if database.dialect == "sqlite" else "SELECT 1")
    engine = connect_engine(database)
    while True:
        try:
            with engine.connect() as connection:
                connection.execute(query)
                return
        except (SQLAlchemyError, OSError, ValueError) as error:
            message = reason(error)
            if (final := _final(message, database)) is not None:
                raise final from None
        if clock() + pause > deadline:
            raise UnreachableError(
                f"the database {database.shown} did not answer within {seconds:g} s: {message}",
                "check host, port and network; MLFLOW_TRACKING_DATABASE_WAIT sets how long to wait, in seconds",
            )
        if not told:
            say(f"waiting up to {seconds:g} s for the database {database.shown}: {message}")
            told = True
        sleep(pause)
        pause = min(pause * 2, 5.0)


def reason(error: BaseException) -> str:
    """The driver's own words: one line, without SQLAlchemy's wrapping and without secrets."""
    text = str(getattr(error, "orig", None) or error)
    match getattr(getattr(error, "orig", None), "args", ()):
        case (int(), str(words)):  # as drivers of MySQL have it
            text = words
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return scrub(lines[0] if lines else type(error).__name__)[:300]


def _final(reason: str, database: Database) -> ProjectError | None:
    if _REFUSED.search(reason):
        return CredentialsError(
            f"the database {database.shown} refused the login: {reason}",
            "correct user and password in MLFLOW_BACKEND_STORE_URI (special characters %-encoded)",
        )
    if _MISSING.search(reason):
        return ConfigurationError(
            f"the database {database.shown} does not exist: {reason}", "create it, or correct MLFLOW_BACKEND_STORE_URI"
        )
    if database.dialect == "sqlite" and _NOT_A_DATABASE.search(reason):
        return ConfigurationError(
            f"{database.shown} cannot be used: {reason}", "check the path in MLFLOW_BACKEND_STORE_URI and permissions"
        )
    return None


def no_schema(database: Database, search_path: str) -> ConfigurationError:
    """Where PostgreSQL finds no schema to look into."""
    return ConfigurationError(
        f"{database.shown} has no schema of its search_path: {search_path}",
        "create the schema, or correct search_path; write a name with capitals or spaces in double quotes",
    )


def wrong_encoding(database: Database, encoding: str) -> ConfigurationError:
    """Where PostgreSQL keeps texts in another encoding than UTF8."""
    from sqlalchemy.engine import make_url

    name = str(make_url(database.uri).database).replace('"', '""')
    return ConfigurationError(
        f"the database {database.shown} has the encoding {encoding}, in which MLflow cannot keep every character",
        "make another one, as an encoding cannot be changed, and start or restore there: "
        f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'",
    )


def inspect_schema(engine: Engine) -> Schema:
    """Compare the database's schema revision with the one of the installed MLflow. Reads only."""
    from sqlalchemy import inspect

    utils = _mlflow_database_utils()
    expected = utils._get_latest_schema_revision()
    found = utils._get_schema_version(engine)
    tables = set(inspect(engine).get_table_names())
    if found is None:
        return Schema("outdated" if {"experiments", "runs"} & tables else "empty", None, expected)
    if found == expected:
        missing = () if utils._all_tables_exist(engine) else tuple(sorted(set(utils.Base.metadata.tables) - tables))
        return Schema("outdated" if missing else "current", found, expected, missing)
    return Schema("outdated" if knows_revision(found) else "unknown", found, expected)


def schema_of(database: Database) -> Schema:
    """As inspect_schema, and an absent database counts as empty and stays absent."""
    if is_absent(database):
        return Schema("empty", None, _mlflow_database_utils()._get_latest_schema_revision())
    return inspect_schema(connect_engine(database))


def pending_revisions(schema: Schema) -> list[str]:
    """The migrations an upgrade would run, oldest first."""
    if schema.state in {"current", "unknown"}:
        return []
    steps = _script_directory().iterate_revisions(schema.expected, schema.found or "base")
    return [step.revision for step in steps][::-1]


def describe_revision(revision: str) -> str:
    """What a migration does, in the words of its author."""
    return str(_script_directory().get_revision(revision).doc)


def knows_revision(revision: str) -> bool:
    """Whether the installed MLflow has this revision among its migrations; if not, it is of a newer MLflow."""
    from alembic.util import CommandError

    try:
        return _script_directory().get_revision(revision) is not None
    except CommandError:
        return False


def _script_directory() -> Any:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_mlflow_database_utils()._get_alembic_config(db_url=""))


def _mlflow_database_utils() -> Any:
    """MLflow's own schema functions: not public, but the very ones its server refuses to start with (3.17.2)."""
    from mlflow.store.db import utils

    return utils


def lacking(schema: Schema) -> str:
    """Its missing tables, the first of them by name."""
    more = len(schema.missing) - _NAMED
    return ", ".join(schema.missing[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def require_current(schema: Schema, database: Database) -> None:
    """SchemaError unless the schema is exactly that of the installed MLflow."""
    from mlflow.version import VERSION

    if schema.missing:
        raise SchemaError(
            f"tables are missing in {database.shown}: {lacking(schema)}",
            "something has removed them, or a migration or restore was cut off: restore a snapshot",
        )
    if schema.state == "outdated":
        raise SchemaError(
            f"the schema of {database.shown} is at revision {schema.found}, MLflow {VERSION} needs {schema.expected}",
            "`upgrade` does it all; by hand: stop the server, back up the database, run the command DatabaseUpgrade, "
            "then start again",
        )
    if schema.state == "unknown":
        raise SchemaError(
            f"the schema of {database.shown} is at revision {schema.found}, which MLflow {VERSION} does not know: "
            "it was made by a newer MLflow, or by another application",
            "use the release of this project that made it; no upgrade goes back",
        )
    if schema.state == "empty":
        raise ConfigurationError(
            f"{database.shown} holds no MLflow tables",
            "give this job the MLFLOW_BACKEND_STORE_URI of the server, or start the server first",
        )
