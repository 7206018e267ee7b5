"""Run one job for `backup`, `drill` or `restore --list-saved`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_ae5_deploy.cli.context import writing
from mlflow_ae5_deploy.cli.options import WriteOptions
from mlflow_ae5_deploy.common.errors import EXIT_DONE, DeployError

if TYPE_CHECKING:
    from mlflow_ae5_deploy.jobs.result import JobResult
    from mlflow_ae5_deploy.jobs.tasks import JobRequest


def run_task(
    verb: str,
    task: JobRequest[Any],
    options: WriteOptions,
    *,
    wait: float,
    new_repository: bool = False,
    recorded_as: str = "",
) -> int:
    """recorded_as: in the journal, where that is not just the verb."""
    from mlflow_ae5_deploy.jobs import job_errors
    from mlflow_ae5_deploy.operations import backup
    from mlflow_ae5_deploy.render.backup import run_data, show, show_none
    from mlflow_ae5_deploy.resources.interrupted import refuse_backup_during_upgrade

    reporter = options.reporter
    job_result: JobResult[Any] | None = None
    try:
        with writing(options, recorded_as or verb) as context:
            reporter.doing(task.purpose)
            refuse_backup_during_upgrade(context, task)
            job_result = backup.run(context, task, seconds=wait, new_repository=new_repository)
            if backup.none_yet(context, job_result):
                show_none(reporter, job_result)
            else:
                if job_result.succeeded:
                    show(reporter, job_result, context.clock.now())
                job_errors.require(task, job_result)
    except DeployError as error:
        if job_result is not None:
            error.document |= run_data(job_result, context.outputs.warnings)
        raise
    reporter.document(verb, **run_data(job_result, context.outputs.warnings))
    return EXIT_DONE
