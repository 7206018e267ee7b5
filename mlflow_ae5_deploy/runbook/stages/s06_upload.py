"""Stage 6: a project with the wanted content exists under the service account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlflow_ae5_deploy.clock import Deadline, poll_until
from mlflow_ae5_deploy.errors import Conflict, DeadlineExceeded, StageFailed
from mlflow_ae5_deploy.platform.records import Project
from mlflow_ae5_deploy.release.recognise import Recognition, same_content
from mlflow_ae5_deploy.release.slipstream import BuiltArchive
from mlflow_ae5_deploy.runbook.context import Context
from mlflow_ae5_deploy.runbook.files import write_private
from mlflow_ae5_deploy.runbook.model import Action, Decision

UPLOAD, REPLACE = "upload", "replace"


@dataclass(frozen=True)
class Facts:
    project: Project | None
    recognition: Recognition | None


class Upload:
    number: ClassVar[int] = 6
    name: ClassVar[str] = "upload"
    promise: ClassVar[str] = "a project with the wanted content exists under the service account"

    def observe(self, context: Context) -> Facts:
        project = context.look.project(context.settings.project.name)
        built = context.found.built
        if project is None or built is None:
            return Facts(project, None)
        seen = same_content(context.look.archive(project), built)
        if context.wishes.dry and not seen.same:
            context.look.expect_gone(project.id)  # what hangs on it goes with it: the forecast of later stages
        return Facts(project, seen)

    def plan(self, facts: Facts, context: Context) -> Decision:
        name = context.settings.project.name
        if facts.project is None:
            return Decision.do(Action(UPLOAD, f"project {name}", f"`{context.account}` has no project of this name"))
        if facts.recognition is None:
            return Decision.do(Action("compare", f"project {name}", "possible once the archive is built"))
        if facts.recognition.same:
            return Decision.nothing(f"project {name} is up to date: {_lower(facts.recognition.reason)}")
        return Decision.do(
            Action(
                REPLACE,
                f"project {name}",
                _lower(facts.recognition.reason),
                consequences=(
                    "the server is down until stage 8 has started it again",
                    "the deployment gets a new id: every token issued so far is void, stages 11 and 12 issue a new one",
                    "sharing and the garbage collection job are made again by stages 13 and 14",
                    "AE5 cannot replace a project's content, so the project is deleted and uploaded again; "
                    "its former archive is kept on this machine first",
                    "data under data/ is kept only where the platform mounts a persistent volume there",
                ),
            )
        )

    def apply(self, action: Action, facts: Facts, context: Context) -> None:
        if action.verb == REPLACE and facts.project is not None:
            self._remove(facts.project, context)
        built = context.found.built
        if built is None:
            raise StageFailed("There is no archive to upload.", stage=self.number)
        project = self._upload(built, context)
        context.journal.write("effect", action="upload", target=project.name, id=project.id)
        context.look.forget("projects", "archive", "revisions")

    def _upload(self, built: BuiltArchive, context: Context) -> Project:
        name = context.settings.project.name
        try:
            return context.platform.upload(name, built.path, tag=None)
        except Conflict as error:
            clash = error
        # A run that was cut off may have uploaded it a moment ago, and the list not have shown it.
        project = self._shows_up(name, context)
        if project is not None and same_content(context.platform.download_archive(project.id), built).same:
            return project
        raise Conflict(
            f"The platform refuses a second project named `{name}`: {clash.what}",
            where=clash.where,
            remedy="A project of that name exists and is not visible to this account, or was made a moment ago. "
            "Run this again; if it stays so, choose another project.name.",
            status=clash.status,
        )

    def _shows_up(self, name: str, context: Context) -> Project | None:
        try:
            return poll_until(
                lambda: context.platform.project(context.account, name),
                waiting_for=f"project {name} to be listed",
                deadline=Deadline(context.clock, context.settings.platform.lost_answer_deadline),
                on_wait=context.on_wait,
            )
        except DeadlineExceeded:
            return None

    def _remove(self, project: Project, context: Context) -> None:
        """Keep the archive, then take down what hangs on the project, then the project."""
        kept = context.folder / "replaced" / f"{context.clock.now():%Y%m%dT%H%M%SZ}-{project.id}.tar.gz"
        write_private(kept, context.look.archive(project))
        context.found.kept_archives.append(kept)
        context.journal.write("effect", action="keep", target=str(kept), id=project.id)
        for job in [j for j in context.look.jobs() if j.project_id == project.id]:
            for run in [r for r in context.platform.runs(job.id) if r.is_active]:
                context.platform.stop_run(run.id)
            context.platform.delete_job(job.id)
            context.journal.write("effect", action="delete", target=f"job {job.name}", id=job.id)
        for deployment in [d for d in context.look.deployments() if d.project_id == project.id]:
            context.platform.stop_deployment(deployment.id)
            context.journal.write("effect", action="stop", target=f"deployment {deployment.name}", id=deployment.id)
        context.memory.forget_token()
        context.platform.delete_project(project.id)
        context.journal.write("effect", action="delete", target=f"project {project.name}", id=project.id)
        context.look.forget()

    def verify(self, context: Context) -> str | None:
        project, built = context.look.project(context.settings.project.name), context.found.built
        if project is None or built is None:
            raise StageFailed("The uploaded project is not in the account's list.", stage=self.number)
        seen = same_content(context.look.archive(project), built)
        if not seen.same:
            raise StageFailed(
                f"The platform does not return the content that was uploaded: {_lower(seen.reason)}.", stage=self.number
            )
        return f"project {project.name} ({project.id}) holds the uploaded content, read back and compared"


def _lower(sentence: str) -> str:
    """A sentence as a part of a longer one."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")
