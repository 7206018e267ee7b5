"""The log of the server or of a job's run: find it, read it, follow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlflow_ae5_deploy.ae5.models import Deployment, DeploymentLogs, Project, Run
from mlflow_ae5_deploy.common.errors import NotFound
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.jobs import saved_logs
from mlflow_ae5_deploy.jobs.logs import OnLine, follow_deployment, follow_run, read_log
from mlflow_ae5_deploy.jobs.result import read_any_result
from mlflow_ae5_deploy.jobs.saved_logs import SavedRun
from mlflow_ae5_deploy.resources.current_deployment import required_deployment
from mlflow_ae5_deploy.resources.job_specs import TASKS

PARTS = ("app", "events", "proxy")
_FOLLOWED = 24 * 3600.0  # seconds a run is followed


@dataclass(frozen=True)
class LogSource:
    """What a log is of. part: of a deployment, one of PARTS. saved: of a run that only this machine has a log of."""

    item: Deployment | Run
    part: str = ""
    saved: str | None = None

    @property
    def title(self) -> str:
        item = self.item
        if isinstance(item, Deployment):
            return f"deployment {item.name} ({item.id}), {item.state}, {self.part}"
        return f"run {item.id} of {item.name}, {item.state}" + (
            "; its log was saved on this machine" if self.saved is not None else ""
        )

    def data(self) -> dict[str, Any]:
        item, kind = self.item, "deployment" if isinstance(self.item, Deployment) else "run"
        fields = {"kind": kind, "id": item.id, "name": item.name, "state": item.state}
        return fields | ({"part": self.part} if self.part else {})


def source_of(context: Context, run: str | None, part: str) -> LogSource:
    """run: see run_of; None: the server."""
    if run is None:
        return LogSource(required_deployment(context), part)
    found = run_of(context, run)
    return LogSource(found.run, saved=found.log) if isinstance(found, SavedRun) else LogSource(found)


def read(context: Context, source: LogSource) -> tuple[LogSource, str]:
    """(source, text). A server that has printed nothing yet: the platform's events instead."""
    if source.saved is not None:
        return source, source.saved
    if isinstance(source.item, Run):
        return source, read_log(context, source.item)
    logs = context.platform.logs(source.item.id)
    if source.part == "app" and not logs.app.strip() and logs.events.strip():
        return replace(source, part="events"), logs.events
    return source, part_of(logs, source.part)


def follow(context: Context, source: LogSource, show: OnLine, *, last: int) -> str:
    """Show a log while it grows; return the result of a run when it ends. last: lines of it to begin with."""
    item = source.item
    if isinstance(item, Run):
        ended, text = follow_run(context, item.id, show, seconds=_FOLLOWED, last=last)
        return result_of(ended, text)
    follow_deployment(context, item.id, lambda: part_of(context.platform.logs(item.id), source.part), show, last=last)
    return ""


def result_of(item: Deployment | Run, log: str) -> str:
    """Of a run that has ended, in words; else empty."""
    if not isinstance(item, Run) or item.is_active:
        return ""
    return f"run {item.id}: {read_any_result(item, log).message}"


def part_of(logs: DeploymentLogs, part: str) -> str:
    return {"app": logs.app, "events": logs.events, "proxy": logs.proxy}[part]


def run_of(context: Context, desired: str) -> Run | SavedRun:
    """A run of the project's jobs, on the platform or saved on this machine.

    desired: its id or the beginning of it, `latest`, or `gc` or a kind of TASKS, whose latest run is meant.
    """
    gc, backup = context.settings.gc, context.settings.backup
    names = {"latest": "", "gc": gc.name, **{kind: getattr(backup, task.name) for kind, task in TASKS.items()}}
    if desired not in names:
        run = context.platform.run(desired) or saved_logs.find(context, desired) or _beginning_with(context, desired)
        if run is None:
            raise NotFound(f"There is no run {desired}.", where=desired, remedy="`logs --run latest` shows the newest.")
        return run
    name = names[desired]
    project = context.cached.project(context.settings.project.name)
    runs = [run for run in context.platform.runs() if name in ("", run.name)]
    latest = newest(runs, project, gc.name)
    all_saved = [item for item in saved_logs.saved(context) if name in ("", item.run.name)]
    saved = max(all_saved, key=lambda item: item.run.age_key, default=None)
    if saved is not None and (latest is None or saved.run.age_key > latest.age_key):
        return saved
    if latest is None:
        raise NotFound(
            f"{f'Job {name}' if name else 'No job'} of this project has {'not ' if name else ''}run yet, as far as the "
            "platform and this machine have records.",
            where=context.settings.project.name,
            remedy="Wait for the next scheduled run, or start one: `schedule-gc --run-now`, `backup`.",
        )
    return latest


def _beginning_with(context: Context, start: str) -> Run | SavedRun | None:
    """The one run with such an id: long ids are shown by their beginning."""
    runs: dict[str, Run | SavedRun] = {item.run.id: item for item in saved_logs.saved(context)}
    runs |= {run.id: run for run in context.platform.runs()}
    found = [run for run_id, run in runs.items() if run_id.startswith(start)]
    return found[0] if len(found) == 1 else None


def newest(runs: Sequence[Run], project: Project | None, job: str) -> Run | None:
    """Pure. A run whose record names no project is recognised by the name of its job."""

    def ours(run: Run) -> bool:
        if not run.project_id:
            return run.name == job
        return project is not None and run.project_id == project.id

    return max((run for run in runs if ours(run)), key=lambda run: run.age_key, default=None)
