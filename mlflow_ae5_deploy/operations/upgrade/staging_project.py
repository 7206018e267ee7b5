"""A project beside the installed one, with the new release: its jobs see the same secrets and the same volume.

AE5 mounts its volumes into the jobs of every project, and hands an account's secrets to all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mlflow_ae5_deploy.ae5.models import Project
from mlflow_ae5_deploy.common.errors import PlatformError
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import applying
from mlflow_ae5_deploy.jobs import one_off, other_machines
from mlflow_ae5_deploy.jobs.other_machines import REHEARSAL
from mlflow_ae5_deploy.operations.upgrade.plan import built_of
from mlflow_ae5_deploy.release.provenance import same_content
from mlflow_ae5_deploy.resources.project import UploadProject, await_gone, delete_project, upload_project


@contextlib.contextmanager
def beside(context: Context) -> Iterator[Project]:
    """The project is gone afterwards. One that an earlier call has left is taken away first."""
    if left := context.cached.project(side_name(context)):
        other_machines.refuse_meanwhile(context, left)
    remove_left(context)
    built = built_of(context)
    name = side_name(context)
    try:
        uploading = UploadProject(name=name, reason="its jobs are those of the new release")
        with applying(uploading, context.journal):
            project = upload_project(context, name, built.path, lambda archive: same_content(archive, built).same)
        yield project
    except BaseException:
        with contextlib.suppress(PlatformError):  # the first trouble is the one to tell; the next call cleans up
            remove_left(context)
        raise
    remove_left(context)


def side_name(context: Context) -> str:
    return context.settings.project.name + REHEARSAL


def remove_left(context: Context) -> None:
    project = context.cached.project(side_name(context))
    if project is None:
        return
    jobs = [job for job in context.platform.jobs() if job.project_id == project.id]
    runs = [run for run in context.platform.runs() if run.project_id == project.id]
    one_off.stop(context, runs)
    for job in jobs:
        context.platform.delete_job(job.id)
    for run in runs:
        context.platform.delete_run(run.id)
    delete_project(context, project)
    await_gone(context, project)
