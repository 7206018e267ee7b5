"""Cron expressions of AE5 jobs: checks, description, and next times in UTC.

Five fields, as ae5-tools passes them on: minute, hour, day of month, month, day of week. AE5 rejects a step that
does not divide its field ("*/8" in the minutes), so that is refused here before anything is sent. What not every
cron understands (`L`, `W`, `#`, `?`, `@daily`) is refused too: the platform's own parser is not documented.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from mlflow_ae5_deploy.common.errors import Configuration

_LONGEST = 200
_MONTHS = frozenset(["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"])
_DAYS = frozenset(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"])


@dataclass(frozen=True)
class _Field:
    """size: how many values the field has, which is what a step must divide."""

    name: str
    values: str
    size: int
    words: frozenset[str] = frozenset()


_FIELDS = (
    _Field("minute", "0-59", 60),
    _Field("hour", "0-23", 24),
    _Field("day of month", "1-31", 31),
    _Field("month", "1-12 or JAN-DEC", 12, _MONTHS),
    _Field("day of week", "0-7 (0 and 7 are Sunday) or SUN-SAT", 7, _DAYS),
)


@dataclass(frozen=True)
class Schedule:
    """expression: with normalised whitespace. words: its description in English."""

    expression: str
    words: str

    @property
    def phrase(self) -> str:
        """The words within a sentence."""
        return self.words[:1].lower() + self.words[1:]

    def next_times(self, after: datetime, count: int = 3) -> list[datetime]:
        """The next `count` times after `after` (timezone-aware), in UTC as AE5 presumably."""
        from cronsim import CronSim

        if after.tzinfo is None:
            raise ValueError("a time without a time zone")
        return list(islice(CronSim(self.expression, after.astimezone(UTC)), count))


def parse_cron(expression: str) -> Schedule:
    """Check a cron expression. Configuration names the field and suggests a fix."""
    if len(expression) > _LONGEST:
        raise _refusal("The schedule is too long to be a cron expression.", expression[:_LONGEST] + "...")
    parts = expression.split()
    if len(parts) != len(_FIELDS):
        raise _refusal(
            f"The schedule {expression!r} has {len(parts)} fields; five are needed: "
            "minute, hour, day of month, month, day of week.",
            expression,
        )
    for spec, text in zip(_FIELDS, parts, strict=True):
        _check_field(spec, text, expression)
    normal = " ".join(parts)
    _check_it_ever_comes(normal)
    from cron_descriptor import Options, get_description

    # The locale is named, because otherwise the words and a warning on stderr would depend on the machine's.
    words: str = get_description(normal, Options(locale_code="en_US", use_24hour_time_format=True))
    return Schedule(expression=normal, words=words)


def _check_field(spec: _Field, text: str, expression: str) -> None:
    from cronsim import CronSim, CronSimError

    for term in text.split(","):
        _check_characters(spec, term, expression)
        _check_step(spec, term, expression)
    others = ["*"] * len(_FIELDS)
    others[_FIELDS.index(spec)] = text
    try:
        CronSim(" ".join(others), datetime(2024, 1, 1, tzinfo=UTC))
    except (CronSimError, ValueError):
        raise _refusal(
            f"The {spec.name} field {text!r} of the schedule {expression!r} is not valid.",
            expression,
            remedy=f"The {spec.name} takes {spec.values}, '*', lists (1,2), ranges (1-3) and steps (*/N).",
        ) from None


def _check_characters(spec: _Field, term: str, expression: str) -> None:
    letters = "".join(c if c.isalpha() else " " for c in term).upper().split()
    foreign = [word for word in letters if word not in spec.words]
    foreign += [c for c in term if not (c.isascii() and (c.isalnum() or c in "*-/"))]
    if foreign:
        raise _refusal(
            f"The {spec.name} field {term!r} of the schedule {expression!r} has {foreign[0]!r} in it, "
            "which not every cron understands.",
            expression,
            remedy=f"The {spec.name} takes {spec.values}, '*', lists (1,2), ranges (1-3) and steps (*/N).",
        )


def _check_step(spec: _Field, term: str, expression: str) -> None:
    _, slash, step = term.partition("/")
    if not slash or not step.isdigit() or len(step) > 4 or int(step) == 0:
        return  # no step, or one that the general check refuses
    if spec.size % int(step):
        good = [str(n) for n in range(2, spec.size) if spec.size % n == 0]
        # Sizes that no step divides are those of the days, of the month and of the week.
        instead = "1,11,21" if spec.size > 7 else "1,3,5"
        listed = f"Steps that do: {', '.join(good)}." if good else f"No step does; list the values ({instead})."
        raise _refusal(
            f"The {spec.name} field {term!r} of the schedule {expression!r} steps by {int(step)}, "
            f"which does not divide {spec.size}.",
            expression,
            remedy=f"AE5 only takes steps that divide their field. {listed}",
        )


def _check_it_ever_comes(expression: str) -> None:
    from cronsim import CronSim, CronSimError

    try:
        next(CronSim(expression, datetime(2024, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration):
        raise _refusal(
            f"The schedule {expression!r} never comes: no such day of month exists in the months it names.",
            expression,
        ) from None


def _refusal(what: str, expression: str, remedy: str = "") -> Configuration:
    usual = "For example '*/10 * * * *' (every 10 minutes) or '30 3 * * *' (daily at 03:30 UTC)."
    return Configuration(what, where=f"schedule {expression!r}", remedy=remedy or usual)
