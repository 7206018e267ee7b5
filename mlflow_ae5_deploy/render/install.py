"""The result of an install or plan, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.engine.stage import RunResult, StageResult
from mlflow_ae5_deploy.render.console import SCHEMA
from mlflow_ae5_deploy.render.env import CERTIFICATE

if TYPE_CHECKING:
    from mlflow_ae5_deploy.render.console import Reporter


@dataclass(frozen=True)
class Installed:
    """Where the server is and how a client reaches it."""

    host: str
    account: str
    project: str
    deployment: str
    deployment_id: str | None
    url: str | None
    ca_file: str | None
    """Of the platform, where it has a certificate authority of its own."""
    kept_archives: tuple[str, ...] = ()
    key_file: str | None = None
    """Of MLflow's keys, where there is one."""

    def client_environment(self) -> dict[str, str]:
        """Variables an MLflow client needs besides MLFLOW_TRACKING_TOKEN; empty while there is no URL."""
        if not self.url:
            return {}
        certificate = {CERTIFICATE: self.ca_file} if self.ca_file else {}
        return {"MLFLOW_TRACKING_URI": self.url, "MLFLOW_REGISTRY_URI": self.url, **certificate}


def show_run(reporter: Reporter, verb: str, result: RunResult, installed: Installed, next_steps: Sequence[str]) -> None:
    """The summary below the stages."""
    reporter.line()
    reporter.line(_headline(verb, result), style="bold")
    reporter.line()
    counts = f"{result.requests} API calls, {counted(result.writes, 'changes')}"
    rows = [
        ("URL", installed.url or "(assigned when the deployment runs)"),
        ("Deployment", f"{installed.deployment} ({installed.deployment_id or 'none yet'})"),
        ("Project", f"{installed.project}, owned by {installed.account} on {installed.host}"),
        ("To change" if verb == "plan" else "Changed", _names(result, ("changed", "planned"))),
        ("Unchanged", _names(result, ("unchanged",))),
        ("Took", f"{result.seconds:.1f} s ({counts})"),
        *([("Keys", f"{installed.key_file} (keep a copy elsewhere)")] if installed.key_file else []),
        *(("Kept", archive) for archive in installed.kept_archives),
    ]
    for title, text in rows:
        reporter.hanging(f"  {title:<11} ", text)
    if environment := installed.client_environment():
        reporter.line()
        reporter.line("Connect a client")
        for name, value in environment.items():
            here = "   # a file on this machine" if name == CERTIFICATE else ""
            reporter.line(f"  export {name}={value}{here}")
        reporter.line("  export MLFLOW_TRACKING_TOKEN=...   # `env --show-token` below prints one")
    if next_steps:
        reporter.line()
        reporter.line("Next")
        for step in next_steps:
            reporter.line(f"  {step}")


def _headline(verb: str, result: RunResult) -> str:
    if verb == "plan":
        count = sum(1 for stage in result.stages if stage.outcome == "planned")
        return f"{count} of {len(result.stages)} stages would change something." if count else "No changes."
    return "The MLflow tracking server is installed." if result.changed else "Unchanged."


def _names(result: RunResult, outcomes: tuple[str, ...]) -> str:
    names = [stage.name for stage in result.stages if stage.outcome in outcomes]
    if len(names) == len(result.stages):
        return f"all {len(names)} stages"
    return ", ".join(names) or "nothing"


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
