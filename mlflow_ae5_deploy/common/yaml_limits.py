"""Limits for YAML from outside: aliases can make gigabytes of a kilobyte.

Client, sandbox and server project share this file: the server project has a copy, and a test keeps the two equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MAX_BYTES = 128_000
MAX_NODES = 20_000  # with every alias replaced by what it stands for
MAX_DEPTH = 50
MAX_DIGITS = 1_000  # of a number; Python refuses to write down those of more than 4,300
ODD_VALUES = (ValueError, LookupError, ArithmeticError, TypeError, AttributeError, RecursionError)
"""Exceptions of the YAML libraries, besides YAMLError, for values that do not fit their form or tag."""

_NUMBER = re.compile(r"[-+.]*[0-9][0-9A-Fa-fxXo_.:]*\Z")


class UnfitYaml(ValueError):
    """The document is not taken; the message completes "the file ..."."""


def check_events(events: Iterable[Any]) -> None:
    """Raise UnfitYaml for a document that is too large or deep with aliases expanded.

    events: from the parser of PyYAML or of ruamel.yaml, whose classes have the same names. They are read one by one,
    so nothing of the document is built. What the parser raises passes.
    """
    total = 0
    expanded: dict[str, tuple[int, int]] = {}  # nodes and levels below each anchor
    open_nodes: list[tuple[str | None, int, list[int]]] = []  # anchor, nodes before it, deepest level within
    for event in events:
        kind = type(event).__name__
        levels = 0
        if kind in ("SequenceStartEvent", "MappingStartEvent"):
            open_nodes.append((event.anchor, total, [len(open_nodes) + 1]))
            total += 1
        elif kind == "ScalarEvent":
            total += 1
            if event.anchor:
                expanded[event.anchor] = (1, 0)
            if len(event.value) > MAX_DIGITS and (event.tag or (event.implicit[0] and _NUMBER.match(event.value))):
                raise UnfitYaml(
                    f"has a number of more than {MAX_DIGITS:,} digits, or a value of that length with a tag"
                )
        elif kind == "AliasEvent":
            if any(anchor == event.anchor for anchor, _, _ in open_nodes):
                raise UnfitYaml("has a value that contains itself")
            if event.anchor not in expanded:
                return  # the reader raises at an alias of nothing, before it comes to what follows
            nodes, levels = expanded[event.anchor]
            total += nodes
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            anchor, before, (deepest,) = open_nodes.pop()
            if anchor:
                expanded[anchor] = (total - before, deepest - len(open_nodes))
            levels = deepest - len(open_nodes)
        if open_nodes:
            level = open_nodes[-1][2]
            level[0] = max(level[0], len(open_nodes) + levels)
            if level[0] > MAX_DEPTH:
                raise UnfitYaml(f"is nested more than {MAX_DEPTH} levels deep")
        if total > MAX_NODES:
            raise UnfitYaml(f"has more than {MAX_NODES:,} values once its aliases are expanded")


def load(path: Path) -> Any:
    """Read a file with PyYAML's safe loader. Raises UnfitYaml or OSError."""
    import yaml

    with path.open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UnfitYaml(f"is larger than {MAX_BYTES // 1000} kB")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = data.decode("utf-8-sig")
        check_events(yaml.parse(text, Loader=loader))
        return yaml.load(text, Loader=loader)  # noqa: S506 - both are safe ones
    except UnfitYaml:
        raise
    except (yaml.YAMLError, *ODD_VALUES) as error:
        mark = getattr(error, "problem_mark", None)
        raise UnfitYaml("is not valid YAML" + (f" (line {mark.line + 1})" if mark else "")) from None
