"""Detect that the backup destination holds another repository than before.

A repository gets an id when its first snapshot is made. Where a volume is not mounted, the next backup starts a new
repository below its mount point, and only that id shows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import RepositoryRecord
from mlflow_ae5_deploy.jobs.reports import BackupReport, Report
from mlflow_ae5_deploy.resources import backup_destination


@dataclass(frozen=True)
class ObservedRepository:
    """A repository as a job has seen it."""

    id: str
    when: datetime


def note(context: Context, report: BackupReport, *, accept: bool = False) -> None:
    """Record the repository that a job of Backup has used.

    The first one stays the expected one, until the setting changes or a person accepts another.
    """
    seen, record, now = report.repository, context.state.repository, context.clock.now()
    if not seen:
        return
    setting = context.state.fingerprint(backup_destination.destination(context))
    if record is None or accept or record.snapshots == 0 or record.setting != setting:
        record = RepositoryRecord(setting, seen, None, seen, now)
    number = _snapshots(report) if seen == record.id else None
    snapshots = record.snapshots if number is None else number
    context.state.repository = replace(record, seen=seen, when=now, snapshots=snapshots)
    context.state.save()


def recreated(context: Context, later: Iterable[ObservedRepository] = ()) -> str:
    """A sentence where the last repository seen is not the expected one; else empty.

    later: observations of scheduled runs; those older than the recorded one do not count.
    """
    record, setting = context.state.repository, backup_destination.at_hand(context)
    if record is None or (setting is not None and context.state.fingerprint(setting) != record.setting):
        return ""
    last, number = ObservedRepository(record.seen, record.when), record.snapshots
    if max([last, *later], key=lambda item: item.when).id == record.id:
        return ""
    earlier = "earlier snapshots" if number is None else counted(number, "earlier snapshots")
    return (
        f"There is a new backup repository in {backup_destination.shown(context)}: {earlier} "
        f"{'is' if number == 1 else 'are'} missing."
    )


def observed(report: Report, when: datetime | None) -> list[ObservedRepository]:
    if not isinstance(report, BackupReport) or not report.repository or when is None:
        return []
    return [ObservedRepository(report.repository, when)]


def _snapshots(report: BackupReport) -> int | None:
    """How many snapshots the repository has, where the job reports it."""
    if report.outcome == "dry-run":
        return None
    if report.action == "list":
        return len(report.snapshots)
    return len(report.kept) if report.action == "prune" else report.snapshot_count
