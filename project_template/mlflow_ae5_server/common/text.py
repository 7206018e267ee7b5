"""Numbers, sizes and odd names in sentences."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def counted(number: int, things: str) -> str:
    """`1 object`, `2 objects`; `things` is the plural."""
    if number != 1:
        return f"{number} {things}"
    return f"1 {things.removesuffix('ies')}y" if things.endswith("ies") else f"1 {things.removesuffix('s')}"


def amount(size: float) -> str:
    """1234567 -> 1.2 MB, in steps of 1,000, as disks are sold."""
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def counted_files(number: int, size: float) -> str:
    """`3 files (1.2 MB)`."""
    return f"{counted(number, 'files')} ({amount(size)})"


def moment(text: str) -> str:
    """`2026-11-29 14:05 UTC`; `text` itself where it is not a time in ISO 8601."""
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return text


def shown(text: str) -> str:
    """`text` for people, on one line: what cannot be printed is escaped."""
    escaped = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in escaped)
