"""What going forward and going back have in common: stopping, the last stages, sharing, schedules, the proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlflow_ae5_deploy.ae5.models import Project
from mlflow_ae5_deploy.common.errors import DeployError, StageFailed
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import RunResult
from mlflow_ae5_deploy.engine.stage import AnyStage
from mlflow_ae5_deploy.jobs import other_machines
from mlflow_ae5_deploy.jobs.runner import command_of
from mlflow_ae5_deploy.jobs.spec import JobSpec
from mlflow_ae5_deploy.operations import restart
from mlflow_ae5_deploy.operations.upgrade.state import UpgradeState
from mlflow_ae5_deploy.operations.verify import Check, Verification, require, verify
from mlflow_ae5_deploy.resources import scheduled_job
from mlflow_ae5_deploy.resources.current_deployment import chosen_of
from mlflow_ae5_deploy.resources.deployment import STOPPED, stop


@dataclass(frozen=True)
class UpgradeContext:
    """run: runs stages and shows them. tell: one line about what is done now. wait: seconds a job may take."""

    stages: Sequence[AnyStage]
    run: Callable[[Sequence[AnyStage]], RunResult]
    tell: Callable[[str], None]
    on_check: Callable[[Check], None]
    wait: float


def stop_servers(context: Context) -> None:
    """Every deployment of the project: none may run on data that is changed."""
    context.cached.forget("deployments", "endpoints")
    chosen = chosen_of(context)
    if project := context.cached.project(context.settings.project.name):
        other_machines.refuse_meanwhile(context, project)
    for server in (chosen.current, *chosen.duplicates):
        if server is not None:
            context.state.forget_token()
            stop(context, server)
    context.outputs.no_server = STOPPED


def run_stages(crew: UpgradeContext, first: int) -> None:
    result = crew.run([stage for stage in crew.stages if stage.number >= first])
    if result.error is not None:
        raise result.error


def share_as_before(context: Context, record: UpgradeState) -> None:
    deployment = context.outputs.deployment
    if deployment is not None and record.definition is not None:
        restart.share_again(context, deployment, record.definition)


def jobs_of(context: Context, project: Project) -> tuple[tuple[str, str, str, bool], ...]:
    """The scheduled backup and drill. They have no variables, so there is nothing else to remember of them."""
    names = {command_of(context.settings, command) for command in ("Backup", "Drill")}
    return tuple(
        (job.name, job.command, job.schedule, scheduled_job.is_paused(job))
        for job in context.cached.jobs()
        if job.project_id == project.id and job.schedule and job.command in names and not job.variables
    )


def schedule_as_before(context: Context, record: UpgradeState, project: Project) -> None:
    known = {command.id for command in context.cached.revisions(project)[0].commands}
    profile = context.settings.backup.resource_profile
    for name, command, cron, paused in record.jobs:
        purpose = "drill" if "Drill" in command else "backup"
        desired = JobSpec(name, command, cron, (), profile, purpose=purpose, section="backup", alone=False)
        there = scheduled_job.jobs_for(context.cached.jobs(), project, desired)
        if not there and command in known:
            there = [scheduled_job.create(project, desired, context)]
        for job in there:
            if paused and not scheduled_job.is_paused(job):
                scheduled_job.pause(job, context, purpose)


def prove(context: Context, crew: UpgradeContext) -> Verification:
    """`verify`, with a token that this run has at hand. Raises VerificationFailed."""
    deployment = context.outputs.deployment
    if deployment is None or not deployment.url:
        raise StageFailed("There is no server to verify.", stage=8)
    token = context.token_for(deployment.id)
    outcome = verify(context, deployment.url.rstrip("/"), token, crew.on_check)
    require(outcome)
    return outcome


def detail_of(error: DeployError) -> str:
    suffix = f" ({error.where})" if error.where else ""
    return "\n".join(text for text in (f"{error.what}{suffix}", error.detail) if text)
