"""Variables of MLflow that this server cannot start with, alone or together.

MLflow ignores some of them here, and reads a value that it does not understand only at a request, which then fails.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow_ae5_server.common.errors import Configuration, SchemaMismatch
from mlflow_ae5_server.database.connection import Database, Databases, connect_engine
from mlflow_ae5_server.database.schema import SchemaState, missing_tables, schema_of

RULES: dict[str, Any] = json.loads(Path(__file__).with_name("variables.json").read_text(encoding="utf-8"))
REPLICA = "MLFLOW_READ_REPLICA_BACKEND_STORE_URI"
REGISTRY = "MLFLOW_REGISTRY_STORE_URI"
_STANDBY_OF = "SELECT pg_is_in_recovery(), system_identifier, current_database() FROM pg_control_system()"
_OFF = frozenset({"", "0", "false", "no", "off"})


def require_supported(environ: Mapping[str, str]) -> None:
    """Raise Configuration for a variable that is refused, or lacks the one that it needs."""
    for name, why in RULES["refused"].items():
        if _is_on(environ, name):
            raise Configuration(f"{name} is not supported: {why}", f"delete the secret or variable {name}")
    jobs = RULES["needed"]
    if _is_on(environ, jobs) or environ.get(RULES["unless_off"], "").strip().lower() in _OFF - {""}:
        return
    for name, why in RULES["needs"].items():
        if _is_on(environ, name):
            raise Configuration(f"{name} has no effect without {jobs}: {why}", f"set {jobs} to true")


def _is_on(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").strip().lower() not in _OFF


def require_readable() -> None:
    """Raise Configuration for a value in the environment that MLflow cannot read.

    Imports MLflow.
    """
    from mlflow import environment_variables
    from mlflow.exceptions import MlflowException
    from mlflow.tracing.trace_archival_config import get_trace_archival_server_config

    kind: Any = environment_variables._EnvironmentVariable
    for variable in vars(environment_variables).values():
        if not isinstance(variable, kind) or not variable.is_set():
            continue
        try:
            variable.get()
        except ValueError:
            expected = "true or false" if variable.type is bool else f"a value of type {variable.type.__name__}"
            raise Configuration(f"{variable.name} is not {expected}", f"correct the variable {variable.name}") from None
    try:
        get_trace_archival_server_config()
    except MlflowException as error:
        raise Configuration(
            f"MLFLOW_TRACE_ARCHIVAL_CONFIG cannot be used: {error.message}", "correct that configuration"
        ) from None


def require_replica(databases: Databases) -> None:
    """Raise Configuration for a read replica that MLflow cannot use with the other databases."""
    store, replica = databases.store, databases.replica
    if replica is None:
        return
    if replica.dialect == "sqlite" or replica.dialect != store.dialect:
        raise Configuration(
            f"{REPLICA} is a {replica.dialect} database, and MLFLOW_BACKEND_STORE_URI a {store.dialect} one",
            "use a replica that the database server itself replicates, or none",
        )
    if databases.registry != store:
        raise Configuration(
            f"{REPLICA} and {REGISTRY} exclude each other: MLflow would read models from the wrong database",
            f"keep models in the server's database: delete {REGISTRY}",
        )


def require_standby_of(store: Database, replica: Database) -> None:
    """Raise Configuration for a PostgreSQL standby of another database: reads would come from other data.

    So it is after a restore into a new database. Other kinds of replicas do not show what they follow.
    """
    from sqlalchemy.exc import SQLAlchemyError

    found = []
    try:
        for database in (store, replica) if store.dialect == "postgresql" else ():
            with connect_engine(database).connect() as connection:
                found.append(tuple(connection.exec_driver_sql(_STANDBY_OF).one()))
    except SQLAlchemyError:
        return  # a kind of PostgreSQL without that function, or a role that may not call it
    if found and found[1][0] and found[0][1:] != found[1][1:]:
        raise Configuration(
            f"the read replica {replica.shown} is a standby of another database than {store.shown}",
            f"set {REPLICA} to a standby of that database, or delete it to read from the database itself",
        )


def await_replica(
    replica: Database,
    seconds: float,
    *,
    observe: Callable[[Database], SchemaState] = schema_of,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when the replica has the schema of the installed MLflow.

    Raises SchemaMismatch where it has not after `seconds`: it is behind, or it replicates another database.
    """
    deadline = clock() + seconds
    while (schema := observe(replica)).state != "current":
        if clock() > deadline:
            why = (
                f"it lacks tables: {missing_tables(schema)}"
                if schema.missing
                else f"its schema is {schema.found or 'empty'}, and this MLflow needs {schema.expected}"
            )
            raise SchemaMismatch(
                f"the read replica {replica.shown} does not match the database: {why}",
                f"check that it replicates the database and has caught up, or delete {REPLICA} to read from the "
                "database itself",
            )
        sleep(1.0)
