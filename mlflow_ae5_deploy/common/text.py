"""Helpers for sentences and commands in messages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

PROGRAM = "mlflow-ae5-deploy"
# Verbs that work on a platform, and so take --sandbox.
VERBS = (
    *("plan", "install", "status", "doctor", "verify", "rotate-token", "schedule-rotation", "schedule-gc", "share"),
    *("env", "open", "logs", "history", "backup", "restore", "drill", "upgrade", "uninstall", "runbook"),
)
# Of these, those with --release.
_RELEASE = ("plan", "install", "status", "doctor", "restore", "upgrade")
_NO_RELEASE = ("--roll-back", "--list-saved", "--drop-saved")  # where these verbs take none
_COMMAND = re.compile(rf"`((?:{PROGRAM} )?(?:{'|'.join(VERBS)})(?: [^`]*)?)`")
# The options that make another verb work on the same installation, each with its value: (("--config", "x.yaml"), ...).
Target = Sequence[tuple[str, ...]]
_PLATFORM_ID = re.compile(r"(`[^`]*`|(?<!\S)\S*/\S*)|\b(a[0-9]-[0-9a-f]{8})[0-9a-f]{24}\b")
_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (1000, "kB"), (1, "bytes"))


def with_target(command: str, target: Target) -> str:
    """Add the options of `target` that the command's verb takes and does not have yet."""
    verb = command.removeprefix(f"{PROGRAM} ").split(" ", 1)[0]
    given = command.split()
    if "--help" in given:
        return command
    options = [
        shlex.join(option)
        for option in target
        if option[0] not in given
        and not (option[0] == "--release" and (verb not in _RELEASE or any(word in given for word in _NO_RELEASE)))
    ]
    return " ".join([command, *options])


def addressed(text: str, target: Target) -> str:
    """Add the target to every command of this tool in backquotes."""
    return _COMMAND.sub(lambda found: f"`{with_target(found[1], target)}`", text) if target else text


def whole_commands(text: str) -> str:
    """Begin every command of this tool in backquotes with its name, so that it can be pasted."""
    return _COMMAND.sub(lambda found: f"`{PROGRAM} {found[1].removeprefix(f'{PROGRAM} ')}`", text)


def counted(number: int, things: str) -> str:
    """`1 job`, `2 jobs`: `things` is a plural whose last word ends in s."""
    return f"{number} {things.removesuffix('s') if number == 1 else things}"


def count(number: int | None, things: str) -> str:
    """As `counted`, of a number that may be large or unknown: `12,000 runs`."""
    if number is None:
        return f"an unknown number of {things}"
    return counted(1, things) if number == 1 else f"{number:,} {things}"


def with_short_ids(text: str) -> str:
    """Ids of the platform with 8 characters of their own: `a2-c20dfe15`.

    Whole in backquotes, which hold commands, and in paths and addresses: they are copied.
    """
    return _PLATFORM_ID.sub(lambda found: found[1] or found[2], text)


def package_name(name: str) -> str:
    """The canonical form of a package's name, as pip compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def as_sentence(text: str) -> str:
    return f"{capitalized(text)}{'' if text.endswith(('.', '?', '!')) else '.'}" if text else ""


def deleted(jobs: int, records: int) -> str:
    """A phrase on the jobs and run records deleted with a schedule."""
    things = [counted(number, what) for number, what in ((jobs, "jobs"), (records, "run records")) if number]
    return f"deleted {' and '.join(things)}"


def size(value: Any) -> str:
    """1234567 -> 1.2 MB."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "an unknown size"
    factor, name = unit_of(value)
    return f"{value / factor:.{0 if factor == 1 else 1}f} {name}"


def unit_of(value: float) -> tuple[int, str]:
    """The unit for so many bytes: how many it has, and its name."""
    return next((unit for unit in _UNITS if value >= unit[0]), _UNITS[-1])
