"""What is known of backups without starting a job: the log of the scheduled job's last run, and what was remembered of
those that were asked for from this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mlflow_ae5_deploy.errors import PlatformError
from mlflow_ae5_deploy.platform.records import Project, Run
from mlflow_ae5_deploy.runbook import backup_job, maintenance, scheduled_job
from mlflow_ae5_deploy.runbook.context import Context
from mlflow_ae5_deploy.runbook.maintenance_words import outside
from mlflow_ae5_deploy.runbook.token_life import duration

OLD = timedelta(days=7)
_LOOKED_AT = 5  # runs of the job, newest first, until one is found that made a snapshot


@dataclass(frozen=True)
class KnownSnapshot:
    """The newest snapshot known. verified: when all of it was read back; None if that is not known here. sampled: the
    last check, where that read a part: {at, checked, of}."""

    id: str
    finished: datetime
    verified: datetime | None = None
    damaged: bool = False
    complete: bool = True
    sampled: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Backups:
    """schedule: cron of the job, empty where there is none. trouble: why its last run failed, if it did."""

    newest: KnownSnapshot | None = None
    schedule: str = ""
    paused: bool = False
    trouble: str = ""


def look_at_backups(context: Context, project: Project | None) -> Backups:
    known = remembered(context.memory.snapshot())
    wanted = backup_job.wanted_job(context.settings, backup_job.BACKUP, "")
    job = next(iter(scheduled_job.jobs_for(context.look.jobs(), project, wanted)), None)
    if job is None:
        return Backups(known)
    made, trouble = _read_runs(context, [run for run in context.platform.runs(job.id) if not run.is_active])
    found = [item for item in (known, made) if item is not None]
    newest = max(found, key=lambda item: item.finished, default=None)
    if newest is made and known is not None and made is not None and known.id == made.id:
        newest = known  # it also knows whether it was verified
    return Backups(newest, job.schedule or "", scheduled_job.is_paused(job), trouble)


def _read_runs(context: Context, ended: list[Run]) -> tuple[KnownSnapshot | None, str]:
    """The newest snapshot they made, and what was wrong with the last of them."""
    trouble = ""
    newest_first = sorted((run for run in ended if run.created), key=lambda run: run.created or datetime.min)[::-1]
    for number, run in enumerate(newest_first[:_LOOKED_AT]):
        try:
            verdict = maintenance.judge(run, context.platform.run_log(run.id))
        except PlatformError as error:
            trouble = trouble or (f"its log cannot be read: {error.what.rstrip('.')}" if number == 0 else "")
            continue
        good = maintenance.succeeded(verdict) or verdict.exit_code == maintenance.INCOMPLETE
        if number == 0 and not good:
            trouble = verdict.said
        if good and verdict.facts.get("snapshot") and run.created is not None:
            seconds = verdict.facts.get("seconds")
            finished = run.created + timedelta(seconds=seconds if isinstance(seconds, int | float) else 0)
            return KnownSnapshot(str(verdict.facts["snapshot"]), finished, complete=not outside(verdict.facts)), trouble
    return None, trouble


def remembered(record: Mapping[str, Any] | None) -> KnownSnapshot | None:
    """From memory's record; None for one that is damaged."""
    if not record:
        return None
    try:
        verified, sampled = record.get("verified"), record.get("sampled")
        return KnownSnapshot(
            str(record["id"]),
            datetime.fromisoformat(record["finished"]),
            datetime.fromisoformat(verified) if verified else None,
            bool(record.get("damaged")),
            bool(record.get("complete", True)),
            sampled if isinstance(sampled, dict) else None,
        )
    except (KeyError, TypeError, ValueError):
        return None


def warnings(backups: Backups, now: datetime) -> list[str]:
    """Pure."""
    found, newest = [], backups.newest
    if backups.trouble:
        found.append(f"The last scheduled backup failed: {backups.trouble}.")
    if backups.paused:
        found.append("The scheduled backup is paused.")
    if newest is None:
        return [*found, "No backup is known here: `backup` makes one, `backup list` shows those made elsewhere."]
    if now - newest.finished > OLD:
        found.append(f"The newest snapshot that is known here is {duration(now - newest.finished)} old.")
    if not newest.complete:
        found.append(f"Snapshot {newest.id} is without artifacts that are kept outside the server's own place.")
    return found


def words(backups: Backups, now: datetime) -> str:
    """The line on the screen."""
    schedule = f"; scheduled {backups.schedule} UTC" if backups.schedule else "; not scheduled"
    newest = backups.newest
    if newest is None:
        return f"none known here{schedule}"
    age = duration(max(now - newest.finished, timedelta()))
    return f"{newest.id}, {age} old, {_proof(newest, now)}{schedule}"


def _proof(newest: KnownSnapshot, now: datetime) -> str:
    if newest.damaged:
        return "DAMAGED"
    if newest.verified is not None:
        return f"verified {duration(max(now - newest.verified, timedelta()))} ago"
    if newest.sampled is not None:
        return f"sampled, {newest.sampled.get('checked')} of {newest.sampled.get('of')} read, not verified"
    return "not verified"


def data(backups: Backups) -> dict[str, Any]:
    newest = backups.newest
    return {
        "snapshot": newest.id if newest else None,
        "finished": newest.finished.isoformat(timespec="seconds") if newest else None,
        "verified": newest.verified.isoformat(timespec="seconds") if newest and newest.verified else None,
        "sampled": dict(newest.sampled) if newest and newest.sampled else None,
        "damaged": newest.damaged if newest else None,
        "complete": newest.complete if newest else None,
        "schedule": backups.schedule or None,
        "paused": backups.paused,
        "trouble": backups.trouble or None,
    }
