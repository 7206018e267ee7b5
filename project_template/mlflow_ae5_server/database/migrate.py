"""Bring the schema of a database to the installed MLflow."""

from __future__ import annotations

from mlflow_ae5_server.common.errors import SchemaError
from mlflow_ae5_server.database import checks, mlflow_command
from mlflow_ae5_server.database.checks import Database, Schema
from mlflow_ae5_server.database.mlflow_command import CommandResult


def migrate(store: Database) -> tuple[CommandResult, Schema]:
    """MLflow's own migrations on `store`, and the schema they left; what ends with 0 is the schema MLflow needs.

    Whoever calls this holds the maintenance lock, or has a database that nobody else knows.
    """
    from mlflow.db import commands

    ended = mlflow_command.run(commands, ["upgrade", store.uri], "mlflow db")
    after = _inspect(store)
    if ended.exit_code == 0 and after.state != "current":
        left = (
            f"tables are missing after the migrations: {checks.lacking(after)}"
            if after.missing
            else f"the schema is at revision {after.found} after the migrations, and MLflow needs {after.expected}"
        )
        ended = CommandResult(SchemaError.exit_code, left)
    return ended, after


def _inspect(store: Database) -> Schema:
    return checks.schema_of(store)
