"""The tables of MLflow that collection reads and deletes from, as far as it needs them (schema of MLflow 3.17.2).

MLflow itself is not imported for it: that takes seconds, and this job runs every few minutes.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import column, inspect, table, text

from mlflow_ae5_server.database import checks
from mlflow_ae5_server.database.checks import Database

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine
    from sqlalchemy.sql.expression import TableClause


def _table(name: str, *columns: str) -> TableClause:
    return table(name, *(column(item) for item in columns))


RUNS = _table("runs", "run_uuid", "name", "experiment_id", "artifact_uri", "lifecycle_stage", "deleted_time")
EXPERIMENTS = _table(
    "experiments",
    "experiment_id",
    "name",
    "artifact_location",
    "lifecycle_stage",
    "last_update_time",
    "creation_time",
    "workspace",
)
MODELS = _table(
    "logged_models",
    "model_id",
    "experiment_id",
    "artifact_location",
    "lifecycle_stage",
    "last_updated_timestamp_ms",
    "source_run_id",
)
TRACES = _table("trace_info", "request_id", "experiment_id", "timestamp_ms")
TRACE_TAGS = _table("trace_tags", "request_id", "key", "value")
VERSIONS = _table(
    "model_versions",
    "source",
    "storage_location",
    "run_id",
    "current_stage",
    "creation_time",
    "last_updated_time",
)
DATASETS = _table("datasets", "dataset_uuid", "experiment_id")
INPUTS = _table("inputs", "input_uuid", "source_type", "source_id", "destination_type", "destination_id")
INPUT_TAGS = _table("input_tags", "input_uuid")
MODEL_METRICS = _table("logged_model_metrics", "dataset_uuid")

_NEEDED = {t.name for t in (RUNS, EXPERIMENTS, MODELS, TRACES, TRACE_TAGS, VERSIONS, DATASETS, INPUTS, INPUT_TAGS)}
_REVISION = re.compile(r"^revision(?:\s*:\s*\w+)?\s*=\s*[\"'](\w+)[\"']", re.M)
_DOWN = re.compile(r"^down_revision(?:\s*:[^=\n]+)?\s*=\s*(.+)$", re.M)


def require_current(engine: Engine, store: Database) -> None:
    """SchemaError or ConfigurationError unless the database has the schema of the installed MLflow."""
    names = set(inspect(engine).get_table_names())
    if names >= _NEEDED and "alembic_version" in names:
        with engine.connect() as connection:
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
        if found == [latest_revision()]:
            return
    # Something is not as it should be; MLflow's own functions tell what.
    checks.require_current(checks.inspect_schema(engine), store)


@cache
def latest_revision() -> str | None:
    """The newest revision of the installed MLflow's migration scripts, read as text; None where that is not clear."""
    spec = importlib.util.find_spec("mlflow")
    folder = Path(spec.origin or "").parent / "store/db_migrations/versions" if spec else Path()
    known: set[str] = set()
    replaced: set[str] = set()
    for script in folder.glob("*.py"):
        source = script.read_text(encoding="utf-8")
        known.update(_REVISION.findall(source))
        for down in _DOWN.findall(source):
            replaced.update(re.findall(r"[\"'](\w+)[\"']", down))
    heads = known - replaced
    return heads.pop() if len(heads) == 1 else None
