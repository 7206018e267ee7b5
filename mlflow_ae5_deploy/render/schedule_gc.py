"""Render `schedule-gc`, for people and as JSON. Values of variables are shown where they cannot be secrets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, tzinfo
from typing import Any

from mlflow_ae5_deploy.common.cron import Schedule, parse_cron
from mlflow_ae5_deploy.common.durations import moment, parse_ttl
from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.redaction import MASK
from mlflow_ae5_deploy.common.text import as_sentence, counted
from mlflow_ae5_deploy.common.variable_names import GC_DRY_RUN, GC_TTL
from mlflow_ae5_deploy.operations.schedule import ScheduleResult
from mlflow_ae5_deploy.operations.schedule_gc import GcRequest, ScheduleDifference, ScheduleGcResult
from mlflow_ae5_deploy.render.backup import run_record
from mlflow_ae5_deploy.render.changes import DIFFERS, show_drift
from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.format import Mark, settings_lines, yaml_quoted
from mlflow_ae5_deploy.resources.scheduled_job import is_paused

_TIMES = 3


def next_times(schedule: Schedule, now: datetime, zone: tzinfo | None = None) -> list[tuple[str, str]]:
    """The next times, each in UTC and in local time. zone: instead of the machine's."""
    return [
        (f"{when:%Y-%m-%d %H:%M} UTC", f"{when.astimezone(zone):%Y-%m-%d %H:%M %Z}")
        for when in schedule.next_times(now, _TIMES)
    ]


def variables(result: ScheduleGcResult) -> dict[str, str]:
    """Masked unless configuration or command line have the value in plain text, or the name excludes a secret."""
    plain = dict(result.desired.variables)
    present = result.schedule.job.variables if result.schedule and result.schedule.job else {}
    return {
        name: value if plain.get(name) == value or _is_plain(name, value) else MASK
        for name, value in sorted(present.items())
    }


def _is_plain(name: str, value: str) -> bool:
    """Whether the value is an age or a switch, of a variable that holds one."""
    if name == GC_DRY_RUN:
        return value.lower() in ("true", "false")
    try:
        return name == GC_TTL and bool(parse_ttl(value) or value)
    except Configuration:
        return False


def warnings(result: ScheduleGcResult) -> list[str]:
    messages = list(result.schedule.warnings) if result.schedule else []
    job = result.schedule.job if result.schedule else None
    if job is not None and job.variables.get(GC_DRY_RUN, "").lower() in ("true", "1", "yes"):
        messages.append("The job only lists what it would remove. Run `schedule-gc` without --dry-run to collect.")
    if result.desired.hidden:
        messages.append(
            "The job's record on the platform contains the database URI, and everybody who may see the account's jobs "
            "can read it. For the server's own database, the secret MLFLOW_BACKEND_STORE_URI is enough."
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
            hint = "The next `install` creates it again. To stop it for longer, run `schedule-gc --pause`."
            self._reporter.hanging("", hint)

    def run_starts(self, *, dry: bool) -> None:
        self._reporter.line("Dry run, as a temporary job; the schedule does not change." if dry else "Run started.")

    def log(self, line: str) -> None:
        self._reporter.foreign(line, "  | ")

    def run_ends(self, result: ScheduleGcResult) -> None:
        if result.pruned:
            records = counted(result.pruned, "old run records")
            self._reporter.marked(Mark.CHANGE, f"{records} deleted, the newest {self._request.keep_runs} kept.")
        if result.run is not None and result.run.succeeded:
            self._reporter.marked(Mark.OK, as_sentence(result.run.message))


def _show_schedule(reporter: Reporter, done: ScheduleResult) -> None:
    if done.outcome == "changed" and done.changes:
        for change in done.changes:
            reporter.marked(Mark.CHANGE, change.sentence)
    else:
        reporter.marked(Mark.OK if done.outcome == "unchanged" else Mark.CHANGE, as_sentence(done.message))


def _show_job(reporter: Reporter, result: ScheduleGcResult) -> None:
    done = result.schedule
    if done is None or done.job is None or done.job.schedule is None:
        return
    schedule = parse_cron(done.job.schedule)
    rows = [
        ("Job", f"{done.job.name} ({done.job.id})"),
        ("Schedule", f"{schedule.expression} (UTC): {schedule.phrase}"),
    ]
    if is_paused(done.job) and done.outcome != "resumed":
        rows.append(("Next", "none, it is paused"))
    else:
        for number, when in enumerate(schedule.next_times(result.now, _TIMES)):
            rows.append(("" if number else "Next", moment(when, result.now)))
    shown = ", ".join(f"{name}={value}" for name, value in variables(result).items())
    for title, text in (*rows, *([("Variables", shown)] if shown else [])):
        reporter.hanging(f"  {title:<10} ", text)
    for warning in warnings(result):
        reporter.warning(warning)


def _show_differences(reporter: Reporter, different: Sequence[ScheduleDifference], profile: str | None) -> None:
    if not different:
        return
    rows = [f"{item.setting}: {item.configured} → {item.desired}" for item in different]
    show_drift(
        reporter,
        DIFFERS,
        rows,
        to_keep(different, profile),
    )
    if any(item.hidden for item in different):
        reporter.hanging("", "A variable with a password cannot be configured; set server.backend_store_uri instead.")


def to_keep(different: Sequence[ScheduleDifference], profile: str | None) -> list[str]:
    """Pure: the YAML lines that make the configuration equal."""
    plain = {item.setting.removeprefix("gc."): item.desired for item in different if not item.hidden}
    if not plain:
        return []
    inner = [f"schedule: {yaml_quoted(plain['schedule'])}"] if "schedule" in plain else []
    named = {key.removeprefix("variables."): value for key, value in plain.items() if key.startswith("variables.")}
    if named:
        inner += ["variables:", *(f"  {name}: {yaml_quoted(value)}" for name, value in named.items())]
    return settings_lines("gc", inner, profile)


# as JSON ----------------------------------------------------------------------------------------------------------


def schedule_data(result: ScheduleGcResult, of_job: Sequence[str]) -> dict[str, Any]:
    """of_job: its warnings."""
    done = result.schedule
    job = done.job if done else None
    return {
        "changes": [change.data() for change in done.changes] if done else [],
        "job": {"id": job.id, "name": job.name, "variables": variables(result)} if job else None,
        "schedule": _schedule_data(job.schedule, result.now) if job and job.schedule else None,
        "differences": [asdict(item) for item in result.differences],
        "pruned_runs": result.pruned,
        "run": {**run_record(result.run), "exit_code": result.run.exit_code} if result.run else None,
        "warnings": [*warnings(result), *of_job],
    }


def _schedule_data(cron: str, now: datetime) -> dict[str, Any]:
    schedule = parse_cron(cron)
    return {
        "cron": schedule.expression,
        "words": schedule.words,
        "next": [{"utc": utc, "local": local} for utc, local in next_times(schedule, now)],
    }
