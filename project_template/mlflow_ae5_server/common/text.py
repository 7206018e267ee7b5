"""Numbers, sizes and odd names in sentences."""

from __future__ import annotations

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


def shown(text: str) -> str:
    """`text` for people, on one line: what cannot be printed is escaped."""
    escaped = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in escaped)
