"""The backups of an installation as lines of `status`, and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from mlflow_ae5_deploy.common.cron import parse_cron
from mlflow_ae5_deploy.common.durations import duration, iso, moment
from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.engine.records import Outcome, SnapshotRecord
from mlflow_ae5_deploy.jobs.latest_outcomes import BACKUP, CHECK, DRILL
from mlflow_ae5_deploy.operations.status.backups import BackupStatus, since


def words(backups: BackupStatus, now: datetime) -> str:
    """The line on the screen."""
    keeps = ", ".join(f"{rule} {number}" for rule, number in backups.retention) or "every snapshot"
    schedule = f"scheduled {_in_words(backups.schedule)}, keeps {keeps}" if backups.schedule else "not scheduled"
    newest = backups.newest
    if newest is None:
        return f"none recorded on this machine; {schedule}"
    return f"last known {moment(newest.finished, now)}, {_verification(newest, now)}; {schedule}"


def _in_words(cron: str) -> str:
    try:
        return f"{parse_cron(cron).phrase} UTC"
    except Configuration:
        return f"{cron} UTC"


def unsaved(backups: BackupStatus, now: datetime) -> str:
    """Since when data is in no complete snapshot."""
    if backups.newest is None:
        return "no snapshot is known"
    return f"data since {since(backups.newest, now)} is in no complete snapshot known here"


def last(backups: BackupStatus, kind: str, now: datetime) -> str:
    """The line of a check or drill: its last result, and its schedule."""
    cron, outcome = dict(backups.schedules).get(kind), _outcome(backups, kind)
    schedule = f"scheduled {_in_words(cron)}" if cron else "not scheduled"
    result = "none known" if outcome is None else f"{moment(outcome.when, now)}, {_result(outcome)}"
    return f"{result}; {schedule}"


def _result(outcome: Outcome) -> str:
    if outcome.passed:
        return "passed"
    if not outcome.reported:
        return "result unknown"
    return "FAILED" if outcome.ran else "did not finish"


def _outcome(backups: BackupStatus, kind: str) -> Outcome | None:
    return next((outcome for outcome in backups.outcomes if outcome.of == kind), None)


def _verification(newest: SnapshotRecord, now: datetime) -> str:
    if newest.damaged:
        return "DAMAGED"
    if newest.verified is not None:
        return f"verified {duration(now - newest.verified)} ago"
    if newest.sampled is not None:
        return f"sampled, {newest.sampled.checked} of {newest.sampled.of} read, not verified"
    return "not verified"


def data(backups: BackupStatus) -> dict[str, Any]:
    newest = backups.newest
    return {
        "snapshot": newest.id if newest else None,
        "finished": iso(newest.finished) if newest else None,
        "verified": iso(newest.verified) if newest else None,
        "sampled": {**asdict(newest.sampled), "at": iso(newest.sampled.at)} if newest and newest.sampled else None,
        "damaged": newest.damaged if newest else None,
        "complete": newest.complete if newest else None,
        "missing": newest.gone or None if newest else None,
        "protected": iso(newest.protected) if newest else None,
        "overdue": backups.overdue,
        "schedule": backups.schedule or None,
        "retention": dict(backups.retention),
        "paused": BACKUP in backups.paused,
        "check": _last_data(backups, CHECK),
        "drill": _last_data(backups, DRILL),
        "missed": [{"what": item.what, "due": iso(item.due), "again": item.again} for item in backups.missed],
        "recreated": bool(backups.recreated),
        "failed": [
            {
                "what": item.of,
                "seen": iso(item.when),
                "message": item.message,
                "snapshot": item.snapshot or None,
            }
            for item in backups.failed
        ],
        "unreadable": list(backups.unreadable),
    }


def _last_data(backups: BackupStatus, kind: str) -> dict[str, Any]:
    outcome = _outcome(backups, kind)
    return {
        "last": iso(outcome.when) if outcome else None,
        "passed": outcome.passed if outcome and outcome.reported else None,
        "schedule": dict(backups.schedules).get(kind),
        "paused": kind in backups.paused,
    }
