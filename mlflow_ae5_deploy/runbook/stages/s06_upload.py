"""Stage 6: a project with the desired content exists under the service account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlflow_ae5_deploy.ae5.models import Project
from mlflow_ae5_deploy.common.errors import StageFailed
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange, Stage
from mlflow_ae5_deploy.release.provenance import Comparison, has_content, same_content
from mlflow_ae5_deploy.resources import before_replacing, other_schedules, server_secrets
from mlflow_ae5_deploy.resources.before_replacing import DataState
from mlflow_ae5_deploy.resources.project import (
    CompareProject,
    ReplaceProject,
    UploadProject,
    keep_archive,
    remove_project,
    replacing,
    upload_project,
)
from mlflow_ae5_deploy.resources.restore import CheckRestore
from mlflow_ae5_deploy.resources.secrets import setting


@dataclass(frozen=True)
class ProjectState:
    name: str
    project: Project | None
    comparison: Comparison | None  # None until there is both a project and an archive
    data: DataState = field(default_factory=DataState)


class UploadStage(Stage[ProjectState]):
    number = 6
    name = "upload"

    def observe(self, context: Context) -> ProjectState:
        name, built = context.settings.project.name, context.outputs.built
        project, comparison = context.cached.project(name), None
        if project is not None and built is not None:
            comparison = same_content(context.cached.archive(project), built)
        differs = comparison is not None and not comparison.same
        data = before_replacing.observe(context, project if differs else None)
        return ProjectState(name, project, comparison, data)

    def check(self, state: ProjectState, context: Context) -> None:
        before_replacing.check(state.data, self.number)
        if any(isinstance(change, ReplaceProject) for change in self.diff(state).changes):
            before_replacing.check_later_stages(context)

    def diff(self, state: ProjectState) -> Diff:
        name, warnings = state.name, state.data.warnings
        if state.project is None:
            return Changes((UploadProject(name=name, reason="it does not exist"),), warnings)
        if state.comparison is None:
            return Changes((CompareProject(name=name, reason="possible once the archive is built"),), warnings)
        if state.comparison.same:
            return NoChange(f"project {name} has the desired content: {state.comparison.reason}", warnings)
        return Changes((*state.data.checks, _replacement(state.project, state.comparison, state.data)), warnings)

    def assume(self, changes: Sequence[Change], state: ProjectState, context: Context) -> None:
        """What hangs on a project that is replaced goes with it."""
        if state.project is not None and any(isinstance(change, ReplaceProject) for change in changes):
            context.cached.hide_project(state.project.id)

    def consent_ahead(self, changes: Sequence[Change], context: Context) -> Sequence[Change]:
        if not any(isinstance(change, ReplaceProject) for change in changes):
            return ()
        later = (*setting(server_secrets.observe(context)), *other_schedules.earlier_deletions(context))
        return [change for change in later if change.needs_consent]

    def apply(self, change: Change, state: ProjectState, context: Context) -> None:
        project = state.project
        match change:
            case UploadProject() | CompareProject():
                self._upload(context)
            case ReplaceProject() if project is not None:
                before_replacing.note_removal(context, state.data)
                keep_archive(context, project)
                remove_project(context, project)
                self._upload(context)
            case CheckRestore() if project is not None:
                before_replacing.check_restore(context, project, state.data)
            case _:
                raise AssertionError(change)

    def _upload(self, context: Context) -> None:
        built = context.outputs.built
        if built is None:
            raise StageFailed("There is no archive to upload.", stage=self.number)
        name = context.settings.project.name
        upload_project(context, name, built.path, lambda archive: has_content(archive, built))

    def verify(self, context: Context) -> str | None:
        project, built = context.cached.project(context.settings.project.name), context.outputs.built
        if project is None or built is None:
            raise StageFailed("The uploaded project is not in the account's list.", stage=self.number)
        seen = same_content(context.cached.archive(project), built)
        if not seen.same:
            raise StageFailed(
                "The project read back from the platform is not the one uploaded.",
                stage=self.number,
                detail="\n".join(
                    text for text in (seen.reason, *_replacement(project, seen, DataState()).lines) if text
                ),
            )
        return None


def _replacement(project: Project, seen: Comparison, data: DataState) -> ReplaceProject:
    return ReplaceProject(
        name=project.name,
        id=project.id,
        reason=seen.reason,
        release=seen.release_change,
        differences=(*seen.differences, *data.differences),
        consequences=(*data.consequences, *replacing(data.server)),
    )
