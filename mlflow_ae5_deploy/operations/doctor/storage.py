"""Where data goes: database URI and driver, and whether the backups are kept apart from the data.

Everything here reads the configuration only: neither the database nor the backup destination is asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.config.database_uri import DRIVERS, IMPLIED, SUPPORTED, StoreUri, parse_store_uri, path_of
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.config.warnings import store_advice
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.operations.doctor.findings import Finding, error, info, of_error, ok, skipped, warning
from mlflow_ae5_deploy.release.packages import PackageEnvironment, bounds
from mlflow_ae5_deploy.resources import backup_destination

NEW_DRIVERS = (2, 1)  # the SQLAlchemy from which postgresql:// means psycopg
_BEFORE = {"postgresql": "psycopg2", "mysql": "mysqldb"}
BACKUP_CHECK = "backup-destination"
_VOLUME = "data"
_PROMPTED, _REFER = "the URI is prompted for when it is needed", "Use env:NAME or file:PATH instead."


def database(context: Context, environment: PackageEnvironment | None) -> Iterator[Finding]:
    """The URI's form, and whether the environment has what it needs. The database itself is not asked."""
    uri = context.settings.server.backend_store_uri
    if isinstance(uri, SecretRef) and uri.kind == "prompt":
        for check in ("database-uri", "database-driver"):
            yield skipped(check, _PROMPTED, _REFER)
        return
    try:
        value = context.values.store_uri(uri).reveal()
        store = parse_store_uri(value)
    except DeployError as trouble:
        yield of_error("database-uri", trouble)
        yield skipped("database-driver", "the database URI is not usable")
        return
    words = store_advice(value)
    if words and (environment is None or not environment.ours):
        yield warning("database-uri", " ".join(words), "Write the driver into server.backend_store_uri.")
    else:
        yield ok("database-uri", f"{store.dialect}{'' if store.driver_is_implied else '+' + store.driver}")
    if environment is None:
        yield skipped("database-driver", "the packages of the release are not known")
    else:
        yield database_driver(store, environment)


def database_driver(store: StoreUri, environment: PackageEnvironment) -> Finding:
    """Whether the environment has what the URI needs: dialect x driver x SQLAlchemy."""
    check, where = "database-driver", f"environment {environment.name} of {environment.command}"
    if store.dialect == "sqlite":
        return info(check, "sqlite needs no driver; it serves one server only, and is not safe on a network volume")
    if environment.ours and not store.driver_is_implied and store.driver not in SUPPORTED[store.dialect]:
        return error(
            check,
            f"the server does not support the driver {store.driver} for {store.dialect}",
            f"Write {store.dialect}+{SUPPORTED[store.dialect][0]}:// in server.backend_store_uri.",
        )
    if not environment.packages:
        return skipped(check, f"the {where} lists no packages")
    possible, doubt = _possible(store, environment)
    packages = DRIVERS[store.dialect]
    present = [driver for driver in possible if any(name in environment.packages for name in packages[driver])]
    if not present:
        package = packages[possible[0]][0]
        return error(
            check,
            f"{store.dialect}{'' if store.driver_is_implied else '+' + store.driver} needs {' or '.join(possible)}, "
            f"which the {where} does not have",
            f"Add the package {package} with slipstream.dependencies, or use a command whose environment has it.",
        )
    if doubt:
        return warning(check, doubt, f"Write {store.dialect}+{present[0]}:// in server.backend_store_uri.")
    return ok(check, f"{store.dialect} through {present[0]} of the {where}")


def _possible(store: StoreUri, environment: PackageEnvironment) -> tuple[tuple[str, ...], str]:
    """(drivers that fit, why that is not certain)."""
    if not store.driver_is_implied:
        return (store.driver,), ""
    if environment.ours:
        return SUPPORTED[store.dialect], ""
    old, new = _BEFORE.get(store.dialect, IMPLIED.get(store.dialect, "")), IMPLIED.get(store.dialect, "")
    if old == new:
        return (new,), ""
    low, high = bounds(environment.packages.get("sqlalchemy", ""))
    if low is not None and low[:2] >= NEW_DRIVERS:
        return (new,), ""
    if high is not None and high[:2] <= NEW_DRIVERS:
        return (old,), ""
    return (new, old), (
        f"{store.dialect}:// without a driver means {new} from SQLAlchemy 2.1 on and {old} before, "
        "and the release does not pin SQLAlchemy"
    )


def backups(context: Context) -> Iterator[Finding]:
    """Whether losing the data's volume would lose the snapshots too."""
    settings = context.settings
    location, uri = settings.backup.destination, settings.server.backend_store_uri
    if any(isinstance(item, SecretRef) and item.kind == "prompt" for item in (location, uri)):
        yield skipped(BACKUP_CHECK, _PROMPTED, _REFER)
        return
    try:
        destination = backup_destination.destination(context).reveal()
        store = parse_store_uri(context.values.store_uri(uri).reveal())
    except DeployError as trouble:
        yield of_error(BACKUP_CHECK, trouble)
        return
    database = store.database.removeprefix("file:") if store.dialect == "sqlite" else ""
    yield judge(destination, database, settings.server.artifacts_destination)


def judge(destination: str, database: str, artifacts: str) -> Finding:
    """Pure. database: the path of an SQLite file, empty for a database server. Others: a path or a URI."""
    volume, artifacts_path = volume_of(path_of(destination)), path_of(artifacts)
    same_volume = [
        word for word, path in (("database", database), ("artifacts", artifacts_path)) if volume_of(path) == volume
    ]
    if volume and same_volume:
        return warning(
            BACKUP_CHECK,
            f"snapshots are on the volume of the {' and the '.join(same_volume)} ({volume}); losing that volume loses "
            "data and backups",
            "Set backup.destination to an object store (s3://, gs://, abfss://) or to another volume.",
        )
    where = f"the volume {volume}" if volume else "an object store"
    return ok(BACKUP_CHECK, f"snapshots are on {where}, apart from the data")


def volume_of(path: str | None) -> str:
    """The volume a path is on, as far as its name tells: `data/x` and `/data/y` are one. Empty for no path."""
    if not path:
        return ""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") and parts[:1] != [_VOLUME]:
        return "/" + "/".join(parts[:2])
    return f"/{parts[0]}" if parts else "/"
