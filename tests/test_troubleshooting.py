"""The troubleshooting page quotes only messages that the code can print, each with the exit code it ends with."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlflow_ae5_deploy.common import errors

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "project_template"))
PAGE = ROOT / "runbooks" / "reference" / "troubleshooting.md"
# Errors that are passed on under another exit code: by a stage, with the deployment's log; by `upgrade --roll-back`.
WRAPPED = {
    "The deployment did not start: … (state …).": errors.StageFailed.exit_code,
    "Snapshot …, which the rollback needs, is not in the backup repository.": errors.RollbackFailed.exit_code,
}
SHORTEST = 6  # characters of a part between two … that must be found


CODES = {
    name: cls.exit_code
    for module in (errors, importlib.import_module("mlflow_ae5_server.common.errors"))
    for name, cls in vars(module).items()
    if isinstance(cls, type) and hasattr(cls, "exit_code")
} | {"Trouble": errors.Unreachable.exit_code, "failure": errors.StageFailed.exit_code}


@dataclass(frozen=True)
class Printed:
    """A text of the code, with … for what is filled in. code: where it is the text of an error, else None."""

    text: str
    code: int | None


def text_of(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"\{\w+\}", "…", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None


def code_of(call: ast.Call) -> int | None:
    """By the class that is called; a Trouble names another one than usual."""
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    if name == "Trouble":
        named = [n.id for n in ast.walk(call) if isinstance(n, ast.Name) and n.id in CODES and n.id != "Trouble"]
        name = named[0] if named else name
    return CODES.get(name)


def printed_by(tree: ast.AST, code: int | None = None) -> Iterator[Printed]:
    for node in ast.iter_child_nodes(tree):
        inner = code
        if isinstance(node, ast.Call):
            inner = code_of(node) if code_of(node) is not None else code
        if isinstance(node, ast.expr) and (text := text_of(node)):
            yield Printed(text, inner)
            continue
        yield from printed_by(node, inner)


@functools.cache
def everything_printed() -> list[Printed]:
    found: list[Printed] = []
    for top in ("mlflow_ae5_deploy", "project_template"):
        for path in (ROOT / top).rglob("*.py"):
            found += printed_by(ast.parse(path.read_text(encoding="utf-8")))
    return found


def rows() -> list[tuple[str, int]]:
    """(message, exit code) of every table that has such columns."""
    page = PAGE.read_text(encoding="utf-8")
    return [(message, int(code)) for message, code in re.findall(r"^\| `([^`]+)` \| (\d+) \|", page, re.M)]


def parts(message: str) -> list[str]:
    return [part for part in message.split("…") if len(part.strip(" .:,()")) >= SHORTEST]


def test_the_page_has_messages_and_the_reader_of_the_code_finds_texts():
    assert len(rows()) > 40
    assert len(everything_printed()) > 1000
    # a row of the message tables that the pattern above does not catch would not be checked
    page = PAGE.read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("| ") and line.count(" | ") >= 2]
    assert len(lines) - 2 * page.count("| message | exit code | cause |") == len(rows())


@pytest.mark.parametrize(("message", "code"), rows(), ids=[message[:60] for message, _ in rows()])
def test_a_message_is_one_the_code_prints_with_that_exit_code(message, code):
    desired = parts(message)
    assert desired, "nothing in it could be looked for"

    places = [printed for printed in everything_printed() if all(part.strip() in printed.text for part in desired)]

    assert places, f"no text in the code has {desired}"
    codes = {WRAPPED.get(place.text, place.code) for place in places}
    assert codes & {None, code}, codes
