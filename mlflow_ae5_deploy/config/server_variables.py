"""Variables of MLflow for the server: what is refused, and what needs another one.

The source is mlflow_ae5_server/server/variables.json of the project template; a test compares.
"""

from __future__ import annotations

import re
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
_FLAG = ("true|false|1|0|yes|no|on|off", "'true' or 'false'")
OWN = {
    "MLFLOW_WORKERS": ("auto|0*([1-9]|[1-5][0-9]|6[0-4])", "'auto' or a number from 1 to 64"),
    "MLFLOW_TRACKING_DATABASE_WAIT": (r"[0-9]+(\.[0-9]*)?|\.[0-9]+", "a number of seconds"),
    "MLFLOW_TRACKING_GC_ORPHANS": ("ignore|show|remove|remove-all", "ignore, show, remove or remove-all"),
    "MLFLOW_TRACKING_METRICS": _FLAG,
    "MLFLOW_TRACKING_GC_DRY_RUN": _FLAG,
    "MLFLOW_TRACKING_GC_INCLUDE_REGISTERED": _FLAG,
    "MLFLOW_TRACKING_UPGRADE_DRY_RUN": _FLAG,
    "MLFLOW_TRACKING_UPGRADE_REHEARSE": _FLAG,
}
"""Variables that the server project itself reads: the pattern of a value, and what it is in words."""
_OFF = frozenset({"", "0", "false", "no", "off", "unset"})


def refusal_of(name: str) -> str:
    """Why this variable cannot be used at all; empty if it can."""
    return f"is not supported: {REFUSED[name]}" if name in REFUSED else ""


def problem_of(name: str, value: str) -> str:
    """Why this variable cannot be set to this value; empty if it can."""
    if _is_on(value) and (refusal := refusal_of(name)):
        return refusal
    text = value.strip().lower()
    if text == "unset" or not name.startswith("MLFLOW_"):
        return ""
    if name in OWN:
        pattern, words = OWN[name]
        return "" if not text or re.fullmatch(pattern, text) else f"must be {words}"
    from mlflow_ae5_deploy.config import mlflow_variables  # only some configurations need it

    if name in mlflow_variables.BOOLEAN and text not in {"true", "false", "1", "0"}:
        return "must be 'true' or 'false'"
    if text and name in mlflow_variables.INTEGER and not _is_read(int, text):
        return "must be a whole number"
    if text and name in mlflow_variables.NUMBER and not _is_read(float, text):
        return "must be a number"
    return ""


def _is_read(kind: type[int] | type[float], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def meant(name: str) -> str:
    """The variable of MLflow or of the bundled server that this name, which is none, may be meant for; or nothing."""
    from mlflow_ae5_deploy.config import mlflow_variables

    names = mlflow_variables.BOOLEAN | mlflow_variables.INTEGER | mlflow_variables.NUMBER | mlflow_variables.TEXT
    if not name.startswith("MLFLOW_") or name in names:
        return ""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, names, n=1, cutoff=0.9)), "")


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
