"""Whether the backups are still those that were seen before: each place of backups has an id of its own, given when its
first snapshot was made. Where a volume is not mounted, the next backup begins a new place below its mount point, and
everything looks as it should but for that id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import RepositoryRecord
from mlflow_ae5_deploy.resources import backup_destination

_KEY = "repository"  # in a job's last line


@dataclass(frozen=True)
class ObservedRepository:
    """A place of backups, as a job has seen it."""

    id: str
    when: datetime


def note(context: Context, state: Mapping[str, Any], *, accept: bool = False) -> None:
    """Remember what a job of Backup has seen. The first place stays the one that is known until the setting is another
    one, or a person accepts what is there now."""
    found, record, now = state.get(_KEY), context.state.repository, context.clock.now()
    if not isinstance(found, str):
        return
    setting = context.state.fingerprint(backup_destination.destination(context))
    if record is None or accept or record.snapshots == 0 or record.setting != setting:
        record = RepositoryRecord(setting, found, None, found, now)
    number = _number(state) if found == record.id else None
    context.state.repository = replace(
        record, seen=found, when=now, snapshots=record.snapshots if number is None else number
    )
    context.state.save()


def recreated(context: Context, later: Iterable[ObservedRepository] = ()) -> str:
    """A sentence where the place that was seen last is another one than the one that is known; else nothing.

    later: what runs of the schedule have seen; those before what is remembered do not count.
    """
    record = context.state.repository
    if record is None or _setting(context) not in (None, record.setting):
        return ""
    last, number = ObservedRepository(record.seen, record.when), record.snapshots
    if max([last, *later], key=lambda item: item.when).id == record.id:
        return ""
    earlier = "earlier snapshots" if number is None else counted(number, "earlier snapshots")
    return (
        f"The backups in {backup_destination.shown(context)} began anew: {earlier} known here "
        f"{'is' if number == 1 else 'are'} not there. Is the volume mounted? "
        "If it is a new place on purpose, `backup list --new-repository` says so."
    )


def sighting(state: Mapping[str, Any], when: datetime | None) -> list[ObservedRepository]:
    found = state.get(_KEY)
    return [ObservedRepository(found, when)] if isinstance(found, str) and when is not None else []


def _setting(context: Context) -> str | None:
    """None where it cannot be told without asking a person."""
    desired = context.settings.backup.destination
    if isinstance(desired, SecretRef) and desired.kind == "prompt":
        return None
    try:
        return context.state.fingerprint(backup_destination.destination(context))
    except DeployError:
        return None


def _number(state: Mapping[str, Any]) -> int | None:
    """How many snapshots are there, where the job tells."""
    key = {"list": "snapshots", "prune": "kept"}.get(str(state.get("action")), "snapshot_count")
    if state.get("outcome") == "dry-run":
        return None
    found = state.get(key)
    if isinstance(found, list):
        return len(found)
    return found if isinstance(found, int) else None
