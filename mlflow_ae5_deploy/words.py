"""Small things about wording."""

from __future__ import annotations


def counted(number: int, things: str) -> str:
    """`1 job`, `2 jobs`: `things` is a plural whose last word ends in s."""
    return f"{number} {things.removesuffix('s') if number == 1 else things}"


def gone(jobs: int, records: int) -> str:
    """What a schedule that was removed has taken along."""
    one = jobs + records == 1
    return f"{counted(jobs, 'jobs')} and {counted(records, 'run records')} {'is' if one else 'are'} gone"
