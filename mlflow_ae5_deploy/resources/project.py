"""Delete a project and upload another: AE5 cannot change its content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.common.errors import Conflict
from mlflow_ae5_deploy.common.files import write_private
from mlflow_ae5_deploy.engine.change import Change, Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.progress import Phase
from mlflow_ae5_deploy.jobs import one_off, other_machines
from mlflow_ae5_deploy.resources import other_schedules
from mlflow_ae5_deploy.resources.deployment import DOWN, STOPPED, TOKENS, restart_consequences, stop

REPLACED = "replaced"  # folder with the archives of replaced projects
_GONE = 120.0  # seconds until a deleted project must be off the list


@dataclass(frozen=True, kw_only=True)
class CompareProject(Change):
    verb, resource = "compare", "project"
    guess: bool = True


class UploadProject(Change):
    verb, resource = "upload", "project"


@dataclass(frozen=True, kw_only=True)
class ReplaceProject(Change):
    """Delete the project, with its deployments and jobs, and upload another."""

    verb, resource = "replace", "project"
    release: str = ""  # `installed → configured`; empty where the release stays
    consequences: tuple[Consequence, ...] = (
        DOWN,
        TOKENS,
        Consequence(Impact.JOBS, "running jobs are stopped; sharing and scheduled jobs are recreated"),
        Consequence(Impact.DATA, "the project is deleted and uploaded again; its archive is saved here first"),
    )

    def record(self) -> dict[str, str]:
        """Without values: the journal outlives them, and is read by more people than the project."""
        names = ", ".join(line.partition(": ")[0] for line in self.lines)
        why = "; ".join(text for text in (self.reason, names and f"differs in {names}") if text)
        return super().record() | {"reason": why}

    @property
    def lines(self) -> tuple[str, ...]:
        return (*((f"release: {self.release}",) if self.release else ()), *self.differences)


def replacing(server: Deployment | None) -> tuple[Consequence, ...]:
    """Consequences of ReplaceProject. server: of the project; where none runs, it cannot go down."""
    ends = restart_consequences(server) if server is not None else ()
    return tuple(item for item in ReplaceProject.consequences if item in ends or item not in (DOWN, TOKENS))


@dataclass(frozen=True, kw_only=True)
class DeleteProject(Change):
    verb, resource = "delete", "project"
    consequences: tuple[Consequence, ...] = (
        Consequence(Impact.DATA, "the project is deleted; its archive is saved on this machine first"),
        Consequence(Impact.ACCESS, "other projects can claim its endpoint"),
    )


def keep_archive(context: Context, project: Project, folder: str = REPLACED) -> Path:
    """Save a copy of the project's content on this machine, unless an interrupted run has."""
    content, saved = context.cached.archive(project), context.folders.state / folder
    earlier = (path for path in sorted(saved.glob(f"*-{project.id}.tar.gz")) if path.read_bytes() == content)
    kept = next(earlier, None)
    if kept is None:
        kept = saved / f"{context.clock.now():%Y%m%dT%H%M%SZ}-{project.id}.tar.gz"
        write_private(kept, content)
        context.journal.effect("save", "archive", str(kept), id=project.id)
    context.outputs.kept_archives.append(kept)
    return kept


def remove_project(context: Context, project: Project) -> None:
    """Delete the project with its jobs and deployments. Save its archive first.

    Raises Locked while another machine has a job running in it.
    """
    other_machines.refuse_meanwhile(context, project)
    other_schedules.record_deletion(context, project)
    for job in [j for j in context.cached.jobs() if j.project_id == project.id]:
        one_off.delete_job(context, job)
    for deployment in [d for d in context.cached.deployments() if d.project_id == project.id]:
        stop(context, deployment)
    context.outputs.no_server = STOPPED
    context.state.invalidate_tokens()
    _delete(context, project)


def delete_project_and_runs(context: Context, project: Project) -> None:
    """Delete a project without jobs, and its run records; wait until its name is free."""
    one_off.delete_runs(context, [run for run in context.platform.runs() if run.project_id == project.id])
    _delete(context, project)
    context.poll(
        lambda: None if any(item.id == project.id for item in context.platform.projects()) else True,
        f"the project {project.name} to be off the list",
        _GONE,
    )


def _delete(context: Context, project: Project) -> None:
    context.platform.delete_project(project.id)
    context.journal.effect("delete", "project", project.name, id=project.id)
    context.cached.forget()


def upload_project(context: Context, name: str, archive: Path, is_it: Callable[[bytes], bool]) -> Project:
    """is_it: whether the archive of a project that exists already has this content."""

    def report(total: int, done: int) -> None:
        if done < total:
            context.progress.phase(Phase("uploading the project", done=done, total=total))
        else:
            context.progress.waiting("the upload to be processed")

    try:
        project = context.platform.upload(name, archive, report)
    except Conflict as error:
        clash = error
        # An interrupted run may have just uploaded it, and the list not have shown it yet.
        shown = context.shows_up(
            lambda: context.platform.project(context.account, name), f"project {name} to be listed"
        )
        if shown is None or not is_it(context.platform.download_archive(shown.id)):
            raise Conflict(
                f"The platform refuses a second project named `{name}`: {clash.what}",
                where=clash.where,
                remedy="Run this again. If the error persists, a project of that name exists that this account cannot "
                "see: choose another project.name.",
                status=clash.status,
            ) from None
        project = shown
    context.journal.effect("upload", "project", project.name, id=project.id)
    context.cached.forget("projects", "archive", "revisions")
    return project
