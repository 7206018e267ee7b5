"""Run a restore as a dry run. The restore itself is stage 7 of the runbook."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlflow_ae5_deploy.ae5.models import Project
from mlflow_ae5_deploy.common.errors import Conflict, NotFound
from mlflow_ae5_deploy.engine.context import Context, RestoreRequest
from mlflow_ae5_deploy.engine.stage import AnyStage, RunResult
from mlflow_ae5_deploy.jobs import job_errors, runner, tasks
from mlflow_ae5_deploy.jobs.reports import RestoreReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.resources import backup_destination, server_secrets
from mlflow_ae5_deploy.resources.current_deployment import match_deployment
from mlflow_ae5_deploy.resources.restore import note_interrupted
from mlflow_ae5_deploy.resources.secrets import MADE

UPLOAD = 6  # the stage after which the job can run


def run(
    context: Context,
    desired: RestoreRequest,
    stages: Sequence[AnyStage],
    run: Callable[[Sequence[AnyStage]], RunResult],
) -> JobResult[RestoreReport]:
    """Report what `restore` would write or bring back, and whether every object is undamaged. Touches no data.

    The job is part of the project, so a missing project is uploaded first: `run` runs stages 1 to 6.
    """
    project = _project(context)
    if project is None:
        refuse_empty_undo(context, desired)
        result = run([stage for stage in stages if stage.number <= UPLOAD])
        if result.error is not None:
            raise result.error
        project = runner.required_project(context)
    runner.require_command(context, project, "Restore")
    _store_missing_secrets(context)
    task = tasks.restore(*desired.job_words, "--dry-run")
    job_result = runner.attempt(context, project, task, seconds=desired.wait)
    note_interrupted(context, project, job_result)
    job_errors.require(task, job_result)
    return job_result


def _project(context: Context) -> Project | None:
    if context.access.has_admin and context.access.find_account() is None:
        return None
    return context.cached.project(context.settings.project.name)


def refuse_empty_undo(context: Context, desired: RestoreRequest) -> None:
    """Raise NotFound for an undo without project and recorded restore: nothing is uploaded to find out."""
    if desired.undo and context.state.restore is None and _project(context) is None:
        raise NotFound(
            f"There is no restore to undo: `{context.account}` has no project `{context.settings.project.name}`, and "
            "this machine has no record of a restore into it.",
            where=context.access.target.options.hostname,
            remedy="Nothing was changed. If another machine restored it, run `install` first, then this again.",
        )


def _store_missing_secrets(context: Context) -> None:
    """The secrets the job reads. Those of a running server stay as they are."""
    secrets = server_secrets.observe(context)
    if match_deployment(context).current is None:
        server_secrets.store(context, [secret for secret in secrets if secret.state != MADE], server_runs=False)
    elif different := sorted(secret.name for secret in secrets if secret.state == "different"):
        raise Conflict(
            f"The configured {', '.join(different)} differs from that of the running server. A dry run would change it "
            "for the server's jobs, too.",
            where=", ".join(different),
            remedy="Use the configuration of the running server, or stop the server first.",
        )
    backup_destination.store(context)
