"""The facts an install or plan ends with; one shape for both renderings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.engine.stage import RunResult, StageResult
from mlflow_ae5_deploy.render.env import CERTIFICATE

SCHEMA = 1


@dataclass(frozen=True)
class Installed:
    """Where the server is and how a client reaches it. ca_file: set where the platform has a CA of its own. key_file:
    of MLflow's keys, where there is one."""

    host: str
    account: str
    project: str
    deployment: str
    deployment_id: str | None
    url: str | None
    ca_file: str | None
    kept_archives: tuple[str, ...] = ()
    key_file: str | None = None

    def client_environment(self) -> dict[str, str]:
        """Variables an MLflow client needs besides MLFLOW_TRACKING_TOKEN; empty while there is no URL."""
        if not self.url:
            return {}
        found = {"MLFLOW_TRACKING_URI": self.url, "MLFLOW_REGISTRY_URI": self.url}
        if self.ca_file:
            found[CERTIFICATE] = self.ca_file
        return found


def error_data(error: DeployError) -> dict[str, Any]:
    return {
        "kind": error.kind,
        "what": error.what,
        "where": error.where,
        "remedy": error.remedy,
        "detail": error.detail,
        "exit_code": error.exit_code,
    }


def run_data(verb: str, result: RunResult, installed: Installed, next_steps: list[str]) -> dict[str, Any]:
    """JSON of `install` and `plan`. Stage outcomes: unchanged, changed, planned, declined, failed."""
    return {
        "schema": SCHEMA,
        "verb": verb,
        "outcome": outcome_of(result),
        "installation": asdict(installed),
        "client": installed.client_environment(),
        "stages": [_stage(stage) for stage in result.stages],
        "error": error_data(result.error) if result.error else None,
        "requests": result.requests,
        "writes": result.writes,
        "seconds": round(result.seconds, 3),
        "next": next_steps,
    }


def outcome_of(result: RunResult) -> str:
    if result.error is not None:
        return "failed"
    if result.pending:
        return "changes pending"
    return "changed" if result.changed else "unchanged"


def _stage(stage: StageResult) -> dict[str, Any]:
    return {
        "number": stage.number,
        "name": stage.name,
        "outcome": stage.outcome,
        "reason": stage.reason,
        "changes": [change.data() for change in stage.changes],
        "warnings": list(stage.warnings),
        "seconds": round(stage.seconds, 3),
    }
