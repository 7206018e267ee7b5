"""The result of an install or plan, for people and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.common.variable_names import CERTIFICATE
from mlflow_ae5_deploy.engine.stage import RunResult, StageResult
from mlflow_ae5_deploy.render.console import SCHEMA
from mlflow_ae5_deploy.render.format import Mark
from mlflow_ae5_deploy.resources.project import ReplaceProject

if TYPE_CHECKING:
    from mlflow_ae5_deploy.render.console import Reporter

_ONLY_COPY = (
    "Copy the key file to a safe place, apart from the backups: it is the only copy. Without it, LLM keys and webhook "
    "secrets in a snapshot cannot be read."
)
_COMMENT = "   # "
_BY_DEFAULT = ("MLFLOW_REGISTRY_URI",)  # MLflow takes the tracking server for it


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
    new_keys: bool = False
    """Keys were created in this run, so there is no other copy of the file."""
    downtime_seconds: float | None = None
    """From the stop of the server until the API of the next one was healthy; None where none was stopped."""

    def client_environment(self) -> dict[str, str]:
        """Variables an MLflow client needs besides MLFLOW_TRACKING_TOKEN; empty while there is no URL."""
        if not self.url:
            return {}
        certificate = {CERTIFICATE: self.ca_file} if self.ca_file else {}
        return {"MLFLOW_TRACKING_URI": self.url, "MLFLOW_REGISTRY_URI": self.url, **certificate}


def show_run(
    reporter: Reporter,
    verb: str,
    result: RunResult,
    installed: Installed,
    next_steps: Sequence[str],
    headline: Callable[[], None] | None = None,
    *,
    failed: bool = False,
) -> None:
    """The summary below the stages. headline: shows another one than that of the stages.

    failed: the verification that followed the stages, so that nothing may look done. The error is shown after this.
    """
    if result.changed or result.pending or headline is not None:
        reporter.line()
    if headline is not None:
        headline()
    elif not failed:
        waits = any(stage.only_waits for stage in result.stages)
        reporter.marked(Mark.WARNING if waits else Mark.CHANGE if result.pending else Mark.OK, _headline(verb, result))
    for title, text in _rows(result, installed):
        reporter.hanging(f"  {title:<11} ", text)
    if release := replaced_release(result):
        text = f"The installed release would be replaced: {release}. To keep it, set release.source."
        reporter.marked(Mark.WARNING, text)
    if installed.new_keys:
        reporter.marked(Mark.WARNING, _ONLY_COPY)
    if failed:
        return
    if server_changed(result):
        environment = installed.client_environment()
        exports = [f"export {name}={value}" for name, value in environment.items() if name not in _BY_DEFAULT]
        _show_commands(reporter, "Settings of a client, which also needs a token", exports)
    _show_commands(reporter, "Next", next_steps)


def server_changed(result: RunResult) -> bool:
    """Whether clients need something new."""
    return any(stage.name == "deploy" and stage.outcome == "changed" for stage in result.stages)


def replaced_release(result: RunResult) -> str:
    """`installed → configured` where a plan replaces the release, else empty."""
    changes = (change for stage in result.stages if stage.outcome == "planned" for change in stage.changes)
    return next((change.release for change in changes if isinstance(change, ReplaceProject)), "")


def _rows(result: RunResult, installed: Installed) -> Iterator[tuple[str, str]]:
    if installed.url:
        yield "URL", installed.url
    if result.changed:
        yield "Deployment", f"{installed.deployment} ({installed.deployment_id or 'none yet'})"
        yield "Project", f"{installed.project}, owned by {installed.account} on {installed.host}"
        if installed.key_file:
            yield "Keys", installed.key_file
        for archive in installed.kept_archives:
            yield "Replaced", f"{archive} (the previous project)"
    if installed.downtime_seconds is not None:
        yield "Downtime", f"{installed.downtime_seconds:.1f} s, until the API was healthy again"
    yield "Took", f"{result.seconds:.1f} s ({result.requests} API calls, {counted(result.writes, 'writes')})"


def _show_commands(reporter: Reporter, title: str, commands: Sequence[str]) -> None:
    """Not wrapped, because they are copied: what a command is for is left out where it does not fit."""
    if not commands:
        return
    reporter.line()
    reporter.line(title, style="bold")
    for command in commands:
        fits = len(command) + 2 <= reporter.out.width or not reporter.out.is_terminal
        reporter.copied(f"  {command if fits else command.partition(_COMMENT)[0]}")


def _headline(verb: str, result: RunResult) -> str:
    stages, waits = len(result.stages), [stage for stage in result.stages if stage.only_waits]
    changing = sum(1 for s in result.stages if s.outcome in ("changed", "planned")) - len(waits)
    if verb == "plan":
        server = " The server is not ready: `install` would wait for it." if waits else ""
        if changing:
            return f"{changing} of {stages} stages would change. Nothing was changed yet.{server}"
        return f"No changes.{server}" if waits else f"No changes: all {stages} stages match the configuration."
    if not changing:
        return f"Unchanged: all {stages} stages match the configuration."
    return f"The MLflow tracking server is installed. {changing} of {stages} stages changed."


def error_data(error: DeployError) -> dict[str, Any]:
    return {
        "kind": error.kind,
        "what": error.what,
        "where": error.where,
        "remedy": error.remedy,
        "detail": error.detail,
        "exit_code": error.exit_code,
    }


def run_data(
    verb: str, result: RunResult, installed: Installed, next_steps: list[str], warnings: Sequence[str]
) -> dict[str, Any]:
    """JSON of `install` and `plan`. Stage outcomes: unchanged, changed, planned, declined, failed.

    warnings: of jobs.
    """
    return {
        "schema": SCHEMA,
        "verb": verb,
        "outcome": outcome_of(result),
        "installation": asdict(installed),
        "client": installed.client_environment(),
        "stages": [_stage(stage) for stage in result.stages],
        "warnings": list(warnings),
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
