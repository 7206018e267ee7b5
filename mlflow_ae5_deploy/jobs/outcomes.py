"""How the last backup, check of a snapshot, drill, thinning out and look at the backups ended.

Only what was seen is noted, and it stands until a later one of the same kind was seen to end well. Pure but for `note`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mlflow_ae5_deploy.common.errors import NotFound, PartlyDone, RepositoryFailed, SnapshotDamaged
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.engine.records import Outcome, Sample, SnapshotRecord

if TYPE_CHECKING:
    from mlflow_ae5_deploy.engine.job_result import JobResult
    from mlflow_ae5_deploy.engine.state import SavedState
    from mlflow_ae5_deploy.jobs.tasks import JobRequest

BACKUP, CHECK, DRILL, PRUNE, REPOSITORY = "backup", "check", "drill", "prune", "repository"
DAMAGED, NO_REPOSITORY = SnapshotDamaged.exit_code, RepositoryFailed.exit_code
NO_SNAPSHOT, INCOMPLETE = NotFound.exit_code, PartlyDone.exit_code


def kind_of(task: JobRequest) -> str | None:
    if task.command == "Drill":
        return DRILL
    if task.command == "Backup":
        return {"create": BACKUP, "verify": CHECK, "prune": PRUNE}.get(
            task.words[0] if task.words else "create", REPOSITORY
        )
    reads = task.command == "Restore" and not {"--undo", "--list-saved", "--drop-saved"} & set(task.words)
    return CHECK if reads else None


def learned(task: JobRequest, job_result: JobResult, when: datetime, *, good: bool, newest: str) -> list[Outcome]:
    """What one run tells. good: it did its work. newest: the id of the newest snapshot known here, or empty."""
    kind, report, asked = kind_of(task), job_result.report, _asked(task)
    if kind is None:
        return []
    snapshot = str(report.get("snapshot") or (asked if asked != "latest" else ""))
    is_newest = asked == "latest" or (snapshot != "" and snapshot == newest)
    if kind == PRUNE:  # what it is told to drop is not what it is about
        snapshot, is_newest = "", True
    if good or (kind == BACKUP and job_result.exit_code == INCOMPLETE):
        own = Outcome(kind, when, True, snapshot=snapshot, newest=is_newest)
        return [*([own] if kind != REPOSITORY else []), *_newest_damaged(report, when), Outcome(REPOSITORY, when, True)]
    failed = _failed(task, kind, job_result, missed=asked == "latest" and newest != "")
    hint = scrub(str(report.get("hint") or ""))
    ran = failed != CHECK or job_result.exit_code == DAMAGED
    return (
        [Outcome(failed, when, False, job_result.message, hint, snapshot, is_newest, ran, job_result.reported)]
        if failed
        else []
    )


def _failed(task: JobRequest, kind: str, job_result: JobResult, *, missed: bool) -> str | None:
    """What its failure is one of. missed: there was a snapshot, and none was asked for by its name."""
    code = job_result.exit_code
    if code == NO_SNAPSHOT and not missed:
        return None
    if kind == PRUNE:  # else it was refused for a reason of its own, and nothing is the matter
        return {DAMAGED: PRUNE, NO_REPOSITORY: PRUNE, NO_SNAPSHOT: REPOSITORY}.get(code or 0)
    if task.command != "Restore" and kind != REPOSITORY:
        return kind
    if code == DAMAGED:  # a restore that names no snapshot means its ledger
        return CHECK if kind == REPOSITORY or job_result.report.get("snapshot") else None
    # what a restore finds full or not writable may be the place of the data
    return REPOSITORY if code == NO_SNAPSHOT or (code == NO_REPOSITORY and kind == REPOSITORY) else None


def _asked(task: JobRequest) -> str:
    """The snapshot that was named, or `latest`."""
    named = [word for option, word in pairwise(task.words) if option in ("--snapshot", "--drop-damaged")]
    return named[0] if named else "latest"


def _newest_damaged(report: Mapping[str, Any], when: datetime) -> list[Outcome]:
    """A list names what is damaged, a prune what turned out to lack something, and both end well all the same."""
    listed, lacking = report.get("snapshots"), report.get("incomplete")
    last = listed[-1] if isinstance(listed, list) and listed else None
    if isinstance(last, dict) and last.get("damaged"):
        return [Outcome(CHECK, when, False, scrub(str(last["damaged"])), snapshot=str(last.get("snapshot") or ""))]
    newest = (report.get("kept") or [None])[-1] if isinstance(report.get("kept"), list) else None
    for item in lacking if isinstance(lacking, list) else []:
        if isinstance(item, dict) and newest is not None and item.get("snapshot") == newest:
            return [Outcome(CHECK, when, False, scrub(str(item.get("what"))), snapshot=str(newest))]
    return []


def latest(outcomes: Iterable[Outcome]) -> dict[str, Outcome]:
    """What stands, by kind. That an older snapshot is right does not make up for what is wrong with another, and a
    check that came to no verdict does not hide one that has found something."""
    standing: dict[str, Outcome] = {}
    for outcome in sorted(outcomes, key=lambda item: item.when):
        before = standing.get(outcome.of)
        if before is not None and not before.passed:
            other = outcome.passed and not outcome.newest and outcome.snapshot != before.snapshot
            if other or (before.ran and not outcome.ran):
                continue
        standing[outcome.of] = outcome
    return standing


# state ------------------------------------------------------------------------------------------------------------


def note(state: SavedState, task: JobRequest, job_result: JobResult, when: datetime, *, good: bool) -> None:
    """Record what was learned, also of the newest snapshot that is known here."""
    known = state.snapshot
    newest = known.id if known else ""
    found = learned(task, job_result, when, good=good, newest=newest)
    if found:
        state.outcomes = latest([*state.outcomes.values(), *found])
    about_newest = newest != "" and job_result.report.get("snapshot") == newest
    if known is not None and about_newest and good and kind_of(task) == CHECK:
        state.snapshot = checked(known, job_result.report, when)
    elif known is not None and (
        (about_newest and job_result.exit_code == DAMAGED) or (good and any(_failed_of(newest, item) for item in found))
    ):
        state.snapshot = replace(known, verified=None, sampled=None, damaged=True)
    state.save()


def checked(known: SnapshotRecord, report: Mapping[str, Any], now: datetime) -> SnapshotRecord:
    """What a successful check shows. After one that read a part only, an earlier complete one still counts."""
    read, of = report.get("checked_objects"), report.get("of_objects")
    if read == of:
        return replace(known, verified=now, sampled=None, damaged=False)
    return replace(known, sampled=Sample(now, read, of), damaged=False)


def _failed_of(snapshot: str, outcome: Outcome) -> bool:
    return not outcome.passed and outcome.snapshot == snapshot
