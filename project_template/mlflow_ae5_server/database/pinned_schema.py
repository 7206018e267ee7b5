"""The schema of the pinned MLflow. Tests compare it with MLflow.

Importing MLflow to read it takes six times as long as a small backup, and running its migrations to create the tables
takes longer than the rest of a small restore.
"""

from __future__ import annotations

from pathlib import Path

VERSION = "3.17.2"
REVISION = "dc11669786a5"
_TABLES = """
alembic_version assessments budget_policies datasets endpoint_bindings endpoint_model_mappings endpoint_tags
endpoints entity_associations evaluation_dataset_records evaluation_dataset_tags evaluation_datasets experiment_tags
experiments guardrail_configs guardrails input_tags inputs issues job_locks jobs label_schemas latest_metrics
logged_model_metrics logged_model_params logged_model_tags logged_models mcp_access_endpoints mcp_server_aliases
mcp_server_tags mcp_server_version_tags mcp_server_versions mcp_servers metrics model_definitions model_version_tags
model_versions online_scoring_configs params registered_model_aliases registered_model_tags registered_models
review_queue_items review_queue_label_schemas review_queue_users review_queues runs scheduler_leases scorer_versions
scorers secrets span_metrics spans sql_assessment_daily_rollups sql_span_cost_daily_rollups
sql_trace_metric_daily_rollups sql_trace_rollup_rebuild_queue tags trace_info trace_metrics trace_request_metadata
trace_tags webhook_events webhooks workspaces
"""
TABLES = frozenset(_TABLES.split())


def statements(dialect: str) -> list[str]:
    """SQL that creates the tables without rows; empty for MySQL, whose servers differ too much."""
    file = Path(__file__).with_name(f"pinned_schema.{dialect}.sql")
    if not file.is_file():
        return []
    _comment, *found = file.read_text(encoding="utf-8").split("\n\n")
    return found
