"""The verbs that must converge. Another verb is another row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.convergence.cell import CONFIGURATION, WITH_CONSUMER, Cell
from tests.convergence.expectations import JOB, holds_data, installed, lose_data, uninstalled, use_data

INSTALL = ("install", "--sandbox", "--json", "--release", "{release}")
PLAIN_INSTALL = ("install", "--sandbox", "--json", "--release", "{plain}")


def all_stages_unchanged(document: Any) -> bool:
    return {stage["outcome"] for stage in document["stages"]} == {"unchanged"}


def outcome_unchanged(document: Any) -> bool:
    return bool(document["outcome"] == "unchanged")


@dataclass(frozen=True)
class Row:
    """ground: what is run first, undisturbed, and then: done to it. argv: what is disturbed. again: what an operator
    then runs.

    settled: run after that; it must write nothing, and `unchanged` must hold of its JSON. holds: of the platform.
    requests: about how many there are, for what takes long: then a few of them are points. 0: every one is,
    or with `every` each second one, and so on.
    """

    name: str
    argv: tuple[str, ...]
    again: tuple[str, ...]
    settled: tuple[str, ...]
    unchanged: Callable[[Any], bool]
    holds: Callable[[Cell], None]
    rotation: tuple[tuple[str, ...], ...] = (INSTALL,)
    configuration: str = CONFIGURATION
    then: Callable[[Cell], None] = lambda _cell: None
    requests: int = 0
    every: int = 1


CHANGED_JOB = ("schedule-gc", "--sandbox", "--json", "--cron", "30 3 * * 0", "--ttl", "7d0h0m0s", "--yes")
CHANGED = {**JOB, "schedule": "30 3 * * 0", "variables": {"MLFLOW_TRACKING_GC_TTL": "7d0h0m0s"}}
ROTATE = ("rotate-token", "--sandbox", "--json")
UNINSTALL = ("uninstall", "--sandbox", "--json", "--yes")
INSTALL_FIRST = ("install", "--sandbox", "--json", "--release", "{first}")
INSTALL_SECOND = ("install", "--sandbox", "--json", "--release", "{second}")
BACKUP = ("backup", "--sandbox", "--json")
RESTORE = ("restore", "--sandbox", "--json", "--release", "{first}")
UPGRADE = ("upgrade", "--sandbox", "--json", "--no-rehearsal", "--yes", "--release", "{second}")
PURGE = ("uninstall", "--sandbox", "--json", "--yes", "--purge-secrets")

ROWS = (
    Row("install", INSTALL, INSTALL, INSTALL, all_stages_unchanged, installed, rotation=()),
    Row(
        "rotate-token",
        ROTATE,
        ROTATE,
        (*ROTATE, "--if-needed"),
        outcome_unchanged,
        partial(installed, consumer=True),
        configuration=WITH_CONSUMER,
    ),
    Row(
        "rotate-token --restart",
        (*ROTATE, "--restart", "--yes"),
        ROTATE,
        PLAIN_INSTALL,
        all_stages_unchanged,
        installed,
        rotation=(PLAIN_INSTALL,),
    ),
    Row("schedule-gc", CHANGED_JOB, CHANGED_JOB, CHANGED_JOB, outcome_unchanged, partial(installed, job=CHANGED)),
    Row("uninstall", UNINSTALL, UNINSTALL, UNINSTALL, outcome_unchanged, uninstalled),
    Row(
        "backup", BACKUP, BACKUP, INSTALL_FIRST, all_stages_unchanged, installed, rotation=(INSTALL_FIRST,), requests=28
    ),
    Row(
        "restore",
        RESTORE,
        RESTORE,
        INSTALL_FIRST,
        all_stages_unchanged,
        partial(holds_data, schema="schema-1"),
        rotation=(INSTALL_FIRST, BACKUP, PURGE),
        then=lose_data,
        requests=80,
    ),
    Row(
        "upgrade",
        UPGRADE,
        UPGRADE,
        INSTALL_SECOND,
        all_stages_unchanged,
        partial(holds_data, schema="schema-2"),
        rotation=(INSTALL_FIRST,),
        then=use_data,
        requests=150,
    ),
)
