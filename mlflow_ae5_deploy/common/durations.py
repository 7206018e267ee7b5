"""Durations and times in texts, and MLflow's durations: `30d0h0m0s`, each part optional, fractions allowed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from mlflow_ae5_deploy.common.errors import Configuration

_NUMBER = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_FORM = re.compile(
    rf"(?:(?P<days>{_NUMBER})d)?(?:(?P<hours>{_NUMBER})h)?(?:(?P<minutes>{_NUMBER})m)?(?:(?P<seconds>{_NUMBER})s)?"
)


def parse_ttl(text: str, *, where: str = "MLFLOW_TRACKING_GC_TTL") -> timedelta:
    """The duration, or Configuration with the right form in its remedy.

    Stricter than MLflow in two points where it would not do what was meant: an empty text is no duration (MLflow
    takes it for zero, that is, "delete at once"), and a number has one decimal point at most (MLflow crashes).
    """
    found = _FORM.fullmatch(text)
    if found is None or not text:
        raise Configuration(
            f"{text!r} is not a duration that MLflow understands.",
            where=where,
            remedy=f"Write days, hours, minutes and seconds without spaces, in this order: {_suggest(text)}",
        )
    parts = {name: float(value) for name, value in found.groupdict().items() if value}
    try:
        return timedelta(**parts)
    except OverflowError:
        raise Configuration(
            f"{text!r} is longer than MLflow can count.", where=where, remedy="For example 30d0h0m0s"
        ) from None


def _suggest(text: str) -> str:
    """`30 days` -> `30d0h0m0s`; an example when nothing can be guessed."""
    pairs = re.findall(rf"({_NUMBER})\s*(d|h|m(?!o)|s)[a-z]*", text.lower()[:100])
    given = {unit: number for number, unit in pairs}
    if not given or len(given) != len(pairs):
        return "30d0h0m0s"
    return "".join(f"{given.get(unit, '0')}{unit}" for unit in "dhms")


def duration(span: timedelta) -> str:
    """In the largest unit that leaves a number worth reading: `45 s`, `4 min`, `36 h`, `12 days`; never below zero."""
    seconds = max(span.total_seconds(), 0.0)  # clocks differ
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def seconds_of(seconds: float) -> str:
    """A span that still grows: `12 s`, `2 min 05 s`, `1 h 02 min`."""
    whole = int(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole // 60 % 60:02} min"


def lasting(seconds: float | None) -> str:
    """A span that was measured or estimated: `3.2 s`, `4 min`."""
    if seconds is None:
        return "an unknown time"
    return f"{seconds:.1f} s" if seconds < 100 else duration(timedelta(seconds=seconds))


def moment(when: datetime, now: datetime) -> str:
    """`2026-11-29 14:05 UTC (4 min ago)`, the one form of a time in texts; `now` is aware too."""
    away = when - now
    near = f"in {duration(away)}" if away.total_seconds() > 0 else f"{duration(-away)} ago"
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({near})"


def iso(when: datetime | None) -> str | None:
    """A time in JSON."""
    return when.isoformat(timespec="seconds") if when else None
