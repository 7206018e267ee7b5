"""Check a job's report against the contract of jobs and client; real jobs and the fake ones of tests alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONTRACT = json.loads((Path(__file__).parents[1] / "project_template/mlflow_ae5_server/contract.json").read_text())

_PLAIN = {"text": (str,), "integer": (int,), "number": (int, float), "flag": (bool,), "object": (dict,)}


def checked(report: dict[str, Any]) -> dict[str, Any]:
    """`report` itself; AssertionError where it has a field that the contract does not know, or of another type."""
    fields = CONTRACT["report"] | CONTRACT["commands"][report["command"]]["report"]
    assert not list(_violations(fields, report, report["command"]))
    outcomes = CONTRACT["outcomes"]
    assert report["outcome"] in (*outcomes["success"], *outcomes["other"])
    return report


def _violations(fields: dict[str, Any], value: dict[str, Any], where: str) -> Iterator[str]:
    for name, inner in value.items():
        if name not in fields:
            yield f"{where}.{name} is not in contract.json"
        elif inner is not None:
            yield from _wrong_type(fields[name], inner, f"{where}.{name}")


def _wrong_type(form: Any, value: Any, where: str) -> Iterator[str]:
    if isinstance(form, list):
        if not isinstance(value, list | tuple):
            yield f"{where} is no list"
            return
        for item in value:
            yield from _wrong_type(form[0], item, where)
    elif form in _PLAIN:
        if not isinstance(value, _PLAIN[form]) or (form in ("integer", "number") and isinstance(value, bool)):
            yield f"{where} is {value!r}, which is no {form}"
    else:
        yield from _violations(CONTRACT["types"][form], value, where)
