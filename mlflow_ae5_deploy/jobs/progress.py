"""The progress lines in a job's log, see contract.json of the project template.

Others may write to a log, too: what is not as agreed is left out, and of the phase only known words are shown.
"""

from __future__ import annotations

import re
from typing import Any

from mlflow_ae5_deploy.common import json_input
from mlflow_ae5_deploy.engine.progress import Phase
from mlflow_ae5_deploy.jobs.contract import PHASES, UNITS

PREFIX = "progress "
_LONGEST = 1000  # characters of a line
_WORD = re.compile(r"[a-z]{1,20}(?:-[a-z]{1,20}){0,4}")


def parse(line: str) -> Phase | None:
    """None for any other line of a log."""
    if not line.startswith(PREFIX) or len(line) > _LONGEST:
        return None
    try:
        fields = json_input.parse(line[len(PREFIX) :])
    except ValueError:
        return None
    name = fields.get("phase") if isinstance(fields, dict) else None
    if not isinstance(name, str) or not _WORD.fullmatch(name):
        return None
    done, unit = _count(fields.get("done")), fields.get("unit")
    step, steps = _count(fields.get("step")), _count(fields.get("steps"))
    numbered = step is not None and steps is not None and 1 <= step <= steps
    counted = done is not None and unit in UNITS
    return Phase(
        PHASES.get(name, name.replace("-", " ")),
        step=step if numbered else None,
        steps=steps if numbered else None,
        done=done if counted else None,
        total=_count(fields.get("total")) if counted else None,
        unit=unit if counted else "bytes",
        seconds=_number(fields.get("seconds")),
        ended=fields.get("ended") is True,
    )


def without(log: str) -> str:
    """The log without its progress lines."""
    return "\n".join(line for line in log.split("\n") if parse(line) is None)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15 else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and _number(value) is not None else None
