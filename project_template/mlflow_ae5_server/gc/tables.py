"""MLflow's tables, as far as collection needs them (schema of MLflow 3.17.2).

MLflow itself is not imported for it: that takes seconds, and this job runs every few minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import column, table

if TYPE_CHECKING:
    from sqlalchemy.sql.expression import TableClause


def _table(name: str, columns: str) -> TableClause:
    return table(name, *(column(item) for item in columns.split()))


RUNS = _table("runs", "run_uuid name experiment_id artifact_uri lifecycle_stage deleted_time")
EXPERIMENTS = _table(
    "experiments",
    "experiment_id name artifact_location lifecycle_stage last_update_time creation_time workspace",
)
MODELS = _table(
    "logged_models",
    "model_id experiment_id artifact_location lifecycle_stage last_updated_timestamp_ms source_run_id",
)
TRACES = _table("trace_info", "request_id experiment_id timestamp_ms")
TRACE_TAGS = _table("trace_tags", "request_id key value")
VERSIONS = _table(
    "model_versions",
    "name source storage_location run_id current_stage creation_time last_updated_time",
)
DATASETS = _table("datasets", "dataset_uuid experiment_id")
INPUTS = _table("inputs", "input_uuid source_type source_id destination_type destination_id")
INPUT_TAGS = _table("input_tags", "input_uuid")
MODEL_METRICS = _table("logged_model_metrics", "dataset_uuid")
