"""Small things about wording."""

from __future__ import annotations


def counted(number: int, things: str) -> str:
    """`1 job`, `2 jobs`: `things` is a plural whose last word ends in s."""
    return f"{number} {things.removesuffix('s') if number == 1 else things}"
