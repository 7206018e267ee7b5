"""How the last backup, check, drill, prune and listing of the repository ended.

Only observed runs count; a failure stands until a later run of the same kind was seen to succeed. Pure but for `note`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any

from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.engine.records import Outcome, Sample, SnapshotRecord
from mlflow_ae5_deploy.engine.state import SavedState
from mlflow_ae5_deploy.jobs.contract import INCOMPLETE, NOT_FOUND, REPOSITORY_FAILED, SNAPSHOT_DAMAGED
from mlflow_ae5_deploy.jobs.reports import BackupReport, Report, RestoreReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.jobs.tasks import JobRequest
from mlflow_ae5_deploy.jobs.text import missing_since, started

BACKUP, CHECK, DRILL, PRUNE, REPOSITORY = "backup", "check", "drill", "prune", "repository"
_ACTIONS = {"create": BACKUP, "verify": CHECK, "prune": PRUNE}
_OWN_OPTIONS = {"--undo", "--list-saved", "--drop-saved"}  # a restore with one of these reads no snapshot


def kind_of(task: JobRequest[Any]) -> str | None:
    if task.command == "Drill":
        return DRILL
    if task.command == "Backup":
        return _ACTIONS.get(task.words[0] if task.words else "create", REPOSITORY)
    return CHECK if task.command == "Restore" and not _OWN_OPTIONS & set(task.words) else None


def outcomes_of(task: JobRequest[Any], job_result: JobResult[Report], when: datetime, *, newest: str) -> list[Outcome]:
    """What one run shows. newest: the id of the newest recorded snapshot, or empty."""
    kind, report, requested = kind_of(task), job_result.report, _requested(task)
    if kind is None:
        return []
    snapshot = report.snapshot or (requested if requested != "latest" else "")
    is_newest = requested == "latest" or (snapshot != "" and snapshot == newest)
    if kind == PRUNE:  # the snapshot it names is the one to drop
        snapshot, is_newest = "", True
    if job_result.succeeded or (kind == BACKUP and job_result.exit_code == INCOMPLETE):
        own = Outcome(kind, when, True, snapshot=snapshot, newest=is_newest)
        preview = kind == PRUNE and report.outcome == "dry-run"
        return [
            *([own] if kind != REPOSITORY and not preview else []),
            *_pruned_after_backup(report, when),
            *_newest_damaged(report, when),
            Outcome(REPOSITORY, when, True),
        ]
    failed = _failed(task, kind, job_result, missed=requested == "latest" and newest != "")
    if failed is None:
        return []
    ran = failed != CHECK or job_result.exit_code == SNAPSHOT_DAMAGED
    message, hint = job_result.message, scrub(report.hint)
    return [Outcome(failed, when, False, message, hint, snapshot, is_newest, ran, job_result.reported)]


def _failed(task: JobRequest[Any], kind: str, job_result: JobResult[Report], *, missed: bool) -> str | None:
    """The kind of this failure. missed: a snapshot exists, and none was named by id."""
    code = job_result.exit_code
    if code == NOT_FOUND and not missed:
        return None
    if kind == PRUNE:  # with another code it was refused, and nothing is wrong with the repository
        return {SNAPSHOT_DAMAGED: PRUNE, REPOSITORY_FAILED: PRUNE, NOT_FOUND: REPOSITORY}.get(code or 0)
    if task.command != "Restore" and kind != REPOSITORY:
        return kind
    if code == SNAPSHOT_DAMAGED:  # without a snapshot, a restore means its own journal
        return CHECK if kind == REPOSITORY or job_result.report.snapshot else None
    # What a restore finds full or not writable may be the location of the data.
    return REPOSITORY if code == NOT_FOUND or (code == REPOSITORY_FAILED and kind == REPOSITORY) else None


def _requested(task: JobRequest[Any]) -> str:
    """The snapshot that was named, or `latest`."""
    named = [word for option, word in pairwise(task.words) if option in ("--snapshot", "--drop-damaged")]
    return named[0] if named else "latest"


def _pruned_after_backup(report: Report, when: datetime) -> list[Outcome]:
    if not isinstance(report, BackupReport) or report.action != "create":
        return []
    if report.prune_error:
        return [Outcome(PRUNE, when, False, scrub(report.prune_error), scrub(report.prune_hint))]
    return [Outcome(PRUNE, when, True)] if report.kept else []


def _newest_damaged(report: Report, when: datetime) -> list[Outcome]:
    """Damage that a successful list or prune shows of the newest snapshot."""
    if not isinstance(report, BackupReport):
        return []
    damage = {line.snapshot: line.damaged for line in report.snapshots[-1:] if line.damaged}
    damage |= {item.snapshot: item.what for item in report.incomplete if item.snapshot in report.kept[-1:]}
    return [Outcome(CHECK, when, False, scrub(what), snapshot=snapshot) for snapshot, what in damage.items()][:1]


def latest(outcomes: Iterable[Outcome]) -> dict[str, Outcome]:
    """The outcome that stands, by kind.

    A good older snapshot does not clear a failure of another one, and a run without a result hides no failure.
    """
    standing: dict[str, Outcome] = {}
    for outcome in sorted(outcomes, key=lambda item: item.when):
        before = standing.get(outcome.of)
        if before is not None and not before.passed:
            other = outcome.passed and not outcome.newest and outcome.snapshot != before.snapshot
            if other or (before.ran and not outcome.ran) or (before.reported and not outcome.reported):
                continue
        standing[outcome.of] = outcome
    return standing


# state ------------------------------------------------------------------------------------------------------------


def note(state: SavedState, task: JobRequest[Any], job_result: JobResult[Report], when: datetime) -> None:
    """Record what was learned, also about the newest snapshot known on this machine."""
    snapshot = state.snapshot
    newest = snapshot.id if snapshot else ""
    report, last = job_result.report, state.restore
    deleted = report.deleted if isinstance(report, RestoreReport) else None
    if last is not None and deleted is not None and deleted.name == last.saved_copy:
        state.restore = replace(last, saved_copy="")
    outcomes = outcomes_of(task, job_result, when, newest=newest)
    if outcomes:
        state.outcomes = latest([*state.outcomes.values(), *outcomes])
    succeeded = job_result.succeeded
    about_newest = newest != "" and job_result.report.snapshot == newest
    damaged = any(not item.passed and item.snapshot == newest for item in outcomes)
    if snapshot is not None and about_newest and succeeded and kind_of(task) == CHECK:
        state.snapshot = checked(snapshot, job_result.report, when)
    elif snapshot is not None and (
        (about_newest and job_result.exit_code == SNAPSHOT_DAMAGED) or (succeeded and damaged)
    ):
        state.snapshot = replace(snapshot, verified=None, sampled=None, damaged=True, protected=None)
    state.save()


def created(report: BackupReport, finished: datetime) -> SnapshotRecord:
    """The record of a new snapshot."""
    complete, gone = report.is_complete, missing_since(report)
    # Complete as far as the store goes: external artifacts do not count.
    protected = None if report.unreadable else started(report.snapshot) or finished
    return SnapshotRecord(
        report.snapshot, finished, complete=complete, gone=gone, protected=protected, runs=report.runs
    )


def protected_from(snapshot: SnapshotRecord, earlier: SnapshotRecord | None) -> SnapshotRecord:
    """With `protected` of an earlier snapshot, where it has none itself."""
    return replace(snapshot, protected=snapshot.protected or (earlier.protected if earlier else None))


def checked(snapshot: SnapshotRecord, report: Report, now: datetime) -> SnapshotRecord:
    """The record after a check that passed. A sample keeps an earlier verification."""
    read, of = None, None
    if isinstance(report, BackupReport | RestoreReport):
        read, of = report.checked_objects, report.of_objects
    if read == of:
        return replace(snapshot, verified=now, sampled=None, damaged=False)
    return replace(snapshot, sampled=Sample(now, read, of), damaged=False)
