"""The state of backups without starting a job: from the logs of recorded runs, and this machine's own records."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from mlflow_ae5_deploy.ae5.models import Job, Project, Run
from mlflow_ae5_deploy.common.durations import duration, iso, moment
from mlflow_ae5_deploy.common.text import as_sentence
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import Outcome, SnapshotRecord
from mlflow_ae5_deploy.jobs import latest_outcomes, runner, tasks
from mlflow_ae5_deploy.jobs.contract import ARGUMENTS, INCOMPLETE
from mlflow_ae5_deploy.jobs.interrupted import ended, interrupted_run, result_of
from mlflow_ae5_deploy.jobs.latest_outcomes import BACKUP, CHECK, DRILL, PRUNE, REPOSITORY
from mlflow_ae5_deploy.jobs.reports import BackupReport, Report
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.jobs.tasks import JobRequest
from mlflow_ae5_deploy.jobs.text import missing_since
from mlflow_ae5_deploy.operations import missed
from mlflow_ae5_deploy.operations.health_problem import HealthProblem
from mlflow_ae5_deploy.operations.missed import Missed
from mlflow_ae5_deploy.resources import backup_repository, job_specs, scheduled_job
from mlflow_ae5_deploy.resources.backup_repository import ObservedRepository

OLD = timedelta(days=7)  # where no schedule says when the next is due
_RUNS_READ = 5  # runs of the job, newest first, until one is found that made a snapshot
_SCHEDULED: dict[str, JobRequest[Any]] = {
    job_specs.BACKUP: tasks.backup("create"),
    job_specs.DRILL: tasks.drill("latest"),
}
_ONE_OFF: tuple[JobRequest[Any], ...] = (
    tasks.backup("create"),
    tasks.backup("verify"),
    tasks.drill("latest"),
    tasks.restore(),
    tasks.restore("--dry-run"),
)
RunsOf = Callable[[str], list[Run]]
_NAMES = {
    BACKUP: "backup",
    CHECK: "backup check",
    DRILL: "drill",
    PRUNE: "prune of backups",
    REPOSITORY: "list of backups",
}
# kind -> code, problem
_UNCHECKED = ("backup-not-checked", "The last check of {snapshot} did not finish on {when}: {message}.")
_UNKNOWN = "result-unknown"
_FAILURES = {
    BACKUP: ("backup-failed", "The last backup failed on {when}: {message}."),
    CHECK: ("backup-damaged", "The last check of {snapshot} failed on {when}: {message}."),
    DRILL: ("drill-failed", "The last drill failed on {when}: {message}."),
    PRUNE: ("prune-failed", "The last prune of backups failed on {when}: {message}."),
    REPOSITORY: ("repository-missing", "The backup repository was not found on {when}: {message}."),
}
_PAUSED = {BACKUP: "backup-paused", DRILL: "drill-paused"}
_AFTERWARDS = {BACKUP: "`backup`", DRILL: "`drill`", REPOSITORY: "`backup list`", PRUNE: "`backup prune --yes`"}


@dataclass(frozen=True)
class BackupStatus:
    newest: SnapshotRecord | None = None
    schedule: str = ""  # cron of the backup job; empty where there is none
    retention: tuple[tuple[str, int], ...] = ()  # of that job: (last, daily or weekly; number of snapshots it keeps)
    paused: tuple[str, ...] = ()  # scheduled jobs that are paused
    failed: tuple[Outcome, ...] = ()  # the last outcome of each kind, if it failed
    unreadable: tuple[str, ...] = ()  # scheduled jobs whose last run ended, with an unreadable log
    recreated: str = ""  # a sentence where the destination holds another repository than before
    missed: tuple[Missed, ...] = ()


def observe_backups(context: Context, project: Project | None) -> BackupStatus:
    recorded = context.state.snapshot
    newest_id = recorded.id if recorded else ""
    seen = [*context.state.outcomes.values()]
    repositories: list[ObservedRepository] = []

    def learn(task: JobRequest[Any], run: Run, job_result: JobResult[Report]) -> None:
        when = ended(run, job_result)
        repositories.extend(backup_repository.observed(job_result.report, when))
        if when is not None:
            seen.extend(latest_outcomes.learned(task, job_result, when, newest=newest_id))

    for task in _ONE_OFF:
        left = interrupted_run(context, project, task)
        if left is not None and left.job_result is not None:
            learn(left.task, left.run, left.job_result)
    runs_of = functools.cache(lambda job_id: context.platform.runs(job_id))  # signs in only when it is needed
    created, unreadable, paused, scheduled = None, [], [], None
    for command, task in _SCHEDULED.items():
        desired = job_specs.backup_job(context.settings, command, "")
        job = next(iter(scheduled_job.jobs_for(context.cached.jobs(), project, desired)), None)
        runs = _ended(runs_of, job)
        last = result_of(context, task.report, runs[0]) if runs else None
        if last is not None:
            learn(task, runs[0], last)
        elif runs and runs[0].created is not None and runs[0].state != "completed":
            message = f"the platform reports {runs[0].state}; the log of that run cannot be read"
            seen.append(Outcome(command.lower(), runs[0].created, False, message))
        elif runs:
            unreadable.append(command.lower())
        if job is not None and scheduled_job.is_paused(job):
            paused.append(command.lower())
        if command == job_specs.BACKUP:
            scheduled, created = job, _created(context, runs, last)
    return BackupStatus(
        _newest(recorded, created),
        (scheduled.schedule or "") if scheduled else "",
        _retention(scheduled) if scheduled else (),
        tuple(paused),
        tuple(item for item in latest_outcomes.latest(seen).values() if not item.passed),
        tuple(unreadable),
        backup_repository.recreated(context, repositories),
        _missed(context, project, runs_of, [*seen, *_as_outcome(recorded), *_as_outcome(created)]),
    )


def _as_outcome(snapshot: SnapshotRecord | None) -> list[Outcome]:
    return [Outcome(BACKUP, snapshot.finished, True)] if snapshot else []


def _missed(context: Context, project: Project | None, runs_of: RunsOf, done: list[Outcome]) -> tuple[Missed, ...]:
    """done: backups, checks and drills, also those that were not scheduled."""
    now, items = context.clock.now(), []
    for job in context.cached.jobs():
        kind = _kind(context, job)
        if project is None or job.project_id != project.id or not job.schedule or kind is None:
            continue
        when = [outcome.when for outcome in done if outcome.of == kind]
        items.append(missed.missed(_NAMES[kind], job, runs_of(job.id), now, done=when))
    return tuple(item for item in items if item is not None)


def _kind(context: Context, job: Job) -> str | None:
    """What a job of the project does, by its command and options."""
    for command in _SCHEDULED:
        if job.command == runner.command_of(context.settings, command):
            words = job.variables.get(ARGUMENTS[command], "").split()
            return latest_outcomes.kind_of(JobRequest(command, Report, tuple(words), ""))
    return None


def _retention(job: Job) -> tuple[tuple[str, int], ...]:
    arguments = job.variables.get(ARGUMENTS[job_specs.BACKUP], "")
    return tuple((rule, int(number)) for rule, number in re.findall(r"--keep-(last|daily|weekly) (\d+)", arguments))


def _ended(runs_of: RunsOf, job: Job | None) -> list[Run]:
    """Its ended runs with a date, newest first."""
    runs = [] if job is None else [run for run in runs_of(job.id) if not run.is_active and run.created]
    return sorted(runs, key=lambda run: run.created.timestamp() if run.created else 0.0, reverse=True)


def _created(context: Context, newest_first: list[Run], last: JobResult[BackupReport] | None) -> SnapshotRecord | None:
    """The newest snapshot of these runs. last: the result of the first of them."""
    for number, run in enumerate(newest_first[:_RUNS_READ]):
        job_result = result_of(context, BackupReport, run) if number else last
        if job_result is None or not (job_result.succeeded or job_result.exit_code == INCOMPLETE):
            continue
        report, finished = job_result.report, ended(run, job_result)
        if report.snapshot and finished is not None:
            return SnapshotRecord(report.snapshot, finished, complete=report.is_complete, gone=missing_since(report))
    return None


def _newest(recorded: SnapshotRecord | None, created: SnapshotRecord | None) -> SnapshotRecord | None:
    """Of the same snapshot the record, which knows whether it was verified."""
    if recorded is None or created is None or recorded.id == created.id:
        return recorded or created
    return max(recorded, created, key=lambda item: item.finished)


def problems(backups: BackupStatus, now: datetime) -> list[HealthProblem]:
    """Pure. A failure stands until a later run of its kind succeeds."""
    found, newest = [_failure(outcome, now) for outcome in backups.failed], backups.newest
    if backups.recreated:
        found.append(HealthProblem("repository-replaced", backups.recreated))
    for name in backups.unreadable:
        text = f"The result of the last scheduled {name} is unknown: the log of its run cannot be read."
        found.append(HealthProblem(_UNKNOWN, text))
    found += [HealthProblem(_PAUSED[name], f"The scheduled {name} is paused.") for name in backups.paused]
    found += missed.problems(backups.missed)
    if newest is None:
        return [*found, HealthProblem("no-backup", "No backup recorded on this machine.")]
    if (BACKUP in backups.paused or not backups.schedule) and now - newest.finished > OLD:
        text = f"The newest snapshot known on this machine is {duration(now - newest.finished)} old."
        found.append(HealthProblem("backup-old", text))
    if not newest.complete:
        text = f"Snapshot {newest.id} lacks artifacts: they are unreadable, or outside the store."
        found.append(HealthProblem("backup-incomplete", text))
    if newest.gone:
        found.append(HealthProblem("backup-shrunk", f"{newest.gone}."))
    return found


def _failure(outcome: Outcome, now: datetime) -> HealthProblem:
    code, what = _FAILURES[outcome.of] if outcome.ran else _UNCHECKED
    if not outcome.reported:
        code, what = _UNKNOWN, f"The last {_NAMES[outcome.of]} finished on {{when}}, result unknown: {{message}}."
    text = what.format(
        when=moment(outcome.when, now),
        message=outcome.message.rstrip("."),
        snapshot=f"snapshot {outcome.snapshot}" if outcome.snapshot else "a snapshot",
    )
    return HealthProblem(code, text, _remedy(outcome))


def _remedy(outcome: Outcome) -> str:
    """Empty: the usual one of the code."""
    if outcome.of == CHECK and outcome.ran:
        return ""
    hint = outcome.hint or ("" if outcome.reported else "read its log")
    return f"{as_sentence(hint)} Then run {_AFTERWARDS.get(outcome.of, '`backup verify`')}." if hint else ""


def words(backups: BackupStatus, now: datetime) -> str:
    """The line on the screen."""
    keeps = ", ".join(f"{rule} {number}" for rule, number in backups.retention) or "every snapshot"
    schedule = f"scheduled {backups.schedule} UTC, keeps {keeps}" if backups.schedule else "not scheduled"
    newest = backups.newest
    if newest is None:
        return f"none recorded on this machine; {schedule}"
    return f"{moment(newest.finished, now)}, {_verification(newest, now)}; {schedule}"


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
        "schedule": backups.schedule or None,
        "retention": dict(backups.retention),
        "paused": BACKUP in backups.paused,
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
