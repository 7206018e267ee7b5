"""Restore the data in a rollback: find the snapshot and a job, and run it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from mlflow_ae5_deploy.ae5.models import Project
from mlflow_ae5_deploy.common.errors import NotFound, StageFailed
from mlflow_ae5_deploy.jobs import job_errors, runner, tasks
from mlflow_ae5_deploy.jobs.contract import NOT_FOUND, USAGE
from mlflow_ae5_deploy.jobs.reports import RestoreReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.operations import backup
from mlflow_ae5_deploy.operations.upgrade.shared import UpgradeRun
from mlflow_ae5_deploy.release.archive import read_project_archive
from mlflow_ae5_deploy.resources import backup_destination


@dataclass(frozen=True)
class RestoreSource:
    needed: bool = False  # the data is not as it was
    seen: bool = False  # a job has just seen the snapshot
    here: bool = True  # the present project can restore it; else the previous one is uploaded first


def observe(run: UpgradeRun) -> RestoreSource:
    """Before a server is stopped or a project deleted.

    Raises NotFound where the snapshot is gone, and StageFailed where no job could restore it.
    """
    context, record = run.context, run.record
    if not record.schema_touched or record.restored:
        return RestoreSource()
    if record.snapshot is None:
        raise StageFailed("The record of the upgrade names no snapshot.", stage=7, where=str(context.folders.state))
    project = context.cached.project(context.settings.project.name)
    if project is not None and _sees_snapshot(run, project):
        return RestoreSource(needed=True, seen=True)
    if project is not None and project.id in (record.project_id, record.restored_project):
        return RestoreSource(needed=True)
    _require_previous(run)
    return RestoreSource(needed=True, here=False)


def _sees_snapshot(run: UpgradeRun, project: Project) -> bool:
    """False if this project has no such command, or its jobs do not start."""
    context, record = run.context, run.record
    if not runner.knows(context, project, "Backup"):
        return False
    run.report(f"find snapshot {record.snapshot}")
    task = tasks.backup("show", "--snapshot", str(record.snapshot))
    result = backup.run(context, task, seconds=run.wait, project=project)
    if not result.report.data:
        run.report(f"the jobs of the present project do not run ({result.message})")
        return False
    if result.exit_code == NOT_FOUND:
        raise NotFound(
            f"Snapshot {record.snapshot}, which the rollback needs, is not in the backup repository.",
            where=backup_destination.shown(context),
            remedy="Check that the destination is the right one and mounted (`backup list`), then run "
            "`upgrade --roll-back`. If the snapshot is lost, restore another one: `restore --snapshot ID --release "
            f"{shlex.quote(record.archive)} --replace --stop-server`.",
        )
    job_errors.require(task, result)
    return True


def _require_previous(run: UpgradeRun) -> None:
    archive, command = Path(run.record.archive), runner.command_of(run.context.settings, "Restore")
    if archive.is_file() and command in read_project_archive(archive).commands:
        return
    why = f"has no command `{command}`" if archive.is_file() else "is no longer on this machine"
    raise StageFailed(
        f"Nothing can restore the data: jobs of the new release do not run, and the previous archive {why}.",
        stage=7,
        where=str(archive),
        remedy=f"Use a release that runs here: `restore --snapshot {run.record.snapshot} --release bundled --replace`.",
    )


def restore(run: UpgradeRun, project: Project) -> None:
    """Restore the snapshot by a job of `project`. Unchanged artifacts stay."""
    context, snapshot = run.context, str(run.record.snapshot)
    run.report(f"restore snapshot {snapshot}")

    def restored(result: JobResult[RestoreReport]) -> None:
        run.note(restored=True, saved_copy=result.report.saved_copy)
        context.journal.effect("restore", "snapshot", snapshot)

    def attempt(*more: str, accept_ended: bool) -> tuple[tasks.JobRequest[RestoreReport], JobResult[RestoreReport]]:
        task = tasks.restore("--snapshot", snapshot, "--replace", "--no-upgrade", *more)
        return task, runner.attempt(
            context, project, task, seconds=run.wait, on_success=restored, accept_ended=accept_ended
        )

    task, result = attempt("--same-artifacts", accept_ended=True)
    if result.exit_code == USAGE:  # the job does not know that option
        task, result = attempt(accept_ended=False)
    job_errors.require(task, result)
    run.report(result.message)
