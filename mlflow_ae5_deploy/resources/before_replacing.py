"""Preconditions of replacing a project: complete data, a restore that works."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.engine.change import Change, Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context, RestoreRequest
from mlflow_ae5_deploy.engine.records import DeploymentSpec
from mlflow_ae5_deploy.jobs import runner
from mlflow_ae5_deploy.jobs.spec import check_profile
from mlflow_ae5_deploy.resources import other_schedules
from mlflow_ae5_deploy.resources.current_deployment import desired_deployment, drift, select
from mlflow_ae5_deploy.resources.data_at_risk import data_at_risk
from mlflow_ae5_deploy.resources.deployment import check_before_start, new_address
from mlflow_ae5_deploy.resources.interrupted import (
    InterruptedRestore,
    InterruptedUpgrade,
    end_started_restore,
    interrupted_restore,
    interrupted_upgrade,
    refuse_interrupted_restore,
    refuse_partly_migrated,
    servers_of,
)
from mlflow_ae5_deploy.resources.job_specs import scheduled_jobs
from mlflow_ae5_deploy.resources.restore import check_change, check_first, refuse_in_use


@dataclass(frozen=True)
class DataState:
    """The data that the project's server and jobs work on."""

    restore: RestoreRequest | None = None  # that was requested
    _: KW_ONLY
    interrupted_upgrade: InterruptedUpgrade | None = None
    interrupted_restore: InterruptedRestore | None = None
    servers: tuple[Deployment, ...] = ()  # that run on the data which would be restored
    checkable: bool = False  # a job of the present project can report whether it would restore
    files: tuple[Consequence, ...] = ()  # of replacing the project, for data that is in files
    jobs: tuple[Consequence, ...] = ()  # the same for scheduled jobs that are not recreated as they were
    server: Deployment | None = None  # of the project that is to be replaced
    desired: DeploymentSpec | None = None  # of the server that will be started in its place

    @property
    def warnings(self) -> tuple[str, ...]:
        upgrade = self.interrupted_upgrade
        return (upgrade.warning,) if upgrade is not None and self.restore is None else ()

    @property
    def differences(self) -> tuple[str, ...]:
        """Of the present server from the one that will be started with the new project."""
        if self.server is None or self.desired is None:
            return ()
        return drift(self.server, replace(self.desired, revision=self.server.revision)).restart

    @property
    def consequences(self) -> tuple[Consequence, ...]:
        """Consequences of replacing this project, in addition to those of ReplaceProject."""
        restore, found = self.restore, [*self.files, *self.jobs]
        if self.interrupted_upgrade is not None:
            ends = restore is not None and not restore.undo
            found.append(self.interrupted_upgrade.given_up if ends else self.interrupted_upgrade.stays)
        if self.server is not None and self.desired is not None:
            found += new_address(self.server, self.desired.endpoint)
        return tuple(found)

    @property
    def checks(self) -> tuple[Change, ...]:
        """Changes that come before the project's replacement."""
        restore = self.restore
        in_use = restore is not None and (bool(self.servers) or restore.undo)
        return (check_change(restore),) if restore is not None and in_use and self.checkable else ()


def observe(context: Context, project: Project | None) -> DataState:
    """project: that is to be replaced; None where none is."""
    restore, upgrade = context.options.restore, interrupted_upgrade(context.state)
    if project is None:
        return DataState(restore, interrupted_upgrade=upgrade)
    desired = desired_deployment(context)
    server = select(context.cached.deployments(), project, desired).current
    state = DataState(
        restore,
        interrupted_upgrade=upgrade,
        files=data_in_files(context),
        jobs=other_schedules.consequences(context, project),
        server=server,
        desired=desired,
    )
    if restore is None:
        return replace(state, interrupted_restore=interrupted_restore(context, project))  # a job of this project
    servers = servers_of(context)
    checkable = (bool(servers) or restore.undo) and runner.knows(context, project, "Restore")
    return replace(state, servers=servers, checkable=checkable)


def data_in_files(context: Context) -> tuple[Consequence, ...]:
    """What a replaced project may lose."""
    names = [what for what, at_risk in data_at_risk(context).items() if at_risk]
    text = f"lost unless on a persistent volume: {', '.join(names)}"
    return (Consequence(Impact.DATA, text),) if names else ()


def check(state: DataState, stage: int) -> None:
    """Raise StageFailed or TargetInUse where the project must not be replaced."""
    refuse_partly_migrated(state.interrupted_upgrade, state.restore, stage)
    refuse_interrupted_restore(state.interrupted_restore, stage)
    if state.restore is not None:
        refuse_in_use(state.restore, state.servers)


def check_later_stages(context: Context) -> None:
    """Raise what would make stages 8 and 14 fail after the server has been stopped."""
    check_before_start(context, desired_deployment(context), None)
    project = context.cached.project(context.settings.project.name)
    others = other_schedules.kept(context, project) if project is not None else []
    for job in (*scheduled_jobs(context.settings), *others):
        check_profile(context, job.resource_profile, f"{job.section}.resource_profile")


def check_restore(context: Context, project: Project, state: DataState) -> None:
    """Have a job of the project report whether the restore would work."""
    if state.restore is not None:
        check_first(context, project, state.restore, replaced=True)


def note_removal(context: Context, state: DataState) -> None:
    """Just before the project is deleted."""
    if state.restore is None:
        end_started_restore(context.state)  # `check` has seen that none is interrupted
    context.outputs.stopped_server = state.restore is not None and bool(servers_of(context))
