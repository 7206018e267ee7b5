"""A temporary project with the new release, whose jobs see the same data.

AE5 mounts its volumes into the jobs of every project, and gives an account's secrets to all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mlflow_ae5_deploy.ae5.models import Project
from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import applying
from mlflow_ae5_deploy.jobs import one_off, other_machines
from mlflow_ae5_deploy.jobs.other_machines import REHEARSAL
from mlflow_ae5_deploy.operations.upgrade.plan import built_of
from mlflow_ae5_deploy.release.provenance import has_content
from mlflow_ae5_deploy.resources.project import UploadProject, delete_project_and_runs, upload_project


@contextlib.contextmanager
def staging_project(context: Context) -> Iterator[Project]:
    """Upload the project for the body. One of an interrupted run is deleted first."""
    name, built = staging_name(context), built_of(context)
    if left := context.cached.project(name):
        other_machines.refuse_meanwhile(context, left)
    delete_staging_project(context)
    try:
        with applying(UploadProject(name=name, reason="its jobs are those of the new release"), context.journal):
            project = upload_project(context, name, built.path, lambda archive: has_content(archive, built))
        yield project
    except BaseException:
        with contextlib.suppress(DeployError):  # report the first error; the next run cleans up
            delete_staging_project(context)
        raise
    delete_staging_project(context)


def staging_name(context: Context) -> str:
    return context.settings.project.name + REHEARSAL


def delete_staging_project(context: Context) -> None:
    """Nothing happens where there is none."""
    project = context.cached.project(staging_name(context))
    if project is None:
        return
    for job in [job for job in context.platform.jobs() if job.project_id == project.id]:
        one_off.delete_job(context, job)
    delete_project_and_runs(context, project)
