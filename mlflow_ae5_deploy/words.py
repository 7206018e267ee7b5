"""Small things about wording."""

from __future__ import annotations

from typing import Any

# Verbs that work on a platform, and so take --sandbox.
VERBS = (
    *("plan", "install", "status", "doctor", "verify", "rotate-token", "schedule-rotation", "schedule-gc", "share"),
    *("env", "open", "logs", "history", "backup", "restore", "drill", "upgrade", "uninstall", "runbook"),
)
_UNITS = ("bytes", "kB", "MB", "GB", "TB")  # in steps of 1,000


def counted(number: int, things: str) -> str:
    """`1 job`, `2 jobs`: `things` is a plural whose last word ends in s."""
    return f"{number} {things.removesuffix('s') if number == 1 else things}"


def as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?', '!')) else '.'}" if text else ""


def gone(jobs: int, records: int) -> str:
    """What a schedule that was removed has taken along."""
    things = [counted(number, what) for number, what in ((jobs, "jobs"), (records, "run records")) if number]
    return f"{' and '.join(things)} {'is' if jobs + records == 1 else 'are'} gone"


def size(value: Any) -> str:
    """1234567 -> 1.2 MB; an unknown size is said to be one."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "an unknown size"
    amount, unit = float(value), 0
    while amount >= 1000 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"
