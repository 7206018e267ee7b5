"""Create, check, list and prune snapshots by jobs of the project."""

from __future__ import annotations

from mlflow_ae5_deploy.ae5.models import Project
from mlflow_ae5_deploy.common.text import capitalized, whole_commands
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.jobs import job_errors, latest_outcomes, runner, tasks
from mlflow_ae5_deploy.jobs.contract import INCOMPLETE, NOT_FOUND
from mlflow_ae5_deploy.jobs.reports import BackupReport, R, Report, RestoreReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.jobs.tasks import JobRequest
from mlflow_ae5_deploy.jobs.text import missing_since
from mlflow_ae5_deploy.operations.doctor import storage
from mlflow_ae5_deploy.operations.doctor.findings import WARNING
from mlflow_ae5_deploy.operations.health_problem import CODES
from mlflow_ae5_deploy.resources import backup_destination, backup_repository


def run(
    context: Context,
    task: JobRequest[R],
    *,
    seconds: float,
    project: Project | None = None,
    new_repository: bool = False,
) -> JobResult[R]:
    """Run a backup action, a drill or an action on saved copies, and record its result, which may be a failure.

    project: the one to run it in, where that is not the installed one.
    new_repository: accept the repository that is seen now.
    """
    project = project or runner.required_project(context)
    runner.require_command(context, project, task.command)
    if task.command != "Restore":  # an action on saved copies does not use the repository
        backup_destination.store(context)
    job_result = runner.attempt(context, project, task, seconds=seconds)
    _record(context, job_result, accept=new_repository)
    context.warn(_warnings(context, job_result.report))
    return job_result


def none_yet(context: Context, job_result: JobResult[Report]) -> bool:
    """Whether a list found no repository where none is expected. Where one is known, that is an error."""
    report = job_result.report
    listed = isinstance(report, BackupReport) and report.action == "list"
    expected = context.state.snapshot is not None or context.state.repository is not None
    return listed and job_result.exit_code == NOT_FOUND and not expected


def _warnings(context: Context, report: Report) -> list[str]:
    """Another repository than before, data missing in a new snapshot, and the destination of a backup."""
    if not isinstance(report, BackupReport):
        return []
    recreated = backup_repository.recreated(context) if report.repository else ""
    accept = f" {whole_commands(CODES['repository-replaced'].remedy)}"
    missing = missing_since(report)
    findings = storage.backups(context) if report.action == "create" else ()
    return [
        *([recreated + accept] if recreated else []),
        *([f"{missing}. {whole_commands(CODES['backup-shrunk'].remedy)}"] if missing else []),
        *(
            f"{capitalized(finding.message)}. {whole_commands(finding.remedy)}"
            for finding in findings
            if finding.severity == WARNING
        ),
    ]


def create(context: Context, *words: str, seconds: float, project: Project | None = None) -> JobResult[BackupReport]:
    """A new snapshot; raises what `job_errors.require` raises."""
    task = tasks.backup("create", *words)
    job_result = run(context, task, seconds=seconds, project=project)
    job_errors.require(task, job_result)
    return job_result


def check(context: Context, snapshot: str, *words: str, seconds: float, project: Project | None = None) -> None:
    """Read a snapshot back; raises SnapshotDamaged where it differs from its manifest."""
    task = tasks.backup("verify", "--snapshot", snapshot, *words)
    job_errors.require(task, run(context, task, seconds=seconds, project=project))


def _record(context: Context, job_result: JobResult[Report], *, accept: bool) -> None:
    """In state and journal."""
    report = job_result.report
    match report:
        case RestoreReport(deleted=deleted) if deleted is not None and job_result.succeeded:
            context.journal.effect("delete", "saved copy", deleted.name)
        case BackupReport():
            created = job_result.succeeded or job_result.exit_code == INCOMPLETE
            if created and report.action == "create" and report.snapshot:
                made = latest_outcomes.created(report, context.clock.now())
                context.state.snapshot = latest_outcomes.protected_from(made, context.state.snapshot)
                context.state.save()
                context.journal.effect("back up", "snapshot", report.snapshot)
            backup_repository.note(context, report, accept=accept)
