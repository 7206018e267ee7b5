"""Stage 14: exactly one garbage collection job exists, with the wanted cron, command and variables."""

from __future__ import annotations

from typing import ClassVar

from mlflow_ae5_deploy.runbook import scheduled_job
from mlflow_ae5_deploy.runbook.context import Context
from mlflow_ae5_deploy.runbook.gc_job import wanted_job
from mlflow_ae5_deploy.runbook.model import Action, Decision
from mlflow_ae5_deploy.runbook.scheduled_job import JobFacts


class GcSchedule:
    number: ClassVar[int] = scheduled_job.STAGE
    name: ClassVar[str] = "gc-schedule"
    promise: ClassVar[str] = "exactly one garbage collection job exists, with the wanted cron, command and variables"

    def observe(self, context: Context) -> JobFacts:
        return scheduled_job.observe(context, wanted_job(context.settings))

    def plan(self, facts: JobFacts, context: Context) -> Decision:
        return scheduled_job.plan(facts, context)

    def apply(self, action: Action, facts: JobFacts, context: Context) -> None:
        scheduled_job.apply(action, facts, context)

    def verify(self, context: Context) -> str | None:
        return scheduled_job.confirm(context, wanted_job(context.settings))
