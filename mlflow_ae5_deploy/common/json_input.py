"""JSON from outside."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MAX_DEPTH = 100


def parse(data: str | bytes) -> Any:
    """Raises ValueError for anything but standard JSON of a sane depth, also where Python's reader raises something
    else or goes beyond the standard: NaN, infinite numbers, integers that cannot be written down again."""
    try:
        value = json.loads(data, parse_float=_finite, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for item in level for inner in _inside(item)]
        if not level:
            return value
    raise ValueError("nested too deeply")


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(_text: str) -> NoReturn:
    raise ValueError("a number that JSON does not have, or that is too large")
