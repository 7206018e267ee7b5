"""Versions that are known to go wrong: ae5-tools, MLflow, and database URI x driver x SQLAlchemy. Pure functions.

What is known of MLflow was measured or is in its issues: 3.5 to 3.11 took over 5 minutes and 30 GB of memory for an
upload of 1 GB through the server (mlflow#22665).
"""

from __future__ import annotations

import re

from mlflow_ae5_deploy.common.parts import OLDEST_AE5_TOOLS, install_ae5_tools, too_old, update_ae5_tools
from mlflow_ae5_deploy.config.database_uri import IMPLIED, StoreUri
from mlflow_ae5_deploy.operations.doctor.findings import Finding, error, info, ok, skipped, warning
from mlflow_ae5_deploy.release.packages import PackageEnvironment, Version, bounds, exact_version

BAD_UPLOADS = ((3, 5), (3, 11))  # first and last series
INCOMPLETE: dict[Version, str] = {(3, 18, 0): "its mlflow-skinny could not be installed when this tool was made"}
NEW_DRIVERS = (2, 1)  # the SQLAlchemy from which postgresql:// means psycopg
_FORMERLY = {"postgresql": "psycopg2", "mysql": "mysqldb"}
# driver -> packages of which one brings it (conda and pip names, normalised)
DRIVER_PACKAGES: dict[str, tuple[str, ...]] = {
    "psycopg": ("psycopg", "psycopg-binary"),
    "psycopg2": ("psycopg2", "psycopg2-binary"),
    "psycopg2cffi": ("psycopg2cffi",),
    "pg8000": ("pg8000",),
    "pymysql": ("pymysql",),
    "mysqldb": ("mysqlclient",),
    "mysqlconnector": ("mysql-connector-python",),
    "mariadbconnector": ("mariadb",),
    "cymysql": ("cymysql",),
    "pyodbc": ("pyodbc",),
    "pymssql": ("pymssql",),
}
# What the server that this tool brings takes, and looks for in this order.
OUR_DRIVERS: dict[str, tuple[str, ...]] = {
    "postgresql": ("psycopg", "psycopg2"),
    "mysql": ("pymysql", "mysqldb", "mysqlconnector"),
    "mssql": ("pyodbc", "pymssql"),
    "sqlite": ("pysqlite",),
}


def ae5_tools(installed: str | None, *, needed: bool) -> Finding:
    """needed: whether the platform is reached through it."""
    check = "ae5-tools"
    if installed is None:
        if not needed:
            return info(check, "not installed, and not needed for the sandbox")
        return error(
            check,
            "not installed, and a real platform is reached through it",
            install_ae5_tools(),
        )
    if too_old(installed):
        problem = f"{installed} is older than {OLDEST_AE5_TOOLS}"
        if not needed:
            return info(check, f"{problem}; not needed for the sandbox")
        return error(check, f"{problem}, and is not used", update_ae5_tools())
    return ok(check, installed)


def mlflow_pin(environment: PackageEnvironment, *, proxied: bool) -> Finding:
    """proxied: clients upload through the server (the artifact root is mlflow-artifacts:)."""
    check, spec = "mlflow-version", environment.packages.get("mlflow")
    asked_by = f"environment {environment.name} of {environment.command}"
    if spec is None:
        return info(check, f"the {asked_by} asks for no package mlflow, so its version is not known")
    version = exact_version(spec)
    if version is None or len(version) < 3:
        return warning(
            check,
            f"the {asked_by} asks for mlflow{spec or ' of any version'}: the next start may install another, "
            "and every version has a database schema of its own",
            "Pin it exactly: slipstream.dependencies: {mlflow: '==3.17.2'}.",
        )
    return _judge_mlflow(check, version, f"mlflow {'.'.join(map(str, version))} in the {asked_by}", proxied)


def mlflow_running(version: str, pinned: Version | None, *, proxied: bool) -> Finding:
    """The version that the running server states, beside what the release to install asks for."""
    check = "mlflow-running"
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if pinned is not None and numbers[: len(pinned)] != pinned:
        desired = ".".join(map(str, pinned))
        return warning(
            check,
            f"the running server is {version}, the configured release asks for {desired}",
            "Back up the database before you install the other one: it changes the schema, and there is no way back.",
        )
    return _judge_mlflow(check, numbers, f"the running server is {version}", proxied)


def _judge_mlflow(check: str, version: Version, message: str, proxied: bool) -> Finding:
    first, last = BAD_UPLOADS
    if first <= version[:2] <= last:
        text = f"{message}: from 3.5 to 3.11 an upload of 1 GB through the server takes minutes and 30 GB of memory"
        remedy = "Take 3.12 or later: `--release bundled` brings 3.17.2."
        return error(check, text, remedy) if proxied else warning(check, f"{text}; yours do not go that way", remedy)
    if version in INCOMPLETE:
        return warning(check, f"{message}: {INCOMPLETE[version]}", "Take 3.17.2.")
    if version < (3,):
        return info(check, f"{message}, which is old; it has neither host checks nor a configurable frame policy")
    return ok(check, message)


def database_driver(store: StoreUri, environment: PackageEnvironment) -> Finding:
    """Whether the environment has what the URI needs: dialect x driver x SQLAlchemy."""
    check, where = "database-driver", f"environment {environment.name} of {environment.command}"
    if store.dialect == "sqlite":
        return info(check, "sqlite, which needs no driver; for one server only, and not safe on a network volume")
    if environment.ours and not store.driver_is_implied and store.driver not in OUR_DRIVERS[store.dialect]:
        return error(
            check,
            f"the server does not take the driver {store.driver} for {store.dialect}",
            f"Write {store.dialect}+{OUR_DRIVERS[store.dialect][0]}:// in server.backend_store_uri.",
        )
    if not environment.packages:
        return skipped(check, f"the {where} lists no packages")
    possible, doubt = _possible(store, environment)
    present = [driver for driver in possible if _has(driver, environment)]
    if not present:
        package = DRIVER_PACKAGES[possible[0]][0]
        return error(
            check,
            f"{store.dialect}{'' if store.driver_is_implied else '+' + store.driver} needs {' or '.join(possible)}, "
            f"which the {where} does not bring",
            f"Add the package {package} with slipstream.dependencies, or use a command whose environment has it.",
        )
    if doubt:
        return warning(check, doubt, f"Write {store.dialect}+{present[0]}:// in server.backend_store_uri.")
    return ok(check, f"{store.dialect} through {present[0]}, which the {where} brings")


def _possible(store: StoreUri, environment: PackageEnvironment) -> tuple[tuple[str, ...], str]:
    """(drivers that would do, what is doubtful about them)."""
    if not store.driver_is_implied:
        return (store.driver,), ""
    if environment.ours:
        return OUR_DRIVERS[store.dialect], ""
    old, new = _FORMERLY.get(store.dialect, IMPLIED.get(store.dialect, "")), IMPLIED.get(store.dialect, "")
    if old == new:
        return (new,), ""
    low, high = bounds(environment.packages.get("sqlalchemy", ""))
    if low is not None and low[:2] >= NEW_DRIVERS:
        return (new,), ""
    if high is not None and high[:2] <= NEW_DRIVERS:
        return (old,), ""
    return (new, old), (
        f"{store.dialect}:// without a driver means {new} from SQLAlchemy 2.1 on and {old} before, "
        "and which SQLAlchemy will be installed is not stated"
    )


def _has(driver: str, environment: PackageEnvironment) -> bool:
    return any(package in environment.packages for package in DRIVER_PACKAGES.get(driver, ()))
