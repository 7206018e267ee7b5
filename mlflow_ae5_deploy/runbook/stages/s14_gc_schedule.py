"""Stage 14: exactly one garbage collection job exists, with the wanted cron, command and variables.

A job cannot be changed through ae5-tools (its patch is broken), and a leftover run of a deleted job blocks the
name, so a wrong job is deleted, the name freed, and the job made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from mlflow_ae5_deploy.clock import Deadline, poll_until
from mlflow_ae5_deploy.errors import StageFailed
from mlflow_ae5_deploy.platform.records import Job, Project
from mlflow_ae5_deploy.runbook.context import Context
from mlflow_ae5_deploy.runbook.model import Action, Decision
from mlflow_ae5_deploy.schedule import Schedule, parse_cron

_RUN_DEADLINE = 900.0


@dataclass(frozen=True)
class WantedJob:
    name: str
    command: str
    schedule: str
    variables: tuple[tuple[str, str], ...]
    resource_profile: str


@dataclass(frozen=True)
class Facts:
    project: Project | None
    wanted: WantedJob
    jobs: tuple[Job, ...]


class GcSchedule:
    number: ClassVar[int] = 14
    name: ClassVar[str] = "gc-schedule"
    promise: ClassVar[str] = "exactly one garbage collection job exists, with the wanted cron, command and variables"

    def observe(self, context: Context) -> Facts:
        gc = context.settings.gc
        wanted = WantedJob(
            gc.name,
            gc.command,
            parse_cron(gc.schedule).expression,
            tuple(sorted(gc.variables.items())),
            gc.resource_profile,
        )
        project = context.look.project(context.settings.project.name)
        return Facts(project, wanted, tuple(gc_jobs(context.look.jobs(), project, wanted)))

    def plan(self, facts: Facts, context: Context) -> Decision:
        schedule = parse_cron(facts.wanted.schedule)
        right = [job for job in facts.jobs if not differences(job, facts.wanted)]
        keep = right[0] if right else None
        actions = [
            Action("delete", f"job {job.name} ({job.id})", "; ".join(differences(job, facts.wanted)) or "one is enough")
            for job in facts.jobs
            if job is not keep
        ]
        if keep is None:
            why = "there is none" if not facts.jobs else "a job cannot be changed in place"
            if context.wishes.dry:
                why += f"; it would run {in_words(schedule, context)}"
            actions.append(Action("create", f"job {facts.wanted.name}", why))
        if actions:
            return Decision.do(*actions)
        warnings = []
        if keep is not None and "pause" in keep.state.lower():
            warnings.append(f"The job `{keep.name}` is paused, so nothing is collected until somebody resumes it.")
        return Decision.nothing(f"job `{facts.wanted.name}` exists: {in_words(schedule, context)}", *warnings)

    def apply(self, action: Action, facts: Facts, context: Context) -> None:
        if action.verb == "delete":
            for job in facts.jobs:
                if job.id in action.target:
                    self._delete(job, context)
            return
        if facts.project is None:
            raise StageFailed("There is no project to schedule a job of.", stage=self.number)
        wanted = facts.wanted
        context.platform.free_job_name(wanted.name)
        job = context.platform.create_job(
            project=facts.project,
            revision=context.look.revisions(facts.project)[0],
            revision_name="latest",
            name=wanted.name,
            command=wanted.command,
            schedule=wanted.schedule,
            variables=dict(wanted.variables),
            resource_profile=wanted.resource_profile,
        )
        context.journal.write("effect", action="create", target=f"job {job.name}", id=job.id)
        context.look.forget("jobs")

    def _delete(self, job: Job, context: Context) -> None:
        def idle() -> bool | None:
            return None if any(run.is_active for run in context.platform.runs(job.id)) else True

        context.platform.pause_job(job.id)
        poll_until(
            idle,
            waiting_for=f"the running garbage collection of job {job.name}",
            deadline=Deadline(context.clock, _RUN_DEADLINE),
            on_wait=context.on_wait,
            remedy="Stop the run on the platform if it hangs, then run this again.",
        )
        context.platform.delete_job(job.id)
        context.journal.write("effect", action="delete", target=f"job {job.name}", id=job.id)
        context.look.forget("jobs")

    def verify(self, context: Context) -> str | None:
        facts = self.observe(context)
        wrong = [job.name for job in facts.jobs if differences(job, facts.wanted)]
        if len(facts.jobs) != 1 or wrong:
            raise StageFailed(
                f"The platform lists {len(facts.jobs)} garbage collection jobs, "
                f"{len(wrong)} of them not as wanted; there must be one.",
                stage=self.number,
            )
        return f"job `{facts.wanted.name}`: {in_words(parse_cron(facts.wanted.schedule), context)}"


def gc_jobs(jobs: Sequence[Job], project: Project | None, wanted: WantedJob) -> list[Job]:
    """The jobs that do what the wanted one does: scheduled with its command, or of its name."""
    if project is None:
        return []
    return [
        job
        for job in jobs
        if job.project_id == project.id
        and (job.name == wanted.name or (job.schedule and job.command == wanted.command))
    ]


def differences(job: Job, wanted: WantedJob) -> list[str]:
    rows = (
        ("name", job.name, wanted.name),
        ("command", job.command, wanted.command),
        ("schedule", " ".join((job.schedule or "run once").split()), wanted.schedule),
        ("resource profile", job.resource_profile, wanted.resource_profile),
    )
    found = [f"its {what} is {has}, wanted is {wish}" for what, has, wish in rows if has != wish]
    if tuple(sorted(job.variables.items())) != wanted.variables:
        found.append("its variables differ")  # values are not shown: a variable may hold a password
    return found


def in_words(schedule: Schedule, context: Context) -> str:
    times = ", ".join(f"{when:%Y-%m-%d %H:%M}" for when in schedule.next_times(context.clock.now(), 3))
    return f"{schedule.expression}, {schedule.words[:1].lower()}{schedule.words[1:]}; next {times} UTC"
