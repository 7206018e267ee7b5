"""The project's maintenance commands, each run once as a job: backup, restore, drill, upgrade of the schema.

They run on the platform because they must reach database and volume, which an administrator's machine often cannot.
A job takes its command line from one variable, and answers with a last line of JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlflow_ae5_deploy.ae5.models import Project, Run
from mlflow_ae5_deploy.common.errors import (
    DeadlineExceeded,
    DeployError,
    JobFailed,
    Locked,
    NotFound,
    PartlyDone,
    ReleaseRefused,
    RepositoryFailed,
    SchemaMismatch,
    SnapshotDamaged,
    TargetInUse,
    TargetNotEmpty,
)
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.common.text import as_sentence
from mlflow_ae5_deploy.config.settings import Settings
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import applying
from mlflow_ae5_deploy.engine.job_result import UNKNOWN, JobResult, last_report
from mlflow_ae5_deploy.jobs import other_machines, outcomes, saved_logs
from mlflow_ae5_deploy.jobs.logs import WithoutSettings
from mlflow_ae5_deploy.jobs.one_off import run_once, unreported
from mlflow_ae5_deploy.jobs.spec import JobSpec, check_profile
from mlflow_ae5_deploy.jobs.tasks import (
    JobRequest,
)
from mlflow_ae5_deploy.jobs.text import Report, external, sentence, unreadable

_ALONE = ("Restore", "DatabaseUpgrade")  # not while another machine has a job at work: they change the data
INCOMPLETE, BUSY = PartlyDone.exit_code, Locked.exit_code
_GOOD = ("done", "dry-run", "undone", "rehearsed", "upgraded", "unchanged", "initialised")
_TAIL = 15
# The project's jobs end with the exit codes of these errors (its common/errors.py).
_ERRORS: Mapping[int, type[DeployError]] = {
    kind.exit_code: kind
    for kind in (
        NotFound,
        Locked,
        PartlyDone,
        SnapshotDamaged,
        TargetNotEmpty,
        TargetInUse,
        RepositoryFailed,
        SchemaMismatch,
    )
}


OnSuccess = Callable[[JobResult], None]


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
    """The command in the environment that the server uses: `minimum` has commands of its own."""
    return f"Minimum{command}" if settings.deployment.command.startswith("Minimum") else command


def knows(context: Context, project: Project, command: str) -> bool:
    known = {item.id for item in context.cached.revisions(project)[0].commands}
    return command_of(context.settings, command) in known


def required_project(context: Context) -> Project:
    name = context.settings.project.name
    project = context.cached.project(name)
    if project is None:
        raise NotFound(
            f"`{context.account}` has no project `{name}`.",
            where=context.access.target.options.hostname,
            remedy="Run `mlflow-ae5-deploy install` first; `restore` brings a snapshot back where nothing is left.",
        )
    return project


def require_command(context: Context, project: Project, command: str) -> None:
    if not knows(context, project, command):
        raise ReleaseRefused(
            f"The installed release has no command `{command_of(context.settings, command)}`.",
            where=f"project {project.name}",
            remedy="The bundled release has it: `upgrade --release bundled`.",
        )


def one_off_spec(context: Context, task: JobRequest) -> JobSpec:
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


def run(
    context: Context,
    project: Project,
    task: JobRequest,
    *,
    seconds: float,
    on_success: OnSuccess | None = None,
    take_ended: bool = False,
) -> JobResult:
    """`attempt` it, and raise what `require` raises."""
    job_result = attempt(context, project, task, seconds=seconds, on_success=on_success, take_ended=take_ended)
    require(task, job_result)
    return job_result


def attempt(
    context: Context,
    project: Project,
    task: JobRequest,
    *,
    seconds: float,
    on_success: OnSuccess | None = None,
    take_ended: bool = False,
) -> JobResult:
    """Run it once and follow its log. One that is at work already, left by a call that was cut off, is taken up.

    For what must not be done twice: on_success is given the verdict while the job's record still tells it, too; and
    with take_ended a run that has ended while nobody watched, and is on record, is taken for this one. That must
    only be said when this very task was begun and its end was not seen. Raises DeadlineExceeded after `seconds`.
    """
    require_command(context, project, task.command)
    check_profile(context, context.settings.backup.resource_profile, "backup.resource_profile")
    if task.command in _ALONE and "--dry-run" not in task.words and not task.variables:
        other_machines.refuse_meanwhile(context, project)
    desired, quiet = one_off_spec(context, task), WithoutSettings(context.on_line or (lambda _line: None))

    def note(ended: Run, log: str) -> None:
        job_result = judge(ended, log)
        if on_success is not None and succeeded(job_result):
            on_success(job_result)

    leave_late = task.command != "DatabaseUpgrade"  # a migration must not go on behind the back of who goes back
    late: DeadlineExceeded | None = None
    change = RunCommand(name=task.command, purpose=task.purpose, reason="asked for")
    try:
        with applying(change, context.journal):
            ended, log = run_once(
                context,
                project,
                desired,
                quiet,
                seconds=seconds,
                take_up=True,
                take_ended=take_ended,
                leave_late=leave_late,
                on_end=note,
            )
    except DeadlineExceeded as error:
        late = error
    if late is not None:
        goes_on = "It goes on at the platform. Run this again to follow it, with more --wait."
        raise DeadlineExceeded(
            late.what,
            where=late.where,
            remedy=goes_on if leave_late else "It was stopped. Allow more with --wait.",
        )
    job_result = judge(ended, log)
    context.journal.write("note", action=task.purpose, outcome=job_result.outcome, what=job_result.message)
    outcomes.note(context.state, task, job_result, context.clock.now(), good=succeeded(job_result))
    kept = saved_logs.find(context, job_result.run_id) is not None
    if not succeeded(job_result) and not kept:
        quiet.tell_the_rest()
    return replace(job_result, tail="" if context.on_line is not None else _tail(log), kept=kept)


def judge(ended: Run, log: str) -> JobResult:
    """Pure. A run that states no result has not done its work: nothing may be built on it."""
    report = last_report(log)
    code = report.get("exit_code")
    outcome = str(report.get("outcome") or UNKNOWN)
    number = code if isinstance(code, int) else None
    job_result = JobResult(ended.id, ended.state, outcome, number, "", report)
    if not job_result.reported:
        return replace(job_result, message=unreported(log))
    message = sentence(report) if succeeded(job_result) or number == INCOMPLETE else _trouble(job_result)
    return replace(job_result, message=scrub(message))


def succeeded(job_result: JobResult) -> bool:
    return job_result.state == "completed" and job_result.outcome in _GOOD and job_result.exit_code in (0, None)


def require(task: JobRequest, job_result: JobResult) -> None:
    """Raise the error that the job's exit code stands for, unless it did its work."""
    if succeeded(job_result):
        return
    report, code = job_result.report, job_result.exit_code
    kind = _ERRORS.get(code, JobFailed) if code is not None else JobFailed
    hint = scrub(str(report.get("hint") or ""))
    left_out = [(what, names, remedy) for what, names, remedy in _left_out(report) if names]
    if code == INCOMPLETE and left_out:
        raise PartlyDone(
            f"{job_result.message[:1].upper()}{job_result.message[1:]}. {' '.join(what for what, _, _ in left_out)}",
            where=", ".join(scrub(name) for _, names, _ in left_out for name in names),
            remedy=as_sentence(hint) or " ".join(remedy for _, _, remedy in left_out),
        )
    detail = [_damage(report), job_result.tail]
    ended = "did not do its work" if job_result.reported else "has finished, result unknown"
    raise kind(
        f"The {task.purpose} {ended}: {job_result.message}.",
        where=f"run {job_result.run_id}"
        + (f" (`logs --run {job_result.run_id} --lines 0`)" if job_result.kept else ""),
        remedy=as_sentence(hint),
        detail="\n".join(text for text in detail if text),
    )


