"""Runs of scheduled jobs that were due and did not begin. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mlflow_ae5_deploy.ae5.models import Job, Run
from mlflow_ae5_deploy.common.cron import parse_cron
from mlflow_ae5_deploy.common.errors import Configuration

_GRACE = timedelta(hours=1)  # so late may a run begin
_SAME = timedelta(minutes=1)  # a run that began early by so much is the one that was due


@dataclass(frozen=True)
class Missed:
    """what: `backup`, for example. due: when the first run was due that did not begin. again: so was another since."""

    what: str
    due: datetime
    again: bool

    @property
    def message(self) -> str:
        words = f"No {self.what} has begun since one was due at {self.due:%Y-%m-%d %H:%M} UTC"
        return f"{words}, nor when the next was." if self.again else f"{words}."


def missed(
    what: str, job: Job, runs: Sequence[Run], now: datetime, *, done: Iterable[datetime | None] = ()
) -> Missed | None:
    """None when all is in time, or not known. done: when the same was done or begun anew in another way."""
    latest = max((when for when in (*(run.created for run in runs), *done) if when), default=None)
    begins = max((when for when in (latest, job.created) if when), default=None)
    if begins is None or not job.schedule or "pause" in job.state.lower() or any(run.is_active for run in runs):
        return None
    try:
        due = parse_cron(job.schedule).next_times(begins + _SAME, 2)
    except Configuration:
        return None
    late = [when for when in due if now - when > _GRACE]
    return Missed(what, late[0], len(late) > 1) if late else None


def warnings(found: Iterable[Missed]) -> list[str]:
    return [item.message for item in found if not item.again]


def problems(found: Iterable[Missed]) -> list[str]:
    return [item.message for item in found if item.again]
