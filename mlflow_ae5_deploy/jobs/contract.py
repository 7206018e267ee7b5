"""What the project's jobs understand, and how their reports and their progress lines are read.

The source is contract.json of the project template.

A report is the last line of a log, to which others may write: a field of another type than agreed counts as absent,
of a progress line, too.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from mlflow_ae5_deploy.common import json_input
from mlflow_ae5_deploy.common.errors import NotFound, PartlyDone, RepositoryFailed, SnapshotDamaged, Usage
from mlflow_ae5_deploy.engine.progress import Phase
from mlflow_ae5_deploy.jobs.reports import R
from mlflow_ae5_deploy.release.bundled import SERVER_PACKAGE, template_dir

_PREFIX = "progress "
_LONGEST = 1000  # characters of a progress line
_WORD = re.compile(r"[a-z]{1,20}(?:-[a-z]{1,20}){0,4}")
_AGREED = json.loads((template_dir() / SERVER_PACKAGE / "contract.json").read_bytes())
_VARIABLES: dict[str, dict[str, str]] = {name: form["variables"] for name, form in _AGREED["commands"].items()}
ARGUMENTS = {command: names["arguments"] for command, names in _VARIABLES.items() if "arguments" in names}
"""The variable with a command's options."""
REHEARSE = _VARIABLES["DatabaseUpgrade"]["rehearse"]
CHECK_VALUES = _VARIABLES["Check"]["check_values"]
BACKUP_DESTINATION = _VARIABLES["Backup"]["destination"]
_PHASES: dict[str, str] = _AGREED["progress"]["phases"]
"""Names of phases in a job's progress lines, and what people read."""
_UNITS = frozenset(_AGREED["progress"]["units"])

SUCCESS = frozenset(_AGREED["outcomes"]["success"])
"""Outcomes of a job that did its work; `skipped` is one of a collection that met another job or a starting server."""
OUTCOME_INCOMPLETE = "incomplete"
UNKNOWN = "unknown"
"""The outcome of a run that left no report."""
USAGE, INCOMPLETE, NOT_FOUND = Usage.exit_code, PartlyDone.exit_code, NotFound.exit_code
SNAPSHOT_DAMAGED, REPOSITORY_FAILED = SnapshotDamaged.exit_code, RepositoryFailed.exit_code


def last_line(log: str) -> dict[str, Any]:
    """The JSON object on the last line that is a report; empty where there is none."""
    for line in reversed(log.splitlines()):
        text = line.strip()
        if not (text.startswith("{") and text.endswith("}")):
            continue
        try:
            value = json_input.parse(text)
        except ValueError:
            continue
        if isinstance(value, dict) and "outcome" in value:
            return value
    return {}


def read(form: type[R], line: Mapping[str, Any]) -> R:
    """The report in a line. Never fails: what is not as agreed is left out."""
    report: R = dataclasses.replace(_build(form, line), data=line)
    return report


_hints = functools.cache(get_type_hints)


def _build(form: Any, values: Mapping[str, Any]) -> Any:
    typed = {name: _typed(hint, values.get(name)) for name, hint in _hints(form).items() if name != "data"}
    return form(**{name: value for name, value in typed.items() if value is not None})


def _typed(hint: Any, value: Any) -> Any:
    """`value` where it has the type, else None; of a list the items that have it."""
    origin = get_origin(hint)
    if origin is UnionType:
        return _typed(get_args(hint)[0], value)
    if origin is tuple:
        items = value if isinstance(value, list) else ()
        return tuple(item for one in items if (item := _typed(get_args(hint)[0], one)) is not None)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value) if isinstance(value, dict) else None
    if isinstance(value, bool) and hint is not bool:
        return None
    return value if isinstance(value, (int, float) if hint is float else origin or hint) else None


def progress_of(line: str) -> Phase | None:
    """None for any other line of a log. Of the phase only known words are shown."""
    if not line.startswith(_PREFIX) or len(line) > _LONGEST:
        return None
    try:
        fields = json_input.parse(line[len(_PREFIX) :])
    except ValueError:
        return None
    name = fields.get("phase") if isinstance(fields, dict) else None
    if not isinstance(name, str) or not _WORD.fullmatch(name):
        return None
    done, unit = _count(fields.get("done")), fields.get("unit")
    step, steps = _count(fields.get("step")), _count(fields.get("steps"))
    numbered = step is not None and steps is not None and 1 <= step <= steps
    counted = done is not None and unit in _UNITS
    return Phase(
        _PHASES.get(name, name.replace("-", " ")),
        step=step if numbered else None,
        steps=steps if numbered else None,
        done=done if counted else None,
        total=_count(fields.get("total")) if counted else None,
        unit=unit if counted else "bytes",
        seconds=_number(fields.get("seconds")),
        ended=fields.get("ended") is True,
    )


def without_progress(log: str) -> str:
    """The log without its progress lines."""
    return "\n".join(line for line in log.split("\n") if progress_of(line) is None)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15 else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and _number(value) is not None else None
