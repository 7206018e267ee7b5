"""Stage 6: a project with the desired content exists under the service account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.common.errors import StageFailed
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context, RestoreRequest
from mlflow_ae5_deploy.engine.plan import Changes, Diff, NoChange
from mlflow_ae5_deploy.engine.stage import Stage
from mlflow_ae5_deploy.jobs import runner
from mlflow_ae5_deploy.release.provenance import Comparison, same_content
from mlflow_ae5_deploy.resources.interrupted_upgrade import InterruptedUpgrade, interrupted_upgrade, refuse_to_serve
from mlflow_ae5_deploy.resources.project import (
    CompareProject,
    ReplaceProject,
    UploadProject,
    keep_archive,
    remove_project,
    upload_project,
)
from mlflow_ae5_deploy.resources.restore import (
    CheckRestore,
    InterruptedRestore,
    checking,
    interrupted_restore,
    look_first,
    refuse_in_use,
    refuse_interrupted_restore,
    servers_of,
)


@dataclass(frozen=True)
class ProjectState:
    """comparison: None until there is both a project and an archive. restore: that was asked for. servers: that serve
    its data. checkable: a job of the project can tell whether it would restore."""

    account: str
    name: str
    project: Project | None
    comparison: Comparison | None
    restore: RestoreRequest | None = None
    servers: tuple[Deployment, ...] = ()
    checkable: bool = False
    interrupted_restore: InterruptedRestore | None = None
    interrupted_upgrade: InterruptedUpgrade | None = None

    @property
    def differs(self) -> bool:
        return self.comparison is not None and not self.comparison.same

    @property
    def restores_into_use(self) -> bool:
        return self.restore is not None and (bool(self.servers) or self.restore.undo)


class UploadStage(Stage[ProjectState]):
    number = 6
    name = "upload"
    promise = "a project with the wanted content exists under the service account"

    def observe(self, context: Context) -> ProjectState:
        name, restore = context.settings.project.name, context.options.recovery
        project, built, upgraded = context.cached.project(name), context.outputs.built, interrupted_upgrade(context)
        if project is None or built is None:
            return ProjectState(context.account, name, project, None, restore, interrupted_upgrade=upgraded)
        comparison = same_content(context.cached.archive(project), built)
        if comparison.same:
            return ProjectState(context.account, name, project, comparison, restore, interrupted_upgrade=upgraded)
        servers = servers_of(context) if restore is not None else ()
        in_use = restore is not None and (bool(servers) or restore.undo)
        return ProjectState(
            context.account,
            name,
            project,
            comparison,
            restore,
            servers,
            in_use and runner.knows(context, project, "Restore"),
            interrupted_restore(context, project) if restore is None else None,
            upgraded,
        )

    def check(self, state: ProjectState, context: Context) -> None:
        refuse_to_serve(state.interrupted_upgrade, state.restore, self.number)
        if state.differs:
            refuse_interrupted_restore(
                state.interrupted_restore, self.number
            )  # a running restore is a job of this project
            if state.restore is not None and state.restores_into_use:
                refuse_in_use(state.restore, state.servers)

    def diff(self, state: ProjectState) -> Diff:
        name, upgraded = state.name, state.interrupted_upgrade
        warnings = (upgraded.warning,) if upgraded is not None and state.restore is None else ()
        if state.project is None:
            reason = f"`{state.account}` has no project of this name"
            return Changes((UploadProject(name=name, reason=reason),), warnings)
        if state.comparison is None:
            return Changes((CompareProject(name=name, reason="possible once the archive is built"),), warnings)
        reason = _lower(state.comparison.reason)
        if state.comparison.same:
            return NoChange(f"project {name} is up to date: {reason}", warnings)
        replace = ReplaceProject(name=name, id=state.project.id, reason=reason)
        if state.restore is not None and state.restores_into_use and state.checkable:
            return Changes((checking(state.restore), replace), warnings)
        return Changes((replace,), warnings)

    def assume(self, changes: Sequence[Change], state: ProjectState, context: Context) -> None:
        """What hangs on a project that is replaced goes with it."""
        if state.project is not None and any(isinstance(change, ReplaceProject) for change in changes):
            context.cached.expect_gone(state.project.id)

    def apply(self, change: Change, state: ProjectState, context: Context) -> None:
        match change:
            case CheckRestore() if state.project is not None and state.restore is not None:
                look_first(context, state.project, state.restore, replaced=True)
            case ReplaceProject() if state.project is not None:
                self._remove(state.project, state.restore, context)
                self._upload(context)
            case _:
                self._upload(context)

    def _remove(self, project: Project, restore: RestoreRequest | None, context: Context) -> None:
        if restore is None:
            context.state.forget_begun_recovery()  # it was looked for, and is not so
        context.outputs.taken_down = restore is not None and bool(servers_of(context))
        keep_archive(context, project)
        remove_project(context, project)

    def _upload(self, context: Context) -> None:
        built = context.outputs.built
        if built is None:
            raise StageFailed("There is no archive to upload.", stage=self.number)
        name = context.settings.project.name
        upload_project(context, name, built.path, lambda archive: same_content(archive, built).same)

    def verify(self, context: Context) -> str | None:
        project, built = context.cached.project(context.settings.project.name), context.outputs.built
        if project is None or built is None:
            raise StageFailed("The uploaded project is not in the account's list.", stage=self.number)
        seen = same_content(context.cached.archive(project), built)
        if not seen.same:
            raise StageFailed(
                f"The platform does not return the content that was uploaded: {_lower(seen.reason)}.", stage=self.number
            )
        return f"project {project.name} ({project.id}) holds the uploaded content, read back and compared"


def _lower(sentence: str) -> str:
    """A sentence as a part of a longer one."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")
