"""Marks, tables and lines of YAML, the same in every verb.

Times are in common/durations.py, counts and sizes in common/text.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console


class Mark(Enum):
    """Begins a line of result. Explained in `mlflow-ae5-deploy --help`."""

    OK = ("✓", "green")  # unchanged, or as it should be
    CHANGE = ("+", "cyan")  # changed, or would be
    WARNING = ("!", "yellow")
    FAILED = ("✗", "red")
    SKIPPED = ("-", "dim")

    def __init__(self, sign: str, style: str) -> None:
        self.sign = sign
        self.style = style


def style_of(line: str) -> str | None:
    """That of the mark which begins it."""
    return next((mark.style for mark in Mark if line.startswith(f"{mark.sign} ")), None)


_ASCII = str.maketrans({"✓": "=", "✗": "x", "→": "->", "…": "...", "·": "-", "█": "#", "░": ".", "━": "="})
_LOCALES = ("LC_ALL", "LC_CTYPE", "LANG")  # the first that is set decides
_PIPED = 200  # characters, the width of a table that nobody watches
_GAP = 2  # characters between two columns


def ascii_only(encoding: str, environ: Mapping[str, str]) -> bool:
    """Whether a stream takes no more than ASCII: by its encoding, or by the locale of the one who reads it."""
    if "utf" not in encoding.lower():
        return True
    locale = next((environ[name] for name in _LOCALES if environ.get(name)), "utf-8")
    return "utf" not in locale.lower()


def in_ascii(text: str) -> str:
    """`text` with our own signs in ASCII."""
    return text.translate(_ASCII)


def settings_lines(section: str, inner: Sequence[str], profile: str | None) -> list[str]:
    """The YAML lines of a section of the configuration, or of a profile in it."""
    lines = [f"{section}:", *(f"  {line}" for line in inner)]
    return lines if profile is None else ["profiles:", f"  {profile}:", *(f"    {line}" for line in lines)]


def yaml_quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def table_lines(
    console: Console,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Collection[str],
    folds: Collection[str],
) -> list[str]:
    """The lines of a table, the heads first; none where the terminal is too narrow.

    right: heads of columns that hold numbers. folds: heads of columns whose cells may become several lines.
    """
    columns = {head: (head, *(row[number] for row in rows)) for number, head in enumerate(heads)}
    longest = {
        head: max(len(part) for cell in cells for part in (cell.split() if head in folds else [cell]) or [""])
        for head, cells in columns.items()
    }
    width = console.width if console.is_terminal else _PIPED
    if sum(longest.values()) + _GAP * (len(heads) - 1) > width:
        return []
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for head, least in longest.items():
        justify: Literal["left", "right"] = "right" if head in right else "left"
        table.add_column(head, justify=justify, no_wrap=head not in folds, min_width=least)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    lines = console.render_lines(table, console.options.update(width=width, no_wrap=False), pad=False)
    return ["".join(segment.text for segment in line).rstrip() for line in lines]
