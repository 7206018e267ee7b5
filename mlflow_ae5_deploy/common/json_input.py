"""JSON from outside, with limits: few brackets can stand for gigabytes of objects.

Client and server project share this file: the server project has a copy, and a test keeps the two equal.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

MAX_DEPTH = 100
MAX_NODES = 1_000_000  # values and names; Python needs about 100 bytes for each

_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.S)  # or an unterminated one, so that not each of its quotes is tried
_STRUCTURE = ",[{:"


def parse(data: str | bytes, max_depth: int = MAX_DEPTH, max_nodes: int = MAX_NODES) -> Any:
    """Parse standard JSON of a sane depth and size; ValueError for anything else.

    Also where Python's reader raises something else or goes beyond the standard: NaN, infinite numbers, integers that
    cannot be written down again.
    """
    text = data if isinstance(data, str) else data.decode(json.detect_encoding(data), "surrogatepass")
    if _count(text) > max_nodes and _count(_STRING.sub("", text)) > max_nodes:
        raise ValueError("too many values")
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [value]
    for _ in range(max_depth):
        level = [inner for item in level for inner in _inside(item)]
        if not level:
            return value
    raise ValueError("nested too deeply")


def _count(text: str) -> int:
    return sum(map(text.count, _STRUCTURE))


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(_text: str) -> NoReturn:
    raise ValueError("a number that JSON does not have, or that is too large")
