"""Numbers and odd names in sentences."""

from __future__ import annotations


def counted(number: int, things: str) -> str:
    """`1 object`, `2 objects`: `things` is the plural, and its singular has no s, or y for ies, at the end."""
    if number != 1:
        return f"{number} {things}"
    return f"1 {things.removesuffix('ies')}y" if things.endswith("ies") else f"1 {things.removesuffix('s')}"


def shown(text: str) -> str:
    """`text` for people, on one line: what cannot be printed is escaped."""
    escaped = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in escaped)
