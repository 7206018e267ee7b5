"""The state of backups without starting a job: from the logs of recorded runs, and this machine's own records."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from mlflow_ae5_deploy.ae5.models import Job, Project, Run
from mlflow_ae5_deploy.common.durations import moment
from mlflow_ae5_deploy.common.text import as_sentence
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import Outcome, ScheduledJobRecord, SnapshotRecord
from mlflow_ae5_deploy.jobs import latest_outcomes, runner, tasks
from mlflow_ae5_deploy.jobs.contract import ARGUMENTS, INCOMPLETE
from mlflow_ae5_deploy.jobs.interrupted_run import ended, interrupted_run, result_of
from mlflow_ae5_deploy.jobs.latest_outcomes import BACKUP, CHECK, DRILL, PRUNE, REPOSITORY
from mlflow_ae5_deploy.jobs.reports import BackupReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.jobs.tasks import JobRequest
from mlflow_ae5_deploy.operations import missed
from mlflow_ae5_deploy.operations.health_problem import HealthProblem
from mlflow_ae5_deploy.operations.missed import Missed
from mlflow_ae5_deploy.resources import backup_repository, job_specs, other_schedules, scheduled_job

OLD = timedelta(days=7)  # where no schedule says when the next is due
_RUNS_READ = 5  # runs of the job, newest first, until one is found that made a snapshot
_ONE_OFF: tuple[JobRequest[Any], ...] = (
    *(task.request for task in job_specs.TASKS.values()),
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
_PAUSED = {BACKUP: "backup-paused", CHECK: "check-paused", DRILL: "drill-paused"}
_AFTERWARDS = {BACKUP: "`backup`", DRILL: "`drill`", REPOSITORY: "`backup list`", PRUNE: "`backup prune --yes`"}


@dataclass(frozen=True, kw_only=True)
class BackupStatus:
    newest: SnapshotRecord | None = None
    schedule: str = ""  # cron of the backup job; empty where there is none
    retention: tuple[tuple[str, int], ...] = ()  # of that job: (last, daily or weekly; number of snapshots it keeps)
    overdue: bool = False  # a complete snapshot was due by that schedule, and there is none
    schedules: tuple[tuple[str, str], ...] = ()  # (kind, cron) of the other scheduled jobs
    paused: tuple[str, ...] = ()  # kinds of scheduled jobs that are paused
    outcomes: tuple[Outcome, ...] = ()  # the last one of each kind
    unreadable: tuple[str, ...] = ()  # kinds of scheduled jobs whose last run ended, with an unreadable log
    recreated: str = ""  # a sentence where the destination holds another repository than before
    missed: tuple[Missed, ...] = ()
    missing: tuple[ScheduledJobRecord, ...] = ()  # scheduled jobs that were set from this machine

    @property
    def failed(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if not outcome.passed]


def observe_backups(context: Context, project: Project | None) -> BackupStatus:
    recorded = context.state.snapshot
    runs_of = functools.cache(lambda job_id: context.platform.runs(job_id))  # signs in only when it is needed
    results = _one_off_results(context, project)
    scheduled = {kind: _scheduled(context, project, kind, runs_of) for kind in job_specs.TASKS}
    results += [one.last for one in scheduled.values() if one.last is not None]
    failed = {kind: outcome for kind, one in scheduled.items() if (outcome := _failed_without_log(kind, one))}
    unreadable = (kind for kind, one in scheduled.items() if one.runs and one.last is None and kind not in failed)
    outcomes = [
        *context.state.outcomes.values(),
        *(outcome for result in results for outcome in _learned(result, recorded)),
        *failed.values(),
    ]
    repositories = [
        seen for result in results for seen in backup_repository.observed(result.job_result.report, result.ended)
    ]
    created = _created(context, scheduled[BACKUP])
    newest = _newest(recorded, created)
    jobs = {kind: one.job for kind, one in scheduled.items() if one.job is not None and one.job.schedule}
    backup = jobs.get(BACKUP)
    return BackupStatus(
        newest=_checked(newest, results) if newest else None,
        schedule=(backup.schedule or "") if backup else "",
        retention=_retention(backup) if backup else (),
        overdue=backup is not None and _overdue(backup, runs_of(backup.id), newest, context.clock.now()),
        schedules=tuple((kind, job.schedule or "") for kind, job in jobs.items() if kind != BACKUP),
        paused=tuple(kind for kind, job in jobs.items() if scheduled_job.is_paused(job)),
        outcomes=tuple(latest_outcomes.latest(outcomes).values()),
        unreadable=tuple(unreadable),
        recreated=backup_repository.recreated(context, repositories),
        missed=_missed(context, project, runs_of, [*outcomes, *_as_outcome(recorded), *_as_outcome(created)]),
        missing=tuple(other_schedules.missing(context, project)) if project is not None else (),
    )


# the runs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Result:
    """Of an ended run whose log could be read. ended: when; None where the platform does not tell."""

    task: JobRequest[Any]
    job_result: JobResult[Any]
    ended: datetime | None


@dataclass(frozen=True)
class _Scheduled:
    """The scheduled job of one kind."""

    job: Job | None
    runs: list[Run]  # ended, the newest first
    last: _Result | None  # of the newest, where its log can be read


def _one_off_results(context: Context, project: Project | None) -> list[_Result]:
    found = [interrupted_run(context, project, task) for task in _ONE_OFF]
    return [
        _Result(left.task, left.job_result, ended(left.run, left.job_result))
        for left in found
        if left is not None and left.job_result is not None
    ]


def _scheduled(context: Context, project: Project | None, kind: str, runs_of: RunsOf) -> _Scheduled:
    task, desired = job_specs.TASKS[kind].request, job_specs.backup_job(context.settings, kind, "")
    job = next(iter(scheduled_job.jobs_for(context.cached.jobs(), project, desired)), None)
    runs = _ended(runs_of, job)
    last = result_of(context, task.report, runs[0]) if runs else None
    return _Scheduled(job, runs, None if last is None else _Result(task, last, ended(runs[0], last)))


def _learned(result: _Result, recorded: SnapshotRecord | None) -> list[Outcome]:
    newest = recorded.id if recorded else ""
    if result.ended is None:
        return []
    return latest_outcomes.outcomes_of(result.task, result.job_result, result.ended, newest=newest)


def _failed_without_log(kind: str, scheduled: _Scheduled) -> Outcome | None:
    """The newest run, where only the platform tells how it ended."""
    run = scheduled.runs[0] if scheduled.runs and scheduled.last is None else None
    if run is None or run.created is None or run.state == "completed":
        return None
    message = f"the platform reports {run.state}; the log of that run cannot be read"
    return Outcome(kind, run.created, False, message)


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
    for task in job_specs.TASKS.values():
        request = task.request
        if job.command == runner.command_of(context.settings, request.command):
            words = tasks.words_of(job.variables.get(ARGUMENTS[request.command], ""))
            return latest_outcomes.kind_of(replace(request, words=words))
    return None


def _retention(job: Job) -> tuple[tuple[str, int], ...]:
    arguments = job.variables.get(ARGUMENTS["Backup"], "")
    return tuple((rule, int(number)) for rule, number in re.findall(r"--keep-(last|daily|weekly) (\d+)", arguments))


def _ended(runs_of: RunsOf, job: Job | None) -> list[Run]:
    """Its ended runs with a date, newest first."""
    runs = [] if job is None else [run for run in runs_of(job.id) if not run.is_active and run.created]
    return sorted(runs, key=lambda run: run.age_key, reverse=True)


def _created(context: Context, backups: _Scheduled) -> SnapshotRecord | None:
    """The newest snapshot of these runs."""
    newest = None
    for number, run in enumerate(backups.runs[:_RUNS_READ]):
        if number == 0:
            job_result = backups.last.job_result if backups.last else None
        else:
            job_result = result_of(context, BackupReport, run)
        if job_result is None or not (job_result.succeeded or job_result.exit_code == INCOMPLETE):
            continue
        report, finished = job_result.report, ended(run, job_result)
        if report.snapshot and finished is not None:
            made = latest_outcomes.created(report, finished)
            newest = latest_outcomes.protected_from(newest, made) if newest else made
            if newest.protected is not None:
                break
    return newest


def _newest(recorded: SnapshotRecord | None, created: SnapshotRecord | None) -> SnapshotRecord | None:
    """Of the same snapshot the record, which knows whether it was verified."""
    if recorded is None or created is None or recorded.id == created.id:
        return recorded or created
    older, newer = sorted((created, recorded), key=lambda item: item.finished)
    return latest_outcomes.protected_from(newer, older)


def _checked(newest: SnapshotRecord, results: list[_Result]) -> SnapshotRecord:
    """With the checks of it that no run from this machine has recorded."""
    for result in results:
        report, when = result.job_result.report, result.ended
        if when is None or not result.job_result.succeeded or latest_outcomes.kind_of(result.task) != CHECK:
            continue
        if report.snapshot == newest.id and (newest.verified is None or when > newest.verified) and not newest.damaged:
            newest = latest_outcomes.checked(newest, report, when)
    return newest


def _overdue(job: Job, runs: list[Run], newest: SnapshotRecord | None, now: datetime) -> bool:
    """Whether the job should have made a complete snapshot by now. A run that failed made none."""
    if newest is None or newest.protected is None:
        return False
    active = [run for run in runs if run.is_active]
    return missed.missed(_NAMES[BACKUP], job, active, now, done=[newest.protected]) is not None


def problems(backups: BackupStatus, now: datetime) -> list[HealthProblem]:
    """Pure. A failure stands until a later run of its kind succeeds."""
    found, newest = [_failure(outcome, now) for outcome in backups.failed], backups.newest
    if backups.recreated:
        found.append(HealthProblem("repository-replaced", backups.recreated))
    for kind in backups.unreadable:
        text = f"The result of the last scheduled {_NAMES[kind]} is unknown: the log of its run cannot be read."
        found.append(HealthProblem(_UNKNOWN, text))
    found += [HealthProblem(_PAUSED[kind], f"The scheduled {_NAMES[kind]} is paused.") for kind in backups.paused]
    found += missed.problems(backups.missed)
    found += map(_missing, backups.missing)
    if newest is None:
        return [*found, HealthProblem("no-backup", "No backup recorded on this machine.")]
    idle, saved = BACKUP in backups.paused or not backups.schedule, newest.protected
    if backups.overdue or (idle and saved is not None and now - saved > OLD):
        text = f"Data since {since(newest, now)} is in no complete snapshot known here."
        found.append(HealthProblem("backup-old", text))
    if not newest.complete:
        text = f"Snapshot {newest.id} lacks artifacts: they are unreadable, or outside the store."
        found.append(HealthProblem("backup-incomplete", text))
    if newest.gone:
        found.append(HealthProblem("backup-shrunk", f"{newest.gone}."))
    return found


def _missing(record: ScheduledJobRecord) -> HealthProblem:
    text = f"The {record.purpose} job scheduled from this machine ({record.schedule}) does not exist any more."
    verb = next(task.verb for task in job_specs.TASKS.values() if task.request.purpose == record.purpose)
    remedy = f"Run `{verb} '{record.schedule}'` to create it again, or `{verb} --remove` to keep it removed."
    return HealthProblem("schedule-missing", text, remedy, subject=record.name)


def since(newest: SnapshotRecord, now: datetime) -> str:
    return moment(newest.protected, now) if newest.protected else "an unknown time"


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
