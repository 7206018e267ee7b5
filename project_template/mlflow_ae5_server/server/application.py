"""MLflow's application, loaded once before the workers are forked."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import uuid
import warnings
from typing import Any

from mlflow_ae5_server.common import keys
from mlflow_ae5_server.common.errors import Configuration, ProjectError, RestoreUnfinished
from mlflow_ae5_server.common.report import say
from mlflow_ae5_server.common.text import counted
from mlflow_ae5_server.database import character_sets, locks
from mlflow_ae5_server.database.connection import Database, Databases, connect_engine
from mlflow_ae5_server.database.schema import require_current, schema_of
from mlflow_ae5_server.server import artifact_guard, variables
from mlflow_ae5_server.server.host_guard import Application
from mlflow_ae5_server.server.host_policy import HostPolicy

# Words of MLflow's refusals to open a database, and the variable that it misses.
_OFF_FEATURES = {"disable workspaces": "MLFLOW_ENABLE_WORKSPACES", "rollups": "MLFLOW_SQL_TRACE_ROLLUPS_ENABLED"}


def set_environment(
    databases: Databases,
    artifact_root: str,
    destination: str,
    prefix: str,
    policy: HostPolicy,
    jobs: bool,
) -> bool:
    """Set what MLflow's command line sets (mlflow.server._run_server, 3.17.2).

    MLflow reads some of it while it is imported, so this comes before. Returns whether host_guard sets the frame
    policy.
    """
    environ = os.environ
    # The server is not a client of itself; with these it would address, and log in to, its own public endpoint.
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_TOKEN", "MLFLOW_WORKSPACE"):
        environ.pop(name, None)
    environ.pop("_MLFLOW_SERVER_READ_REPLICA_BACKEND_STORE", None)  # set when the replica has the schema
    environ.update(
        {
            "_MLFLOW_SERVER_FILE_STORE": databases.store.uri,
            "_MLFLOW_SERVER_REGISTRY_STORE": databases.registry.uri,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": artifact_root,
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": destination,
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SERVER_BOOT_ID": uuid.uuid4().hex,
            "_MLFLOW_IN_JOB_EXECUTOR": "false",
            "_MLFLOW_SGI_NAME": "uvicorn",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true" if jobs else "false",
            "MLFLOW_SERVER_ALLOWED_HOSTS": "*",  # host_guard checks hosts before MLflow does
        }
    )
    environ.setdefault("MLFLOW_SERVER_SECRETS_CACHE_TTL", "60")
    environ.setdefault("MLFLOW_SERVER_SECRETS_CACHE_MAX_SIZE", "1000")
    if policy.cors_origins:
        environ["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(policy.cors_origins)
    if prefix:
        environ["_MLFLOW_STATIC_PREFIX"] = prefix
    _limit_threads()
    if "MLFLOW_SERVER_X_FRAME_OPTIONS" in environ:
        return False
    if policy.frame_ancestors:
        environ["MLFLOW_SERVER_X_FRAME_OPTIONS"] = "NONE"
    return True


def _limit_threads() -> None:
    """One thread at the time of the fork, and few malloc arenas."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX (glibc)


def load(databases: Databases, artifact_root: str, destination: str, wait: float) -> Application:
    """Import MLflow's application and open its stores.

    An empty database is initialised, an old one refused.
    """
    keys.require_usable(os.environ)
    variables.require_readable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, at import: an administrator cannot act on them
        from mlflow.server.fastapi_app import app

    _share_pools()
    artifact_guard.install(destination, artifact_root)
    store, registry = databases.store, databases.registry
    schema = schema_of(store)
    if registry != store and schema_of(registry).state == "empty":
        character_sets.require_database(registry)
    if schema.state == "empty":
        with locks.maintenance(store, max(wait, 60.0)):
            if schema_of(store).state == "empty":
                refuse_unfinished(destination)
                character_sets.require_database(store)
                say(f"creating the tables in the empty database {store.shown}")
            _open_stores(databases, artifact_root, wait)
    else:
        require_current(schema, store)
        _warn_of_character_sets(store)
        _open_stores(databases, artifact_root, wait)
    for database in dict.fromkeys((store, registry)):  # a replica cannot be written, and has the store's values
        _check_keys(database)
    application: Application = app
    return application


def _open_stores(databases: Databases, artifact_root: str, wait: float) -> None:
    """Open MLflow's stores.

    MLflow refuses a database whose data needs a feature that is off.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.server.handlers import TrackingStoreRegistryWrapper, initialize_backend_stores
    from mlflow.tracing.trace_rollup_service import validate_sql_trace_rollup_startup

    try:
        if databases.replica is not None:
            creating: Any = TrackingStoreRegistryWrapper  # makes missing tables, for which the replica has to wait
            creating._get_sqlalchemy_store(databases.store.uri, artifact_root)
            variables.await_replica(databases.replica, wait)
            os.environ["_MLFLOW_SERVER_READ_REPLICA_BACKEND_STORE"] = databases.replica.uri
        initialize_backend_stores(databases.store.uri, databases.registry.uri, artifact_root)
        validate_sql_trace_rollup_startup(databases.store.uri)
    except MlflowException as error:
        message = error.message
        switch = next((name for word, name in _OFF_FEATURES.items() if word in message), "")
        raise Configuration(f"MLflow refuses to start: {message}", f"set {switch} to true" if switch else "") from None


def _share_pools() -> None:
    """One pool per database for all of MLflow's stores."""
    from mlflow.store.jobs.sqlalchemy_store import SqlAlchemyJobStore
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore

    for store in (RegistryStore, SqlAlchemyJobStore):
        store._engine_map = TrackingStore._engine_map
        store._engine_map_lock = TrackingStore._engine_map_lock


def refuse_unfinished(destination: str) -> None:
    """Raise RestoreUnfinished where a restore was interrupted.

    Its tables come last, and new ones would be in its way.
    """
    from mlflow_ae5_server.restore import journal

    try:
        journal.refuse_interrupted(destination)
    except RestoreUnfinished:
        raise
    except ProjectError as error:  # a kind of store that restores do not support, or one that does not answer now
        say(f"note: unable to determine whether a restore is running: {error.message}")


def _warn_of_character_sets(store: Database) -> None:
    """Warn only: a server whose data is there already is better than none."""
    try:
        character_sets.require_database(store)
        character_sets.require_tables(store)
    except Configuration as error:
        say(f"warning: {error}")


def _check_keys(store: Database) -> None:
    """Encrypt again what everybody could read; warn of lost keys."""
    from sqlalchemy.exc import SQLAlchemyError

    engine = connect_engine(store)
    try:
        if number := keys.adopt(engine, os.environ):
            say(
                f"encrypted again, with {keys.PASSPHRASE}: {counted(number, keys.PROTECTS[keys.PASSPHRASE])} that a "
                "constant published by MLflow had encrypted. Older backups keep them as they were: replace them at "
                "their provider"
            )
        for warning in keys.warnings(keys.examine(engine, os.environ), os.environ):
            say(f"warning: {warning}")
    except SQLAlchemyError as error:
        say(f"warning: encrypted values were not checked: {type(error).__name__}")


def drop_connections() -> None:
    """Close every pooled connection, which two processes must not share."""
    from sqlalchemy.engine import Engine

    gc.collect()
    for candidate in gc.get_objects():
        if isinstance(candidate, Engine):
            candidate.dispose()
