"""Run one job for `backup`, `drill` or `restore --list-saved`, or change its schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_ae5_deploy.cli.context import writing
from mlflow_ae5_deploy.cli.options import WriteOptions
from mlflow_ae5_deploy.common.errors import EXIT_DONE, DeployError

if TYPE_CHECKING:
    from mlflow_ae5_deploy.engine.context import Context
    from mlflow_ae5_deploy.jobs.result import JobResult
    from mlflow_ae5_deploy.jobs.tasks import JobRequest


_REPORTS_ONLY = ("list", "show", "list-saved")  # their log matters only when they fail


def run_task(
    verb: str, task: JobRequest[Any], options: WriteOptions, *, wait: float, new_repository: bool = False
) -> int:
    from mlflow_ae5_deploy.cli.stages import follow
    from mlflow_ae5_deploy.jobs import runner
    from mlflow_ae5_deploy.operations import backup
    from mlflow_ae5_deploy.render.backup import run_data, show
    from mlflow_ae5_deploy.resources.interrupted import refuse_backup_during_upgrade

    reporter = options.reporter
    job_result: JobResult[Any] | None = None
    action = task.words[0].removeprefix("--") if task.command in ("Backup", "Restore") else verb
    try:
        with writing(options, verb) as context:
            refuse_backup_during_upgrade(context, task)
            reporter.doing(task.purpose)
            if action not in _REPORTS_ONLY:
                follow(context, reporter)
            job_result = backup.run(context, task, seconds=wait, new_repository=new_repository)
            if job_result.succeeded:
                show(reporter, job_result)
            runner.require(task, job_result)
            warnings = _warnings(context, job_result)
    except DeployError as error:
        if job_result is None or not options.json:
            raise
        reporter.data(run_data(verb, action, job_result, error))
        reporter.error(error)
        return error.exit_code
    for warning in warnings:
        reporter.note(f"warning: {warning}", style="yellow")
    if options.json:
        reporter.data(run_data(verb, action, job_result, warnings=warnings))
    return EXIT_DONE


def _warnings(context: Context, job_result: JobResult[Any]) -> list[str]:
    """About another repository than before, data missing in a new snapshot, and its destination."""
    from mlflow_ae5_deploy.jobs.contract import BackupReport
    from mlflow_ae5_deploy.jobs.text import missing_since
    from mlflow_ae5_deploy.operations.doctor import storage
    from mlflow_ae5_deploy.operations.doctor.findings import WARNING
    from mlflow_ae5_deploy.operations.status_backups import WHOLE
    from mlflow_ae5_deploy.resources import backup_repository

    report = job_result.report
    if not isinstance(report, BackupReport):
        return []
    recreated = backup_repository.recreated(context) if report.repository else ""
    missing = missing_since(report)
    findings = storage.backups(context) if report.action == "create" else ()
    return [
        *([recreated] if recreated else []),
        *([f"{missing}: {WHOLE}"] if missing else []),
        *(f"{finding.message}. {finding.remedy}" for finding in findings if finding.severity == WARNING),
    ]


def set_schedule(verb: str, command: str, setting: str, cron: str | None, options: WriteOptions) -> int:
    """cron: None deletes the job."""
    from mlflow_ae5_deploy.common.cron import parse_cron
    from mlflow_ae5_deploy.operations import backup
    from mlflow_ae5_deploy.render.backup import scheduled_data, show_scheduled

    reporter = options.reporter
    desired = parse_cron(cron).expression if cron is not None else None
    with writing(options, verb) as context:
        reporter.doing(f"{verb} schedule")
        done = backup.schedule(context, command, desired) if desired else backup.unschedule(context, command)
        configured = getattr(context.settings.backup, setting.partition(".")[2])
    show_scheduled(reporter, done, setting, desired, configured)
    if options.json:
        reporter.data(scheduled_data(verb, done))
    return EXIT_DONE
