"""Snapshots: made, checked, listed and thinned out by jobs of the project, and the schedule of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_ae5_deploy.ae5.models import Job, Project
from mlflow_ae5_deploy.common.text import gone
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.engine.plan import Action
from mlflow_ae5_deploy.jobs import one_off, runner, tasks
from mlflow_ae5_deploy.jobs.tasks import JobRequest
from mlflow_ae5_deploy.jobs.text import gone_since, is_whole
from mlflow_ae5_deploy.resources import (
    backup_destination,
    backup_job,
    backup_repository,
    current_deployment,
    scheduled_job,
)
from mlflow_ae5_deploy.resources.scheduled_job import RUN_DEADLINE


def carry_out(
    context: Context, task: JobRequest, *, seconds: float, project: Project | None = None, new_place: bool = False
) -> JobResult:
    """One backup task or drill, or what is done about things kept aside, its result noted.

    The verdict may be one that `maintenance.require` refuses.

    project: whose command is run, where that is not the installed one. new_place: the place of the backups that is
    found now is the one to know from now on.
    """
    project = project or runner.required_project(context)
    runner.require_command(context, project, task.command)
    if task.command == "Restore":  # of what is kept beside the data; snapshots play no part in it
        where = context.settings.project.name
    else:
        backup_destination.store(context)
        where = backup_destination.shown(context)
    context.journal.write("intent", action=task.purpose, target=where)
    verdict = runner.attempt(context, project, task, seconds=seconds)
    _note(context, task, verdict)
    if task.command == "Backup":
        backup_repository.note(context, verdict.facts, accept=new_place)
    return verdict


def create(context: Context, *words: str, seconds: float, project: Project | None = None) -> JobResult:
    """A new snapshot; raises what `maintenance.require` raises."""
    task = tasks.backup("create", *words)
    verdict = carry_out(context, task, seconds=seconds, project=project)
    runner.require(task, verdict)
    return verdict


def check(context: Context, snapshot: str, *words: str, seconds: float, project: Project | None = None) -> JobResult:
    """Read a snapshot back; raises SnapshotDamaged when it is not what its manifest says."""
    task = tasks.backup("verify", "--snapshot", snapshot, *words)
    verdict = carry_out(context, task, seconds=seconds, project=project)
    runner.require(task, verdict)
    return verdict


def _note(context: Context, task: JobRequest, verdict: JobResult) -> None:
    facts, snapshot = verdict.facts, verdict.facts.get("snapshot")
    if task.command == "Restore" and runner.succeeded(verdict) and facts.get("dropped"):
        context.journal.write("effect", action="remove for good", target=f"what was kept aside as {facts['dropped']}")
    if task.command != "Backup" or not isinstance(snapshot, str):
        return
    if task.words[0] == "create" and (runner.succeeded(verdict) or verdict.exit_code == runner.INCOMPLETE):
        context.memory.remember_snapshot(made(facts, context.clock.now().isoformat(timespec="seconds")))
        context.journal.write("effect", action="back up", target=f"snapshot {snapshot}")


def made(facts: Mapping[str, Any], finished: str) -> dict[str, Any]:
    """What is remembered of a snapshot, from its job's last line."""
    return {
        "id": facts.get("snapshot"),
        "finished": finished,
        "verified": None,
        "sampled": None,
        "damaged": False,
        "complete": is_whole(facts),
        "gone": gone_since(facts),
        "runs": facts.get("runs"),
        "artifacts": facts.get("artifacts"),
        "bytes": facts.get("artifact_bytes"),
    }


# schedules --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScheduledJobs:
    """outcome: changed | unchanged | removed. said: one sentence. job: the one there is now."""

    outcome: str
    said: str
    job: Job | None = None
    actions: tuple[Action, ...] = ()
    warnings: tuple[str, ...] = ()


def schedule(context: Context, command: str, cron: str, *, wait: float = RUN_DEADLINE) -> ScheduledJobs:
    """Exactly one job of this name, with this cron."""
    project = current_deployment.required_installation(context)
    runner.require_command(context, project, command)
    backup_destination.store(context)
    wanted = backup_job.wanted_job(context.settings, command, cron)
    facts = scheduled_job.observe(context, wanted)
    decision = scheduled_job.plan(facts, context)
    warnings = list(decision.warnings)
    if any(scheduled_job.is_paused(job) for job in facts.jobs) and any(
        action.verb == scheduled_job.CREATE for action in decision.actions
    ):
        warnings.append("The former job was paused; the new one is not.")
    for action in decision.actions:
        context.journal.write("intent", action=action.verb, target=action.target)
        scheduled_job.apply(action, facts, context, wait=wait)
    if decision.no_change is not None:
        context.memory.end_job_change(wanted.purpose)  # of a run that was cut off; what is asked for now is there
        said, outcome = decision.no_change.reason, "unchanged"
    else:
        said, outcome = scheduled_job.confirm(context, wanted), "changed"
    (job,) = scheduled_job.observe(context, wanted).jobs
    return ScheduledJobs(outcome, said, job, decision.actions, tuple(warnings))


def unschedule(context: Context, command: str, *, wait: float = RUN_DEADLINE) -> ScheduledJobs:
    """The job goes, after its run at work has ended, and with it the records of its runs."""
    project = runner.required_project(context)
    wanted = backup_job.wanted_job(context.settings, command, "")
    jobs = scheduled_job.jobs_for(context.cached.jobs(), project, wanted)
    actions = tuple(Action(scheduled_job.DELETE, f"job {job.name} ({job.id})", "asked for") for job in jobs)
    for action, job in zip(actions, jobs, strict=True):
        context.journal.write("intent", action=action.verb, target=action.target)
        scheduled_job.delete(job, context, wait=wait, purpose=wanted.purpose)
    context.memory.end_job_change(wanted.purpose)
    pruned = one_off.prune(context, wanted.name, keep=0)
    if not jobs and not pruned:
        return ScheduledJobs("unchanged", f"there is no scheduled {wanted.purpose}")
    return ScheduledJobs("removed", gone(len(jobs), pruned), None, actions)
