"""Render `schedule-gc`, for people and as JSON. Values of variables are shown where they cannot be secrets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, tzinfo
from typing import Any

from mlflow_ae5_deploy.common.cron import Schedule, parse_cron
from mlflow_ae5_deploy.common.redaction import MASK
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.jobs.contract import GC_DRY_RUN
from mlflow_ae5_deploy.operations.schedule import ScheduleResult
from mlflow_ae5_deploy.operations.schedule_gc import GcRequest, ScheduleDifference, ScheduleGcResult
from mlflow_ae5_deploy.render.backup import run_record
from mlflow_ae5_deploy.render.console import SCHEMA, Reporter
from mlflow_ae5_deploy.resources.scheduled_job import is_paused

_TIMES = 3


def next_times(schedule: Schedule, now: datetime, zone: tzinfo | None = None) -> list[tuple[str, str]]:
    """The next times, each in UTC and in local time. zone: instead of the machine's."""
    return [
        (f"{when:%Y-%m-%d %H:%M} UTC", f"{when.astimezone(zone):%Y-%m-%d %H:%M %Z}")
        for when in schedule.next_times(now, _TIMES)
    ]


def variables(result: ScheduleGcResult) -> dict[str, str]:
    """Masked unless configuration or command line have the value in plain text."""
    plain = dict(result.desired.variables)
    present = result.schedule.job.variables if result.schedule and result.schedule.job else {}
    return {name: value if plain.get(name) == value else MASK for name, value in sorted(present.items())}


def warnings(result: ScheduleGcResult) -> list[str]:
    messages = list(result.schedule.warnings) if result.schedule else []
    job = result.schedule.job if result.schedule else None
    if job is not None and job.variables.get(GC_DRY_RUN, "").lower() in ("true", "1", "yes"):
        messages.append("The job only lists what it would remove. Run `schedule-gc` without --dry-run to collect.")
    if result.desired.hidden:
        messages.append(
            "The job's record on the platform holds the database URI: everybody who may see the account's jobs can "
            "read it. For the server's own database, the secret MLFLOW_BACKEND_STORE_URI is enough."
        )
    return messages


class GcReporter:
    """Shows the progress of `schedule-gc`."""

    def __init__(self, reporter: Reporter, request: GcRequest, profile: str | None) -> None:
        self._reporter = reporter
        self._request = request
        self._profile = profile

    def scheduled(self, result: ScheduleGcResult) -> None:
        if result.schedule is None:
            return
        _show_schedule(self._reporter, result.schedule)
        if result.schedule.job is not None and self._request.action != "pause":
            _show_job(self._reporter, result)
            _show_differences(self._reporter, result.differences, self._profile)
        if self._request.action == "remove":
            hint = "The next `install` creates it again. To stop it, use `--pause`: `install` keeps that."
            self._reporter.hanging("", hint)

    def run_starts(self, *, dry: bool) -> None:
        self._reporter.line("One dry run, as a temporary job; the schedule does not change" if dry else "One run, now")

    def log(self, line: str) -> None:
        self._reporter.foreign(line, "  | ")

    def run_ends(self, result: ScheduleGcResult) -> None:
        if result.pruned:
            records = counted(result.pruned, "old run records")
            self._reporter.line(f"{records} deleted, the newest {self._request.keep_runs} kept")
        if result.run is not None and result.run.succeeded:
            self._reporter.hanging("= ", result.run.message, "green")


def _show_schedule(reporter: Reporter, done: ScheduleResult) -> None:
    for change in done.changes:
        reporter.hanging("+ ", f"{change.sentence}", "cyan")
    if not done.changes or done.outcome != "changed":
        mark, style = ("=", "green") if done.outcome == "unchanged" else ("+", "cyan")
        reporter.hanging(f"{mark} ", done.message, style)


def _show_job(reporter: Reporter, result: ScheduleGcResult) -> None:
    done = result.schedule
    if done is None or done.job is None or done.job.schedule is None:
        return
    schedule = parse_cron(done.job.schedule)
    rows = [("Job", f"{done.job.name} ({done.job.id})"), ("Schedule", f"{schedule.expression}: {schedule.words}")]
    if is_paused(done.job) and done.outcome != "resumed":
        rows.append(("Next", "none, it is paused"))
    else:
        times = next_times(schedule, result.now)
        rows += [("Next" if number == 0 else "", f"{utc}   {local}") for number, (utc, local) in enumerate(times)]
    shown = ", ".join(f"{name}={value}" for name, value in variables(result).items())
    reporter.line()
    for title, text in (*rows, ("Variables", shown or "none of its own")):
        reporter.hanging(f"  {title:<10} ", text)
    for warning in warnings(result):
        reporter.note(f"warning: {warning}", style="yellow")


def _show_differences(reporter: Reporter, different: Sequence[ScheduleDifference], profile: str | None) -> None:
    if not different:
        return
    reporter.line()
    reporter.hanging("", "Differs from your configuration; the next `install` will revert it:", "yellow")
    for item in different:
        reporter.hanging("  ", f"{item.setting}: {item.configured} → {item.desired}")
    lines = to_keep(different, profile)
    if lines:
        reporter.line("To keep it, add this to the configuration:")
        for line in lines:
            reporter.line(f"  {line}")
    if any(item.hidden for item in different):
        reporter.hanging("", "A variable with a password cannot stand there; set server.backend_store_uri instead.")


def to_keep(different: Sequence[ScheduleDifference], profile: str | None) -> list[str]:
    """Pure: the YAML lines that make the configuration equal."""
    plain = {item.setting.removeprefix("gc."): item.desired for item in different if not item.hidden}
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


# as JSON ----------------------------------------------------------------------------------------------------------


def schedule_data(verb: str, result: ScheduleGcResult) -> dict[str, Any]:
    """outcome: changed, unchanged, paused, resumed, removed, ran; or failed."""
    done = result.schedule
    job = done.job if done else None
    return {
        "schema": SCHEMA,
        "verb": verb,
        "outcome": done.outcome if done else "ran",
        "changes": [change.data() for change in done.changes] if done else [],
        "job": {"id": job.id, "name": job.name, "variables": variables(result)} if job else None,
        "schedule": _schedule_data(job.schedule, result.now) if job and job.schedule else None,
        "differences": [asdict(item) for item in result.differences],
        "pruned_runs": result.pruned,
        "run": {**run_record(result.run), "exit_code": result.run.exit_code} if result.run else None,
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
