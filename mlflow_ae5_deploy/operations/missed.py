"""Runs of scheduled jobs that were due and did not start. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mlflow_ae5_deploy.ae5.models import Job, Run
from mlflow_ae5_deploy.common.cron import parse_cron
from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.operations.health_problem import HealthProblem
from mlflow_ae5_deploy.resources.scheduled_job import is_paused

_GRACE = timedelta(hours=1)  # a run may start so late
_EARLY = timedelta(minutes=1)  # a run that started so early is the one that was due


@dataclass(frozen=True)
class Missed:
    what: str  # `backup`, for example
    due: datetime  # of the first run that did not start
    again: bool  # the next one did not start either

    @property
    def message(self) -> str:
        words = f"The {self.what} due at {self.due:%Y-%m-%d %H:%M} UTC has not started"
        return f"{words}, nor the next one." if self.again else f"{words}."


def missed(
    what: str, job: Job, runs: Sequence[Run], now: datetime, *, done: Iterable[datetime | None] = ()
) -> Missed | None:
    """None where nothing was missed, or nothing is known. done: when the same work was done in another way."""
    latest = max((when for when in (*(run.created for run in runs), *done) if when), default=None)
    start = max((when for when in (latest, job.created) if when), default=None)
    if start is None or not job.schedule or is_paused(job) or any(run.is_active for run in runs):
        return None
    try:
        due = parse_cron(job.schedule).next_times(start + _EARLY, 2)
    except Configuration:
        return None
    late = [when for when in due if now - when > _GRACE]
    return Missed(what, late[0], len(late) > 1) if late else None


def problems(items: Iterable[Missed]) -> list[HealthProblem]:
    return [
        HealthProblem("job-overdue" if item.again else "job-late", item.message, subject=item.what) for item in items
    ]
