"""What is known of backups without starting a job: the logs of runs that are on record, and what was remembered of
those that were asked for from this machine."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from mlflow_ae5_deploy.ae5.models import Job, Project, Run
from mlflow_ae5_deploy.common.durations import duration
from mlflow_ae5_deploy.common.text import as_sentence
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.engine.records import Outcome, SnapshotRecord
from mlflow_ae5_deploy.jobs import outcomes, runner, tasks
from mlflow_ae5_deploy.jobs.interrupted import ended, job_result_of, left
from mlflow_ae5_deploy.jobs.outcomes import BACKUP, CHECK, DRILL, PRUNE, REPOSITORY
from mlflow_ae5_deploy.jobs.tasks import JobRequest
from mlflow_ae5_deploy.jobs.text import external, gone_since, unreadable
from mlflow_ae5_deploy.operations.missed import Missed, missed
from mlflow_ae5_deploy.operations.missed import problems as missed_problems
from mlflow_ae5_deploy.operations.missed import warnings as missed_warnings
from mlflow_ae5_deploy.resources import backup_job, backup_repository, scheduled_job

OLD = timedelta(days=7)  # where no schedule says when the next is due
_LOOKED_AT = 5  # runs of the job, newest first, until one is found that made a snapshot
_SCHEDULED = {backup_job.BACKUP: tasks.backup("create"), backup_job.DRILL: tasks.drill("latest")}
_SINGLE = (
    tasks.backup("create"),
    tasks.backup("verify"),
    tasks.drill("latest"),
    tasks.restore(),
    tasks.restore("--dry-run"),
)
RunsOf = Callable[[str], list[Run]]
WHOLE = "are the database and the volume of the artifacts whole? If they were removed on purpose, all is well."
_CALLED = {
    BACKUP: "backup",
    CHECK: "check of the backups",
    DRILL: "drill",
    PRUNE: "prune",
    REPOSITORY: "list of backups",
}
# kind -> what is wrong, what to do
_NOT_CHECKED = (
    "The last check of {snapshot} that is known here did not come to its end ({when}): {message}.",
    "{hint} Then read it back with `backup verify`.",
)
_TROUBLE = {
    BACKUP: ("The last backup that is known here failed ({when}): {message}.", "{hint} Then run `backup`."),
    CHECK: (
        "The last check of {snapshot} that is known here failed ({when}): {message}.",
        "Make another snapshot with `backup`, and read it back with `backup verify`.",
    ),
    DRILL: ("The last drill that is known here failed ({when}): {message}.", "Mend that, then prove it with `drill`."),
    PRUNE: ("The last prune of the backups that is known here failed ({when}): {message}.", "{hint}"),
    REPOSITORY: (
        "The backups were not found when they were last looked for ({when}): {message}.",
        "{hint} `backup list` looks again.",
    ),
}


@dataclass(frozen=True)
class BackupStatus:
    """schedule: cron of the job, empty where there is none. failed: of each kind the last that is known, if it failed.
    unreadable: scheduled jobs of whose last run nothing is known but that it ended. anew: what is said where the place
    of the backups is another one than before. missed: scheduled runs that did not begin."""

    newest: SnapshotRecord | None = None
    schedule: str = ""
    paused: bool = False
    failed: tuple[Outcome, ...] = ()
    unreadable: tuple[str, ...] = ()
    recreated: str = ""
    missed: tuple[Missed, ...] = ()


def look_at_backups(context: Context, project: Project | None) -> BackupStatus:
    known = context.state.snapshot
    ids = {"newest": known.id if known else ""}
    seen = [*context.state.outcomes.values()]
    repositories: list[backup_repository.ObservedRepository] = []
    for task in _SINGLE:
        found = left(context, project, task)
        if found is not None and found.job_result is not None:
            seen += _learned(found.task, found.run, found.job_result, **ids)
            repositories += _repository(found.task, found.run, found.job_result)
    runs_of = functools.cache(lambda job_id: context.platform.runs(job_id))  # signs in only when it is asked
    made, unreadable, scheduled = None, [], None
    for command, task in _SCHEDULED.items():
        desired = backup_job.desired_job(context.settings, command, "")
        job = next(iter(scheduled_job.jobs_for(context.cached.jobs(), project, desired)), None)
        runs = _ended(runs_of, job)
        last = job_result_of(context, runs[0]) if runs else None
        if last is not None:
            seen += _learned(task, runs[0], last, **ids)
            repositories += _repository(task, runs[0], last)
        elif runs and runs[0].created is not None and runs[0].state != "completed":
            message = f"the platform says {runs[0].state}, and the log of that run cannot be read"
            seen.append(Outcome(command.lower(), runs[0].created, False, message))
        elif runs:
            unreadable.append(command.lower())
        if command == backup_job.BACKUP:
            scheduled, made = job, _made(context, runs, last)
    return BackupStatus(
        _newest(known, made),
        (scheduled.schedule or "") if scheduled else "",
        scheduled is not None and scheduled_job.is_paused(scheduled),
        tuple(item for item in outcomes.latest(seen).values() if not item.passed),
        tuple(unreadable),
        backup_repository.recreated(context, repositories),
        _missed(context, project, runs_of, [*seen, *_as_done(known), *_as_done(made)]),
    )


def _as_done(snapshot: SnapshotRecord | None) -> list[Outcome]:
    return [Outcome(BACKUP, snapshot.finished, True)] if snapshot else []


def _missed(context: Context, project: Project | None, runs_of: RunsOf, done: list[Outcome]) -> tuple[Missed, ...]:
    """done: what is known of backups, checks and drills, also of those that were not scheduled."""
    now, found = context.clock.now(), []
    for job in context.cached.jobs():
        kind = _kind(context, job)
        if project is None or job.project_id != project.id or not job.schedule or kind is None:
            continue
        when = [outcome.when for outcome in done if outcome.of == kind]
        found.append(missed(_CALLED[kind], job, runs_of(job.id), now, done=when))
    return tuple(item for item in found if item is not None)


def _kind(context: Context, job: Job) -> str | None:
    """What a job of the project does, by its command and words."""
    for command in _SCHEDULED:
        if job.command == runner.command_of(context.settings, command):
            words = job.variables.get(tasks.ARGUMENTS[command], "").split()
            return outcomes.kind_of(JobRequest(command, tuple(words), ""))
    return None


def _repository(task: JobRequest, run: Run, job_result: JobResult) -> list[backup_repository.ObservedRepository]:
    return (
        backup_repository.sighting(job_result.report, ended(run, job_result))
        if task.command == backup_job.BACKUP
        else []
    )


def _learned(task: JobRequest, run: Run, job_result: JobResult, newest: str) -> list[Outcome]:
    when = ended(run, job_result)
    if when is None:
        return []
    return outcomes.learned(task, job_result, when, good=runner.succeeded(job_result), newest=newest)


def _ended(runs_of: RunsOf, job: Job | None) -> list[Run]:
    """Its runs that have ended and tell their time, newest first."""
    runs = [] if job is None else [run for run in runs_of(job.id) if not run.is_active and run.created]
    return sorted(runs, key=lambda run: run.created.timestamp() if run.created else 0.0, reverse=True)


def _made(context: Context, newest_first: list[Run], last: JobResult | None) -> SnapshotRecord | None:
    """The newest snapshot that these runs made. last: what the first of them came to."""
    for number, run in enumerate(newest_first[:_LOOKED_AT]):
        job_result = job_result_of(context, run) if number else last
        if job_result is None or not (runner.succeeded(job_result) or job_result.exit_code == runner.INCOMPLETE):
            continue
        finished = ended(run, job_result)
        if job_result.report.get("snapshot") and finished is not None:
            report = job_result.report
            complete, gone = not external(report) and not unreadable(report), gone_since(report)
            return SnapshotRecord(str(report["snapshot"]), finished, complete=complete, gone=gone)
    return None


def _newest(known: SnapshotRecord | None, made: SnapshotRecord | None) -> SnapshotRecord | None:
    """What is remembered also knows whether it was verified."""
    if known is None or made is None or known.id == made.id:
        return known or made
    return max(known, made, key=lambda item: item.finished)


def problems(backups: BackupStatus) -> list[str]:
    """Pure. They stay until a later one of their kind has ended well."""
    return [
        *(_trouble(outcome) for outcome in backups.failed),
        *([backups.recreated] if backups.recreated else []),
        *missed_problems(backups.missed),
    ]


def _trouble(outcome: Outcome) -> str:
    told, advice = _TROUBLE[outcome.of] if outcome.ran else _NOT_CHECKED
    if not outcome.reported:
        told = (
            f"The last {_CALLED[outcome.of]} that is known here has finished, result unknown ({{when}}): {{message}}."
        )
    return f"{told} {advice}".format(
        when=f"{outcome.when:%Y-%m-%d %H:%M} UTC",
        message=outcome.message.rstrip("."),
        hint=as_sentence(outcome.hint or ("mend that" if outcome.reported else "read its log")),
        snapshot=f"snapshot {outcome.snapshot}" if outcome.snapshot else "a snapshot",
    )


def warnings(backups: BackupStatus, now: datetime) -> list[str]:
    """Pure."""
    found, newest = [], backups.newest
    for name in backups.unreadable:
        found.append(f"How the last scheduled {name} ended is not known: the log of its run cannot be read.")
    if backups.paused:
        found.append("The scheduled backup is paused.")
    found += missed_warnings(backups.missed)
    if newest is None:
        return [*found, "No backup is known here: `backup` makes one, `backup list` shows those made elsewhere."]
    if (backups.paused or not backups.schedule) and now - newest.finished > OLD:
        found.append(f"The newest snapshot that is known here is {duration(now - newest.finished)} old.")
    if not newest.complete:
        found.append(
            f"Snapshot {newest.id} lacks artifacts that are kept outside the server's own place or cannot be read."
        )
    if newest.gone:
        found.append(f"{newest.gone}: {WHOLE}")
    return found


def words(backups: BackupStatus, now: datetime) -> str:
    """The line on the screen."""
    schedule = f"; scheduled {backups.schedule} UTC" if backups.schedule else "; not scheduled"
    newest = backups.newest
    if newest is None:
        return f"none known here{schedule}"
    age = duration(max(now - newest.finished, timedelta()))
    return f"{newest.id}, {age} old, {_proof(newest, now)}{schedule}"


def _proof(newest: SnapshotRecord, now: datetime) -> str:
    if newest.damaged:
        return "DAMAGED"
    if newest.verified is not None:
        return f"verified {duration(max(now - newest.verified, timedelta()))} ago"
    if newest.sampled is not None:
        return f"sampled, {newest.sampled.checked} of {newest.sampled.of} read, not verified"
    return "not verified"


def data(backups: BackupStatus) -> dict[str, Any]:
    newest = backups.newest
    return {
        "snapshot": newest.id if newest else None,
        "finished": newest.finished.isoformat(timespec="seconds") if newest else None,
        "verified": newest.verified.isoformat(timespec="seconds") if newest and newest.verified else None,
        "sampled": {**asdict(newest.sampled), "at": newest.sampled.at.isoformat(timespec="seconds")}
        if newest and newest.sampled
        else None,
        "damaged": newest.damaged if newest else None,
        "complete": newest.complete if newest else None,
        "gone": newest.gone or None if newest else None,
        "schedule": backups.schedule or None,
        "paused": backups.paused,
        "missed": [
            {"what": item.what, "due": item.due.isoformat(timespec="seconds"), "again": item.again}
            for item in backups.missed
        ],
        "recreated": bool(backups.recreated),
        "failed": [
            {
                "what": item.of,
                "seen": item.when.isoformat(timespec="seconds"),
                "message": item.message,
                "snapshot": item.snapshot or None,
            }
            for item in backups.failed
        ],
        "unreadable": list(backups.unreadable),
    }
