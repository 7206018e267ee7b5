"""What `schedule-gc` has to say, for people and as JSON. Values of variables are shown where they cannot be secrets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, tzinfo
from typing import Any

from mlflow_ae5_deploy.common.cron import Schedule, parse_cron
from mlflow_ae5_deploy.common.redaction import MASK
from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.jobs.gc import DRY_RUN
from mlflow_ae5_deploy.jobs.spec import JobSpec
from mlflow_ae5_deploy.operations.schedule import ScheduleResult
from mlflow_ae5_deploy.operations.schedule_gc import ScheduleDifference
from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.install import SCHEMA
from mlflow_ae5_deploy.resources.scheduled_job import is_paused

_TIMES = 3


@dataclass(frozen=True)
class ScheduleView:
    """One call of the verb. done: None where only a run was asked for. now: when the next times were counted from."""

    desired: JobSpec
    done: ScheduleResult | None
    departures: tuple[ScheduleDifference, ...]
    now: datetime
    job_result: JobResult | None = None
    pruned: int = 0


def next_times(schedule: Schedule, now: datetime, zone: tzinfo | None = None) -> list[tuple[str, str]]:
    """The next times, each in UTC and in local time. zone: instead of the machine's."""
    return [
        (f"{when:%Y-%m-%d %H:%M} UTC", f"{when.astimezone(zone):%Y-%m-%d %H:%M %Z}")
        for when in schedule.next_times(now, _TIMES)
    ]


def variables(result: ScheduleView) -> dict[str, str]:
    """What is plain in the configuration or on the command line is shown; anything else may hold a password."""
    plain = dict(result.desired.variables)
    there = result.done.job.variables if result.done and result.done.job else {}
    return {name: value if plain.get(name) == value else MASK for name, value in sorted(there.items())}


def warnings(result: ScheduleView) -> list[str]:
    found = list(result.done.warnings) if result.done else []
    job = result.done.job if result.done else None
    if job is not None and job.variables.get(DRY_RUN, "").lower() in ("true", "1", "yes"):
        found.append("The job only lists what it would remove. Run `schedule-gc` without --dry-run to let it collect.")
    if result.desired.hidden:
        found.append(
            "The job's record on the platform holds the database URI: whoever may see the account's jobs can read it. "
            "Where it is the server's own database, the secret MLFLOW_BACKEND_STORE_URI is enough."
        )
    return found


# for people -------------------------------------------------------------------------------------------------------


def show_done(reporter: Reporter, done: ScheduleResult) -> None:
    for change in done.changes:
        reporter.hanging("+ ", f"{change.phrase}, because {change.reason}", "cyan")
    if not done.changes or done.outcome != "changed":
        mark, style = ("=", "green") if done.outcome == "unchanged" else ("+", "cyan")
        reporter.hanging(f"{mark} ", done.message, style)


def show_job(reporter: Reporter, result: ScheduleView) -> None:
    job = result.done.job if result.done else None
    if job is None or job.schedule is None:
        return
    schedule = parse_cron(job.schedule)
    rows = [("Job", f"{job.name} ({job.id})"), ("Schedule", f"{schedule.expression}: {schedule.words}")]
    if is_paused(job) and result.done is not None and result.done.outcome != "resumed":
        rows.append(("Next", "none, it is paused"))
    else:
        times = next_times(schedule, result.now)
        rows += [("Next" if number == 0 else "", f"{utc}   {local}") for number, (utc, local) in enumerate(times)]
    shown = variables(result)
    rows.append(("Variables", ", ".join(f"{name}={value}" for name, value in shown.items()) or "none of its own"))
    reporter.line()
    for title, text in rows:
        reporter.hanging(f"  {title:<10} ", text)
    for warning in warnings(result):
        reporter.note(f"warning: {warning}", style="yellow")


def show_departures(reporter: Reporter, departures: Sequence[ScheduleDifference], *, profile: str | None) -> None:
    if not departures:
        return
    reporter.line()
    reporter.hanging("", "The configuration says otherwise, and the next `install` goes by it:", "yellow")
    for item in departures:
        reporter.hanging("  ", f"{item.setting} is {item.asked} now; configured: {item.configured}")
    lines = to_keep(departures, profile)
    if lines:
        reporter.line("To keep it, put this into the configuration:")
        for line in lines:
            reporter.line(f"  {line}")
    if any(item.hidden for item in departures):
        told = "A variable with a password in it cannot stand there; set server.backend_store_uri instead."
        reporter.hanging("", told)


def to_keep(departures: Sequence[ScheduleDifference], profile: str | None) -> list[str]:
    """Pure: the YAML lines that make the configuration say what was asked for."""
    plain = {item.setting.removeprefix("gc."): item.asked for item in departures if not item.hidden}
    if not plain:
        return []
    inner = [f"schedule: {_quoted(plain['schedule'])}"] if "schedule" in plain else []
    named = {key.removeprefix("variables."): value for key, value in plain.items() if key.startswith("variables.")}
    if named:
        inner += ["variables:", *(f"  {name}: {_quoted(value)}" for name, value in named.items())]
    lines = ["gc:", *(f"  {line}" for line in inner)]
    if profile is not None:
        lines = ["profiles:", f"  {profile}:", *(f"    {line}" for line in lines)]
    return lines


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def show_job_result(reporter: Reporter, job_result: JobResult) -> None:
    if job_result.passed:
        reporter.hanging("= ", job_result.message, "green")


# as JSON ----------------------------------------------------------------------------------------------------------


def schedule_data(verb: str, result: ScheduleView) -> dict[str, Any]:
    """outcome: changed | unchanged | paused | resumed | removed | ran. (failed is laid over it.)"""
    done = result.done
    job = done.job if done else None
    return {
        "schema": SCHEMA,
        "verb": verb,
        "outcome": done.outcome if done else "ran",
        "changes": [change.data() for change in done.changes] if done else [],
        "job": {"id": job.id, "name": job.name, "variables": variables(result)} if job else None,
        "schedule": _schedule_data(job.schedule, result.now) if job and job.schedule else None,
        "configuration_says_otherwise": [asdict(item) for item in result.departures],
        "pruned_runs": result.pruned,
        "run": _run_data(result.job_result) if result.job_result else None,
        "warnings": warnings(result),
        "error": None,
    }


def _schedule_data(cron: str, now: datetime) -> dict[str, Any]:
    schedule = parse_cron(cron)
    return {
        "cron": schedule.expression,
        "words": schedule.words,
        "next": [{"utc": utc, "local": local} for utc, local in next_times(schedule, now)],
    }


def _run_data(job_result: JobResult) -> dict[str, Any]:
    return {
        "id": job_result.run_id,
        "state": job_result.state,
        "outcome": job_result.outcome,
        "exit_code": job_result.exit_code,
        "passed": job_result.judged,
        "message": job_result.message,
        "report": dict(job_result.report),
    }
