"""Stage 6: a project with the wanted content exists under the service account."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from mlflow_ae5_deploy.ae5.models import Project
from mlflow_ae5_deploy.common.errors import StageFailed
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Action, Decision
from mlflow_ae5_deploy.jobs import runner
from mlflow_ae5_deploy.release.compare import Comparison, same_content
from mlflow_ae5_deploy.resources.deployment import DOWN, TOKENS
from mlflow_ae5_deploy.resources.interrupted_upgrade import InterruptedUpgrade, interrupted_upgrade, refuse_to_serve
from mlflow_ae5_deploy.resources.project import keep_archive, remove_project, upload_project
from mlflow_ae5_deploy.resources.restore import (
    CHECK,
    InterruptedRestore,
    checking,
    interrupted_restore,
    look_first,
    refuse_in_use,
    refuse_interrupted_restore,
    servers_of,
)

UPLOAD, REPLACE = "upload", "replace"


@dataclass(frozen=True)
class ProjectState:
    project: Project | None
    recognition: Comparison | None
    half: InterruptedRestore | None = None
    upgraded: InterruptedUpgrade | None = None


class UploadStage:
    number: ClassVar[int] = 6
    name: ClassVar[str] = "upload"
    promise: ClassVar[str] = "a project with the wanted content exists under the service account"

    def observe(self, context: Context) -> ProjectState:
        project = context.cached.project(context.settings.project.name)
        built = context.outputs.built
        upgraded = interrupted_upgrade(context)
        if project is None or built is None:
            return ProjectState(project, None, upgraded=upgraded)
        seen = same_content(context.cached.archive(project), built)
        half = None if seen.same or context.options.recovery is not None else interrupted_restore(context, project)
        if context.options.dry and not seen.same:
            context.cached.expect_gone(project.id)  # what hangs on it goes with it: the forecast of later stages
        return ProjectState(project, seen, half, upgraded)

    def plan(self, state: ProjectState, context: Context) -> Decision:
        desired = context.options.recovery
        refuse_to_serve(state.upgraded, desired, self.number)
        decision = self._decide(state, context)
        if state.upgraded is None or desired is not None:
            return decision
        return replace(decision, warnings=(*decision.warnings, state.upgraded.warning))

    def _decide(self, state: ProjectState, context: Context) -> Decision:
        name = context.settings.project.name
        if state.project is None:
            return Decision.do(Action(UPLOAD, f"project {name}", f"`{context.account}` has no project of this name"))
        if state.recognition is None:
            return Decision.do(Action("compare", f"project {name}", "possible once the archive is built"))
        if state.recognition.same:
            return Decision.nothing(f"project {name} is up to date: {_lower(state.recognition.reason)}")
        refuse_interrupted_restore(state.half, self.number)  # a restore at work is a job of this project
        return Decision.do(
            *self._before(state.project, context),
            Action(
                REPLACE,
                f"project {name}",
                _lower(state.recognition.reason),
                consequences=(
                    DOWN,
                    TOKENS,
                    "runs of its jobs are stopped; sharing and the scheduled jobs are made again by stages 13 and 14",
                    "AE5 cannot replace a project's content, so the project is deleted and uploaded again; "
                    "its former archive is kept on this machine first",
                    "data under data/ is kept only where the platform mounts a persistent volume there",
                ),
            ),
        )

    def _before(self, project: Project, context: Context) -> list[Action]:
        desired = context.options.recovery
        servers = servers_of(context) if desired is not None else ()
        if desired is None or not (servers or desired.undo):
            return []
        refuse_in_use(desired, servers)
        return [checking(desired)] if runner.knows(context, project, "Restore") else []

    def apply(self, action: Action, state: ProjectState, context: Context) -> None:
        desired = context.options.recovery
        if action.verb == CHECK and state.project is not None and desired is not None:
            look_first(context, state.project, desired, replaced=True)
            return
        if action.verb == REPLACE and state.project is not None:
            if desired is None:
                context.memory.forget_begun_recovery()  # it was looked for, and is not so
            context.outputs.taken_down = desired is not None and bool(servers_of(context))
            keep_archive(context, state.project)
            remove_project(context, state.project)
        built = context.outputs.built
        if built is None:
            raise StageFailed("There is no archive to upload.", stage=self.number)
        upload_project(
            context, context.settings.project.name, built.path, lambda archive: same_content(archive, built).same
        )

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
