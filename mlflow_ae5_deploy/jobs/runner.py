"""Run the project's maintenance commands, each once as a job: backup, restore, drill, schema upgrade.

They run on the platform because they must reach database and volume, which an administrator's machine often cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mlflow_ae5_deploy.ae5.models import Project, Run
from mlflow_ae5_deploy.common.errors import DeadlineExceeded, NotFound
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.config.settings import Settings
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import applying
from mlflow_ae5_deploy.jobs import latest_outcomes, other_machines, saved_logs, text
from mlflow_ae5_deploy.jobs.logs import JobLog, job_log, with_progress
from mlflow_ae5_deploy.jobs.one_off import run_once
from mlflow_ae5_deploy.jobs.reports import R
from mlflow_ae5_deploy.jobs.result import JobResult, read_result
from mlflow_ae5_deploy.jobs.spec import JobSpec, check_command, check_profile
from mlflow_ae5_deploy.jobs.tasks import JobRequest

_ALONE = ("Restore", "DatabaseUpgrade")  # they change the data, so no job of another machine may run meanwhile
_TAIL = 15  # lines of a log


@dataclass(frozen=True, kw_only=True)
class RunCommand(Change):
    """name: of the project's command. purpose: see JobRequest."""

    verb, resource = "run", "command"
    purpose: str

    @property
    def target(self) -> str:
        return f"{self.purpose} ({self.name})"


# the command ------------------------------------------------------------------------------------------------------


def command_of(settings: Settings, command: str) -> str:
    """The command for the server's environment: `minimum` has commands of its own."""
    return f"Minimum{command}" if settings.deployment.command.startswith("Minimum") else command


def knows(context: Context, project: Project, command: str) -> bool:
    commands = {item.id for item in context.cached.revisions(project)[0].commands}
    return command_of(context.settings, command) in commands


def required_project(context: Context) -> Project:
    name = context.settings.project.name
    project = context.cached.project(name)
    if project is None:
        raise NotFound(
            f"`{context.account}` has no project `{name}`.",
            where=context.access.target.options.hostname,
            remedy="Run `mlflow-ae5-deploy install` first, or `restore` to bring a snapshot back.",
        )
    return project


def require_command(context: Context, project: Project, command: str) -> None:
    check_command(
        context.cached.revisions(project)[0],
        command_of(context.settings, command),
        where=f"project {project.name}",
        remedy="The bundled release has it: `upgrade --release bundled`.",
    )


def one_off_spec(context: Context, task: JobRequest[Any]) -> JobSpec:
    return JobSpec(
        f"{other_machines.ONCE}{task.purpose}",
        command_of(context.settings, task.command),
        "",
        task.all_variables(),
        context.settings.backup.resource_profile,
        purpose=task.purpose,
        section="backup",
    )


# the run ----------------------------------------------------------------------------------------------------------


def attempt(
    context: Context,
    project: Project,
    task: JobRequest[R],
    *,
    seconds: float,
    on_success: Callable[[JobResult[R]], None] | None = None,
    on_stop: Callable[[JobResult[R]], None] | None = None,
    accept_ended: bool = False,
) -> JobResult[R]:
    """Run it once and follow its log, or the run that an interrupted call has left.

    on_stop gets the result of a run that a failure, or Ctrl-C, has stopped, unless it had succeeded by then.

    For work that must not be done twice: on_success gets the result before the job's record is deleted, and with
    accept_ended the result of an ended run counts: only for a request that was started before and whose end was not
    seen. Raises DeadlineExceeded after `seconds`.
    """
    require_command(context, project, task.command)
    check_profile(context, context.settings.backup.resource_profile, "backup.resource_profile")
    if task.command in _ALONE and "--dry-run" not in task.words and not task.variables:
        other_machines.refuse_meanwhile(context, project)

    def on_end(ended: Run, log: str) -> None:
        job_result = read_result(task.report, ended, log)
        if on_success is not None and job_result.succeeded:
            on_success(job_result)

    def after_stop(ended: Run, log: str) -> None:
        on_end(ended, log)
        job_result = read_result(task.report, ended, log)
        if on_stop is not None and not job_result.succeeded:
            on_stop(job_result)

    leave_running = task.command != "DatabaseUpgrade"  # a migration must not go on while an upgrade is rolled back
    try:
        with applying(RunCommand(name=task.command, purpose=task.purpose, reason="requested"), context.journal):
            ended, log = run_once(
                context,
                project,
                one_off_spec(context, task),
                job_log(context),
                seconds=seconds,
                resume=True,
                accept_ended=accept_ended,
                leave_running=leave_running,
                on_end=on_end,
                on_stop=after_stop if on_stop is not None else None,
            )
    except DeadlineExceeded as error:
        continues = "It continues on the platform. Run this again to follow it, with a longer --wait."
        remedy = continues if leave_running else "It was stopped. Use a longer --wait."
        raise DeadlineExceeded(error.what, where=error.where, remedy=remedy) from None
    job_result = read_result(task.report, ended, log)
    context.journal.write("note", action=task.purpose, outcome=job_result.outcome, what=job_result.message)
    context.warn(text.warnings(job_result.report))
    latest_outcomes.note(context.state, task, job_result, context.clock.now())
    log_saved = saved_logs.find(context, job_result.run_id) is not None
    return replace(job_result, tail="" if context.progress.verbose else _tail(log), log_saved=log_saved)


def _tail(log: str) -> str:
    lines = list[str]()
    add = JobLog(with_progress(lines.append, lambda _phase: None))
    for line in log.splitlines():
        if line.strip():
            add(line)
    return scrub("\n".join(lines[-_TAIL:]))
