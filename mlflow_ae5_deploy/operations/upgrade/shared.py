"""One run of an upgrade or of its rollback: what its steps share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from mlflow_ae5_deploy.ae5.models import Project
from mlflow_ae5_deploy.common.errors import DeployError, NotFound, StageFailed
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import UpgradeRecord
from mlflow_ae5_deploy.engine.stage import AnyStage, RunResult
from mlflow_ae5_deploy.jobs import other_machines
from mlflow_ae5_deploy.jobs.reports import UpgradeReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.operations import restart_as_it_was
from mlflow_ae5_deploy.operations.verify import Check, Verification, require
from mlflow_ae5_deploy.operations.verify import verify as verify_server
from mlflow_ae5_deploy.resources.deployment import STOPPED, stop
from mlflow_ae5_deploy.resources.interrupted import servers_of


class UpgradeStep(IntEnum):
    """The steps that a person sees."""

    REHEARSE = 1
    SNAPSHOT = 2
    STOP = 3
    SAVE = 4
    REPLACE = 5
    MIGRATE = 6
    START = 7
    VERIFY = 8


@dataclass
class UpgradeRun:
    context: Context
    stages: Sequence[AnyStage]
    run_stages: Callable[[Sequence[AnyStage], bool], RunResult]  # and show them; with preflight or not
    on_step: Callable[[str, str], None]  # gets what is done now, and `step 3 of 8` or nothing
    on_check: Callable[[Check], None]
    wait: float  # seconds a job may take
    steps: Sequence[UpgradeStep] = tuple(UpgradeStep)  # those of this run

    # what earlier steps have left for later ones
    project: Project | None = None  # that is installed by now
    migration: JobResult[UpgradeReport] | None = None
    verification: Verification | None = None
    downtime: float | None = None  # seconds from the stop of the previous server to the end; None if none ran
    left: DeployError | None = None  # what a stage could not do for which the rest does not wait

    @property
    def record(self) -> UpgradeRecord:
        """The record on disk. Raises NotFound where no upgrade is under way."""
        record = self.context.state.upgrade
        if record is None:
            raise NotFound(
                "No unfinished upgrade is recorded on this machine.",
                where=str(self.context.folders.state),
                remedy="To undo a finished upgrade, restore its snapshot with the previous release: "
                "`restore --snapshot ID --release ARCHIVE --replace --stop-server`.",
            )
        return record

    def report(self, text: str, step: UpgradeStep | None = None) -> None:
        """step: None for a remark, or a step of a rollback."""
        numbered = step in self.steps and len(self.steps) > 1
        self.on_step(text, f"step {self.steps.index(step) + 1} of {len(self.steps)}" if step and numbered else "")

    def note(self, **changes: Any) -> None:
        """On disk before the step that it is about."""
        self.context.state.upgrade = replace(self.record, **changes)
        self.context.state.save()

    def end(self) -> None:
        record = self.record
        if record.definition is not None and record.stopped is not None:
            self.downtime = (self.context.clock.now() - record.stopped).total_seconds()
        self.context.state.upgrade = None
        self.context.state.save()

    def required_project(self) -> Project:
        if self.project is None:
            raise StageFailed("There is no project.", stage=6)
        return self.project

    def run_between(self, first: int, last: int) -> None:
        """Run these stages and all between. Raises what one of them fails with, unless the rest does not wait for it.

        Those after the stop of the server have their preflight before it: see `check_later_stages`.
        """
        result = self.run_stages([stage for stage in self.stages if first <= stage.number <= last], first == 1)
        if result.only_partly:
            self.left = result.error
        elif result.error is not None:
            raise result.error


def forget_stop(run: UpgradeRun) -> None:
    """At the begin of a run that resumes: where a server runs, nobody knows since when there was one again."""
    if run.record.stopped is not None and any(server.is_started for server in servers_of(run.context)):
        run.note(stopped=None)


def stop_servers(context: Context) -> None:
    """Stop every deployment of the project: none may run on data that is changed."""
    context.cached.forget("deployments", "endpoints")
    if project := context.cached.project(context.settings.project.name):
        other_machines.refuse_meanwhile(context, project)
    for server in servers_of(context):
        stop(context, server)
    context.outputs.no_server = STOPPED


def share_as_before(run: UpgradeRun) -> None:
    deployment, definition = run.context.outputs.deployment, run.record.definition
    if deployment is not None and definition is not None:
        restart_as_it_was.share_again(run.context, deployment, definition)


def verify(run: UpgradeRun) -> None:
    """Test the server end to end, with a token of this run. Raises VerificationFailed."""
    context, deployment = run.context, run.context.outputs.deployment
    if deployment is None or not deployment.url:
        raise StageFailed("There is no server to verify.", stage=8)
    run.report("verify the server", UpgradeStep.VERIFY)
    token = context.token_for(deployment.id)
    # A rollback returns to the server as it was, whatever database that used.
    forward = deployment.id if not run.record.failure else None
    url = deployment.url.rstrip("/")
    run.verification = verify_server(context, url, token, run.on_check, deployment_id=forward)
    require(run.verification)
