"""The verbs that must converge. Another verb is another row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.convergence.cell import CONFIGURATION, WITH_CONSUMER, Cell
from tests.convergence.expectations import JOB, installed, uninstalled

INSTALL = ("install", "--sandbox", "--json", "--release", "{release}")
PLAIN_INSTALL = ("install", "--sandbox", "--json", "--release", "{plain}")


def all_stages_unchanged(told: Any) -> bool:
    return {stage["outcome"] for stage in told["stages"]} == {"unchanged"}


def outcome_unchanged(told: Any) -> bool:
    return bool(told["outcome"] == "unchanged")


@dataclass(frozen=True)
class Row:
    """ground: what is run first, undisturbed. argv: what is disturbed. again: what an operator then runs.

    settled: run after that; it must write nothing, and `unchanged` must hold of its JSON. holds: of the platform.
    every: how many requests there are from one point to the next; more than 1 for what takes long.
    """

    name: str
    argv: tuple[str, ...]
    again: tuple[str, ...]
    settled: tuple[str, ...]
    unchanged: Callable[[Any], bool]
    holds: Callable[[Cell], None]
    ground: tuple[tuple[str, ...], ...] = (INSTALL,)
    configuration: str = CONFIGURATION
    every: int = 1


CHANGED_JOB = ("schedule-gc", "--sandbox", "--json", "--cron", "30 3 * * 0", "--ttl", "7d0h0m0s")
CHANGED = {**JOB, "schedule": "30 3 * * 0", "variables": {"MLFLOW_TRACKING_GC_TTL": "7d0h0m0s"}}
ROTATE = ("rotate-token", "--sandbox", "--json")
UNINSTALL = ("uninstall", "--sandbox", "--json", "--yes")

ROWS = (
    Row("install", INSTALL, INSTALL, INSTALL, all_stages_unchanged, installed, ground=()),
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
        (*ROTATE, "--restart"),
        ROTATE,
        PLAIN_INSTALL,
        all_stages_unchanged,
        installed,
        ground=(PLAIN_INSTALL,),
    ),
    Row("schedule-gc", CHANGED_JOB, CHANGED_JOB, CHANGED_JOB, outcome_unchanged, partial(installed, job=CHANGED)),
    Row("uninstall", UNINSTALL, UNINSTALL, UNINSTALL, outcome_unchanged, uninstalled),
)
