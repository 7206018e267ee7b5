"""Bringing the data back: whether its snapshot is there, which project's job can restore it, and the restore itself."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow_ae5_deploy.ae5.models import Project
from mlflow_ae5_deploy.common.errors import NotFound, StageFailed
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.jobs import outcomes, runner, tasks
from mlflow_ae5_deploy.operations import backup as snapshots
from mlflow_ae5_deploy.operations.upgrade.shared_steps import UpgradeContext
from mlflow_ae5_deploy.operations.upgrade.state import UpgradeState, note
from mlflow_ae5_deploy.release.archive import read_project_archive
from mlflow_ae5_deploy.resources import backup_destination

_USAGE = 2  # the exit code of a job that does not understand its options


@dataclass(frozen=True)
class RestoreSource:
    """needed: the data is not as it was. seen: a job has just seen the snapshot. here: the project that is there
    restores it; else none of its jobs runs, and the former project is put back first."""

    needed: bool = False
    seen: bool = False
    here: bool = True


def look(context: Context, record: UpgradeState, crew: UpgradeContext) -> RestoreSource:
    """Before a server is stopped or a project is moved. Raises NotFound where the snapshot is gone, and StageFailed
    where no job could restore it."""
    if not record.touched or record.restored:
        return RestoreSource()
    if record.snapshot is None:
        raise StageFailed("No snapshot to go back to was noted.", stage=7, where=str(context.folder))
    project = context.cached.project(context.settings.project.name)
    if project is not None and _sees_it(context, record, project, crew):
        return RestoreSource(needed=True, seen=True)
    if project is not None and project.id in (record.old_project, record.returned):
        return RestoreSource(needed=True)
    _require_previous(context, record)
    return RestoreSource(needed=True, here=False)


def _sees_it(context: Context, record: UpgradeState, project: Project, crew: UpgradeContext) -> bool:
    """False where no job of this project tells: it has no such command, or neither that nor its environment starts."""
    if not runner.knows(context, project, "Backup"):
        return False
    crew.tell(f"snapshot {record.snapshot} is looked for")
    task = tasks.backup("show", "--snapshot", str(record.snapshot))
    job_result = snapshots.carry_out(context, task, seconds=crew.wait, project=project)
    if not job_result.report:
        crew.tell(f"the project that is there does not run its jobs ({job_result.message})")
        return False
    if job_result.exit_code == outcomes.NO_SNAPSHOT:
        raise NotFound(
            f"Snapshot {record.snapshot}, which was to bring the data back, is not in the backup repository.",
            where=backup_destination.shown(context),
            remedy="See that this is the right place, and mounted: `backup list` shows what is there. Then run "
            "`upgrade --roll-back`. If that snapshot is lost, go back to another one: `restore --snapshot ID --release "
            f"{shlex.quote(record.archive)} --replace --stop-server`.",
        )
    runner.require(task, job_result)
    return True


def _require_previous(context: Context, record: UpgradeState) -> None:
    command, archive = runner.command_of(context.settings, "Restore"), Path(record.archive)
    if archive.is_file() and command in read_project_archive(archive).commands:
        return
    why = f"has no command `{command}`" if archive.is_file() else "is not on this machine any more"
    raise StageFailed(
        f"There is no project whose jobs run, and the former release's archive {why}: nothing could restore the data.",
        stage=7,
        where=record.archive,
        remedy=f"Take a release that runs here: `restore --snapshot {record.snapshot} --release bundled --replace`.",
    )


def bring_back(context: Context, record: UpgradeState, project: Project, crew: UpgradeContext) -> UpgradeState:
    """By a job of `project`. Artifacts that are there unchanged stay; a release of before that does not know how moves
    all of them."""
    crew.tell(f"snapshot {record.snapshot} is restored")
    words = ("--snapshot", str(record.snapshot), "--replace", "--no-upgrade")

    def aside(job_result: JobResult) -> str:
        return str(job_result.report.get("saved_copy") or "")

    def restored(job_result: JobResult) -> None:
        note(context, record, restored=True, saved_copy=aside(job_result))
        context.journal.effect("restore", "snapshot", str(record.snapshot))

    def attempt(*more: str, take_ended: bool) -> tuple[tasks.JobRequest, JobResult]:
        task = tasks.restore(*words, *more)
        return task, runner.attempt(
            context, project, task, seconds=crew.wait, on_success=restored, take_ended=take_ended
        )

    task, job_result = attempt("--same-artifacts", take_ended=True)
    if job_result.exit_code == _USAGE:
        task, job_result = attempt(take_ended=False)
    runner.require(task, job_result)
    crew.tell(job_result.message)
    return replace(record, restored=True, saved_copy=aside(job_result))
