"""Which deployment or run a person means when asking for a log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from mlflow_ae5_deploy.ae5.models import Deployment, DeploymentLogs, Project, Run
from mlflow_ae5_deploy.common.errors import NotFound
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.jobs import saved_logs
from mlflow_ae5_deploy.jobs.saved_logs import SavedRun
from mlflow_ae5_deploy.resources.current_deployment import chosen_of

PARTS = ("app", "events", "proxy")
LATEST = "latest"
_NEVER = datetime.min.replace(tzinfo=UTC)


def deployment_of(context: Context) -> Deployment:
    """The server's deployment, running or not."""
    found = chosen_of(context).current
    if found is None:
        raise NotFound(
            f"`{context.account}` has no deployment `{context.settings.deployment.name}`.",
            where=context.access.target.options.hostname,
            remedy="Run `mlflow-ae5-deploy install` first.",
        )
    return found


def part_of(logs: DeploymentLogs, part: str) -> str:
    return {"app": logs.app, "events": logs.events, "proxy": logs.proxy}[part]


def run_of(context: Context, desired: str) -> Run | SavedRun:
    """A run by its id, or the `latest` one of the project's jobs, be it on record at the platform or only kept here."""
    if desired != LATEST:
        found = context.platform.run(desired) or saved_logs.find(context, desired)
        if found is None:
            raise NotFound(f"There is no run {desired}.", where=desired, remedy="`logs --run latest` takes the newest.")
        return found
    project = context.cached.project(context.settings.project.name)
    latest = newest(context.platform.runs(), project, context.settings.gc.name)
    ours = max(saved_logs.kept(context), key=lambda item: item.run.created or _NEVER, default=None)
    if ours is not None and (latest is None or (ours.run.created or _NEVER) > (latest.created or _NEVER)):
        return ours
    if latest is None:
        raise NotFound(
            "No job of this project has a run on record, and none was asked for from this machine.",
            where=context.settings.project.name,
            remedy="Wait for the next time of its schedule, or start one: `schedule-gc --run-now`.",
        )
    return latest


def newest(runs: Sequence[Run], project: Project | None, job: str) -> Run | None:
    """Pure. Runs whose record names no project are told by the name of their job."""
    ours = [run for run in runs if (project is not None and run.project_id == project.id) or _nameless(run, job)]
    return max(ours, key=lambda run: run.created or _NEVER, default=None)


def _nameless(run: Run, job: str) -> bool:
    return not run.project_id and run.name == job
