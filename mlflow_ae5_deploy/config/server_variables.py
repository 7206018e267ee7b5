"""Variables of MLflow for the server: what is refused, and what needs another one.

The source is mlflow_ae5_server/server/variables.json of the project template; a test compares.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

_ASSISTANT = "MLflow's assistant would run commands of clients on the server, with the secrets of the service account"
_LOGIN = "AE5 authenticates every request, and this server has no login of its own"
_WORKERS = "this server starts its workers itself, see MLFLOW_WORKERS"
REFUSED = {
    "MLFLOW_ENABLE_REMOTE_ASSISTANT": _ASSISTANT,
    "MLFLOW_ARTIFACTS_ONLY": "this server always serves runs and models",
    "MLFLOW_AUTH_CONFIG_PATH": _LOGIN,
    "MLFLOW_AUTH_ADMIN_USERNAME": _LOGIN,
    "MLFLOW_AUTH_ADMIN_PASSWORD": _LOGIN,
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "it switches off MLflow's checks of hosts and origins",
    "MLFLOW_WORKSPACE_STORE_URI": "no backup contains a separate store of workspaces",
    "MLFLOW_STATIC_PREFIX": "AE5 gives the prefix to the server",
    "MLFLOW_EXPOSE_PROMETHEUS": "this server has its own metrics, see MLFLOW_TRACKING_METRICS",
    "MLFLOW_GUNICORN_OPTS": _WORKERS,
    "MLFLOW_UVICORN_OPTS": _WORKERS,
}
NEEDS = {
    "MLFLOW_TRACE_ARCHIVAL_CONFIG": "a job archives traces",
    "MLFLOW_SQL_TRACE_ROLLUPS_ENABLED": "a job computes rollups",
    "MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS": "scorers run as jobs",
}
JOBS = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"
PERIODIC = "MLFLOW_SERVER_JOB_ENABLE_PERIODIC_TASKS"
FLAGS = frozenset(
    {
        *(JOBS, PERIODIC, "MLFLOW_ENABLE_WORKSPACES", "MLFLOW_ENABLE_AI_GATEWAY", "MLFLOW_SQL_TRACE_ROLLUPS_ENABLED"),
        *("MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS"),
        *("MLFLOW_GATEWAY_API_BASE_ALLOW_PRIVATE_IPS", "MLFLOW_ICON_URL_ALLOW_PRIVATE_IPS"),
        *("MLFLOW_ENABLE_MCP_TOOL_DISCOVERY", "MLFLOW_RBAC_SEED_DEFAULT_ROLES", "MLFLOW_SERVER_ENABLE_GRAPHQL_AUTH"),
    }
)
"""MLflow reads them as true, false, 1 or 0, and fails at any other value."""
_OFF = frozenset({"", "0", "false", "no", "off", "unset"})


def refusal_of(name: str) -> str:
    """Why this variable cannot be used at all; empty if it can."""
    return f"is not supported: {REFUSED[name]}" if name in REFUSED else ""


def problem_of(name: str, value: str) -> str:
    """Why this variable cannot be set to this value; empty if it can."""
    if _is_on(value) and (refusal := refusal_of(name)):
        return refusal
    if name in FLAGS and value.strip().lower() not in {"true", "false", "1", "0", "unset"}:
        return "must be 'true' or 'false'"
    return ""


def contradictions(
    variables: Mapping[str, str], defaults: Mapping[str, str], secrets: Container[str]
) -> Iterator[tuple[str, str]]:
    """(variable, problem) of those that lack another one.

    defaults: of the project's variables. secrets: names whose values are not known here.
    """
    values = {**defaults, **variables}
    if JOBS in secrets or PERIODIC in secrets or _is_on(values.get(JOBS, "")):
        return
    if values.get(PERIODIC, "").strip().lower() in _OFF - {"", "unset"}:
        return
    for name, why in NEEDS.items():
        if name not in secrets and _is_on(values.get(name, "")):
            yield name, f"has no effect without {JOBS}: {why}"


def _is_on(value: str) -> bool:
    return value.strip().lower() not in _OFF
