"""Changes of settings that let garbage collection or retention delete what they would have kept: they need consent.

Pure. A value is None where it is not known here; one that is not set is the default of the project.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mlflow_ae5_deploy.common.durations import parse_ttl
from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.variable_names import GC_DRY_RUN, GC_ORPHANS, GC_REGISTERED, GC_TTL
from mlflow_ae5_deploy.engine.change import Consequence, Impact
from mlflow_ae5_deploy.jobs.contract import ARGUMENTS

DEFAULTS = {GC_TTL: "30d0h0m0s", GC_ORPHANS: "ignore", GC_REGISTERED: "false", GC_DRY_RUN: "false"}
"""Of the variables that decide what is deleted; a test keeps them equal to those of the project."""
_TEXTS = {
    GC_TTL: "what users deleted more than {} ago is purged by the next garbage collection",
    GC_ORPHANS: "garbage collection deletes orphaned artifact folders ({})",
    GC_REGISTERED: "garbage collection also deletes artifacts behind registered model versions",
    GC_DRY_RUN: "garbage collection deletes again what it only lists now",
}
_BACKUP = ARGUMENTS["Backup"]
_KEEP = re.compile(r"--keep-(last|daily|weekly)[ =](\d+)")
_ORPHANS = {"remove": 1.0, "remove-all": 2.0}
_TRUE = ("true", "1", "yes", "on")
_PLAIN = re.compile(r"[A-Za-z0-9.-]{0,40}")


def consequence_of(name: str, before: str | None, after: str | None) -> Consequence | None:
    """What becomes of data with the new value of a variable; None where nothing is deleted that was kept."""
    if name == _BACKUP:
        return _fewer_snapshots(retention_in(before or ""), retention_in(after or ""))
    if name not in DEFAULTS or (after is not None and _reach(name, after) <= _lowest_reach(name, before)):
        return None
    text = _TEXTS[name].format("a value that is not shown" if after is None else after.strip() or DEFAULTS[name])
    return Consequence(Impact.DATA, text if before is not None else f"{text}; the value before is not known here")


def _lowest_reach(name: str, value: str | None) -> float:
    """The least there is for a value that is not known."""
    least = {GC_TTL: float("-inf")}
    return least.get(name, 0.0) if value is None else _reach(name, value)


def _reach(name: str, value: str) -> float:
    """A greater number for a value that lets more be deleted. With a value that is none, the job deletes nothing."""
    text = value.strip().lower()
    text = DEFAULTS[name] if text in ("", "unset") else text
    if name == GC_TTL:
        try:
            return -parse_ttl(text).total_seconds()
        except Configuration:
            return float("-inf")
    if name == GC_ORPHANS:
        return _ORPHANS.get(text, 0.0)
    return float((text in _TRUE) == (name == GC_REGISTERED))


def retention_in(arguments: str) -> dict[str, int]:
    """The rules among the arguments of a backup; none of them keeps everything."""
    return {rule: int(number) for rule, number in _KEEP.findall(arguments)}


def _fewer_snapshots(before: Mapping[str, int], after: Mapping[str, int]) -> Consequence | None:
    fewer = not before or any(number > after.get(rule, 0) for rule, number in before.items())
    if not after or not fewer:
        return None
    return Consequence(Impact.DATA, "the next scheduled backup deletes snapshots that are kept now")


def values_of(name: str, before: str | None, after: str | None) -> list[str]:
    """`name: before → after` of a variable that decides what is deleted; others may be confidential.

    None: not set.
    """
    if name == _BACKUP:
        rules = retention_in(before or ""), retention_in(after or "")
        return [
            f"keep_{rule}: {rules[0].get(rule, 'not set')} → {rules[1].get(rule, 'not set')}"
            for rule in ("last", "daily", "weekly")
            if rules[0].get(rule) != rules[1].get(rule)
        ]
    if name not in DEFAULTS:
        return []
    words = ["not set" if v is None else v if _PLAIN.fullmatch(v) else "(not shown)" for v in (before, after)]
    return [f"{name}: {' → '.join(words)}"]
