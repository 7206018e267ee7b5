"""A terminal for the tests of output: where a verb prints, and what a person sees there."""

from __future__ import annotations

import io
import os
import re
import select
from collections.abc import Callable
from typing import Any

import pytest

from mlflow_ae5_deploy.render.console import Reporter

_SIGN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(.)", re.S)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(
    monkeypatch: pytest.MonkeyPatch, write: Callable[[Reporter], object], width: int | None = 80, **given: Any
) -> list[str]:
    """The lines that `write` prints with a Reporter of these arguments. width: None for no terminal."""
    both = io.StringIO() if width is None else Terminal()
    if width is not None:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("NO_COLOR", "1")
    write(Reporter(out=both, err=both, **given))
    return re.sub(r"\x1b\[[0-9;]*m", "", both.getvalue()).splitlines()


def screen(written: str, width: int) -> list[str]:
    """The lines a terminal of this width shows; long lines are broken by it, anywhere."""
    shown, row, column = [""], 0, 0
    for number, action, sign in _SIGN.findall(written):
        if action == "A":
            row = max(row - int(number or 1), 0)
        elif action == "K":
            shown[row] = ""
        elif sign == "\r":
            column = 0
        elif sign and (sign == "\n" or column >= width):
            row, column = row + 1, 0
            shown += [""] * (row + 1 - len(shown))
        if sign and sign not in "\r\n":
            shown[row] = shown[row].ljust(column)[:column] + sign + shown[row][column + 1 :]
            column += 1
    return shown


def read_all(terminal: int) -> str:
    """What is written to the other end of a pseudo-terminal until everybody has closed it."""
    found = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # how a terminal says that nobody holds its other end any more
            part = b""
        if not part:
            os.close(terminal)
            return found.decode()
        found += part


def read_until(terminal: int, words: str) -> None:
    """Read from the other end of a pseudo-terminal up to these words."""
    found = b""
    while words.encode() not in found:
        assert select.select([terminal], [], [], 200)[0], found.decode()
        found += os.read(terminal, 65536)
