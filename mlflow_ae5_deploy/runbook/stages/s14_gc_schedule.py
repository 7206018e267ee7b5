"""Stage 14: exactly one garbage collection job exists, with the wanted cron, command and variables."""

from __future__ import annotations

from typing import ClassVar

from mlflow_ae5_deploy.runbook import gc_job
from mlflow_ae5_deploy.runbook.context import Context
from mlflow_ae5_deploy.runbook.gc_job import JobFacts
from mlflow_ae5_deploy.runbook.model import Action, Decision


class GcSchedule:
    number: ClassVar[int] = gc_job.STAGE
    name: ClassVar[str] = "gc-schedule"
    promise: ClassVar[str] = "exactly one garbage collection job exists, with the wanted cron, command and variables"

    def observe(self, context: Context) -> JobFacts:
        return gc_job.observe(context, gc_job.wanted_job(context.settings), keep_paused=True)

    def plan(self, facts: JobFacts, context: Context) -> Decision:
        return gc_job.plan(facts, context)

    def apply(self, action: Action, facts: JobFacts, context: Context) -> None:
        gc_job.apply(action, facts, context)

    def verify(self, context: Context) -> str | None:
        return gc_job.confirm(context, gc_job.wanted_job(context.settings))
