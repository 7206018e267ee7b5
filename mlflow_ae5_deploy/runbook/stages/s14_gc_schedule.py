"""Stage 14: exactly one garbage collection job exists, with the wanted cron, command and variables.

The same goes for the scheduled backup and drill, where the configuration has a schedule for them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Action, Decision, NoChange
from mlflow_ae5_deploy.resources import backup_destination, scheduled_job
from mlflow_ae5_deploy.resources.backup_job import scheduled_jobs
from mlflow_ae5_deploy.resources.scheduled_job import ScheduledJobState
from mlflow_ae5_deploy.resources.secrets import SET, SecretState, setting


@dataclass(frozen=True)
class ScheduledJobsState:
    """place: the secret that tells a scheduled backup where to; None where none is needed."""

    jobs: tuple[ScheduledJobState, ...]
    place: SecretState | None = None


class GcScheduleStage:
    number: ClassVar[int] = scheduled_job.STAGE
    name: ClassVar[str] = "gc-schedule"
    promise: ClassVar[str] = "exactly one garbage collection job exists, with the wanted cron, command and variables"

    def observe(self, context: Context) -> ScheduledJobsState:
        jobs = tuple(
            scheduled_job.observe(context, desired, keep_paused=True) for desired in scheduled_jobs(context.settings)
        )
        return ScheduledJobsState(jobs, backup_destination.observe(context) if len(jobs) > 1 else None)

    def plan(self, state: ScheduledJobsState, context: Context) -> Decision:
        decisions = [scheduled_job.plan(item, context) for item in state.jobs]
        place = setting([state.place]) if state.place is not None else []
        actions = (*place, *(action for decision in decisions for action in decision.actions))
        warnings = tuple(warning for decision in decisions for warning in decision.warnings)
        if actions:
            return Decision(actions, warnings=warnings)
        reasons = "; ".join(decision.no_change.reason for decision in decisions if decision.no_change)
        return Decision(no_change=NoChange(reasons), warnings=warnings)

    def apply(self, action: Action, state: ScheduledJobsState, context: Context) -> None:
        if action.verb == SET:
            backup_destination.store(context)
            return
        for item in state.jobs:
            own = [job for job in item.jobs if job.id in action.target]
            if own or action.target == f"job {item.desired.name}":
                scheduled_job.apply(action, replace(item, jobs=tuple(own)), context)

    def verify(self, context: Context) -> str | None:
        return "; ".join(scheduled_job.confirm(context, desired) for desired in scheduled_jobs(context.settings))