def _left_out(report: Report) -> Iterator[tuple[str, list[str], str]]:
    """What, which and what to do, of artifacts that are not in a snapshot."""
    yield (
        "Not in it: artifacts kept outside the server's own place.",
        external(report),
        "Back those up where they are. `backup --allow-external` takes the rest for good.",
    )
    yield (
        "Not in it: artifacts that cannot be read.",
        unreadable(report),
        "Rename those artifacts, make them readable, or delete them; then back up again.",
    )


def _trouble(job_result: JobResult) -> str:
    report = job_result.report
    if report.get("error"):
        return str(report["error"]).rstrip(".")
    words = [f"the run is {job_result.state}"]
    words.append("and its log has no report" if job_result.outcome == UNKNOWN else f"the job says {job_result.outcome}")
    if job_result.exit_code is not None:
        words.append(f"exit code {job_result.exit_code}")
    return ", ".join(words)


def _damage(report: Mapping[str, Any]) -> str:
    found = report.get("damaged")
    lines = [
        f"- {item.get('object') or item.get('name')}: {item.get('what')}"
        for item in (found if isinstance(found, list) else [])[:20]
        if isinstance(item, dict)
    ]
    return scrub("\n".join(lines))


def _tail(log: str) -> str:
    lines = list[str]()
    quiet = WithoutSettings(lines.append)
    for line in log.splitlines():
        if line.strip():
            quiet(line)
    if last_report(lines[-1] if lines else ""):
        lines.pop()
    return scrub("\n".join(lines[-_TAIL:]))
