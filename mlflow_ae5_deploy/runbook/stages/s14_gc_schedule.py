"""Stage 14: exactly one garbage collection job exists, as configured.

The same goes for the scheduled backup and drill, where the configuration has a schedule for them, and for those that a
verb had scheduled and that were deleted with their project.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange, Stage
from mlflow_ae5_deploy.jobs.spec import JobSpec
from mlflow_ae5_deploy.resources import backup_destination, other_schedules, scheduled_job
from mlflow_ae5_deploy.resources.job_specs import scheduled_jobs
from mlflow_ae5_deploy.resources.scheduled_job import CreateJob, JobChange, ScheduledJobState
from mlflow_ae5_deploy.resources.secrets import SecretState, SetSecrets, setting


@dataclass(frozen=True)
class ScheduledJobsState:
    jobs: tuple[ScheduledJobState, ...]
    destination: SecretState | None = None  # the secret with the backup destination; None where none is needed


class GcScheduleStage(Stage[ScheduledJobsState]):
    number = scheduled_job.STAGE
    name = "gc-schedule"

    def observe(self, context: Context) -> ScheduledJobsState:
        configured, others = scheduled_jobs(context.settings), self._others(context)
        jobs = tuple(scheduled_job.observe(context, item, keep_paused=True) for item in (*configured, *others))
        destination = backup_destination.observe(context) if len(configured) > 1 else None
        return ScheduledJobsState(jobs, destination)

    def _others(self, context: Context) -> list[JobSpec]:
        """Those to create again."""
        return other_schedules.to_recreate(context, context.cached.project(context.settings.project.name))

    def check(self, state: ScheduledJobsState, context: Context) -> None:
        for item in state.jobs:
            scheduled_job.check(item, context)

    def diff(self, state: ScheduledJobsState) -> Diff:
        diffs = [scheduled_job.diff(item) for item in state.jobs]
        secrets = setting([state.destination]) if state.destination is not None else []
        changes = (*secrets, *(change for found in diffs for change in found.changes))
        warnings = tuple(warning for found in diffs for warning in found.warnings)
        if changes:
            return Changes(changes, warnings)
        return NoChange("; ".join(found.reason for found in diffs if isinstance(found, NoChange)), warnings)

    def apply(self, change: Change, state: ScheduledJobsState, context: Context) -> None:
        match change:
            case SetSecrets():
                backup_destination.store(context)
            case JobChange():
                (item,) = (item for item in state.jobs if item.desired.purpose == change.purpose)
                scheduled_job.apply(change, item, context)
                if isinstance(change, CreateJob):
                    other_schedules.end_recreation(context, item.desired)
            case _:
                raise AssertionError(change)

    def verify(self, context: Context) -> str | None:
        jobs = [*scheduled_jobs(context.settings), *self._others(context)]
        return "; ".join(map(partial(scheduled_job.confirm, context), jobs))
