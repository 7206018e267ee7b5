"""What `backup` and `drill` share: run a job under the lock and show its result, or change its schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_ae5_deploy.cli.context import writing
from mlflow_ae5_deploy.cli.options import WriteOptions
from mlflow_ae5_deploy.common.errors import EXIT_DONE, DeployError

if TYPE_CHECKING:
    from mlflow_ae5_deploy.engine.context import Context
    from mlflow_ae5_deploy.engine.job_result import JobResult
    from mlflow_ae5_deploy.jobs.tasks import JobRequest


_REPORTS_ONLY = ("list", "show", "list-saved")  # their log matters only when they fail


def run_task(verb: str, task: JobRequest, options: WriteOptions, *, wait: float, new_repository: bool = False) -> int:
    from mlflow_ae5_deploy.cli.stages import follow
    from mlflow_ae5_deploy.jobs import runner
    from mlflow_ae5_deploy.operations import backup as snapshots
    from mlflow_ae5_deploy.render.backup import run_data, show
    from mlflow_ae5_deploy.resources.interrupted import refuse_backup_during_upgrade

    reporter = options.reporter
    job_result: JobResult | None = None
    action = task.words[0].removeprefix("--") if task.command in ("Backup", "Restore") else verb
    try:
        with writing(options, verb) as context:
            refuse_backup_during_upgrade(context, task)
            reporter.doing(task.purpose)
            if action not in _REPORTS_ONLY:
                follow(context, reporter)
            job_result = snapshots.carry_out(context, task, seconds=wait, new_repository=new_repository)
            if runner.succeeded(job_result):
                show(reporter, job_result)
            runner.require(task, job_result)
            warnings = _warnings(context, action, job_result)
    except DeployError as error:
        if job_result is None or not options.json:
            raise
        reporter.data(run_data(verb, action, job_result, error))
        reporter.error(error)
        return error.exit_code
    for warning in warnings:
        reporter.note(f"warning: {warning}", style="yellow")
    if options.json:
        reporter.data(run_data(verb, action, job_result, None, warnings))
    return EXIT_DONE


def _warnings(context: Context, action: str, job_result: JobResult) -> list[str]:
    """Of what a snapshot that was just made lacks, of where it is, and of backups that are not where they were."""
    from mlflow_ae5_deploy.jobs.text import gone_since
    from mlflow_ae5_deploy.operations.doctor import storage
    from mlflow_ae5_deploy.operations.doctor.findings import WARNING
    from mlflow_ae5_deploy.operations.status_backups import WHOLE
    from mlflow_ae5_deploy.resources import backup_repository

    gone = gone_since(job_result.report)
    found = storage.backups(context) if action == "create" else ()
    recreated = backup_repository.recreated(context) if job_result.report.get("repository") else ""
    return [
        *([recreated] if recreated else []),
        *([f"{gone}: {WHOLE}"] if gone else []),
        *(f"{finding.message}. {finding.remedy}" for finding in found if finding.severity == WARNING),
    ]


def set_schedule(
    verb: str,
    command: str,
    setting: str,
    cron: str | None,
    options: WriteOptions,
) -> int:
    """cron: None removes the schedule."""
    from mlflow_ae5_deploy.common.cron import parse_cron
    from mlflow_ae5_deploy.operations import backup as snapshots
    from mlflow_ae5_deploy.render.backup import scheduled_data, show_scheduled

    reporter = options.reporter
    desired = parse_cron(cron).expression if cron is not None else None
    with writing(options, verb) as context:
        reporter.doing(f"{verb} schedule")
        if desired is None:
            done = snapshots.unschedule(context, command)
        else:
            done = snapshots.schedule(context, command, desired)
        configured = getattr(context.settings.backup, setting.partition(".")[2])
    show_scheduled(reporter, done, setting, desired, configured)
    if options.json:
        reporter.data(scheduled_data(verb, done))
    return EXIT_DONE
