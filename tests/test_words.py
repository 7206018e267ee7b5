"""One word for one thing: names of the code do not use the words that the glossary has replaced."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# retired word -> what the code says instead
RETIRED = {
    "book": "restore journal",
    "fact": "state, report or field",
    "facts": "state, report or fields",
    "forsake": "abandon",
    "forsaken": "abandoned",
    "former": "previous",
    "ground": "what it is",
    "holdings": "saved copies",
    "ledger": "restore journal",
    "mend": "fix",
    "mended": "fixed",
    "mine": "own",
    "said": "message",
    "stock": "reusable blobs",
    "strangers": "unauthenticated",
    "telling": "what it does",
    "thin": "prune",
    "verdict": "result",
    "void": "invalidate",
    "wanted": "desired or spec",
    "wish": "requirement",
    "wishes": "options",
}


def names(source: str) -> Iterator[str]:
    """Every name that a module defines, uses or passes an argument by."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case _:
                pass


def words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


@pytest.mark.parametrize("package", ["mlflow_ae5_deploy", "project_template/mlflow_ae5_server"])
def test_no_name_uses_a_retired_word(package: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}, say {RETIRED[word]}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for name in (path.stem, *names(path.read_text(encoding="utf-8")))
        for word in words(name)
        if word in RETIRED
    }
    assert sorted(found) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [("wanted_job", ["wanted", "job"]), ("NOT_WANTED", ["not", "wanted"]), ("WantedJob", ["wanted", "job"])],
)
def test_names_are_split_into_words(name: str, expected: list[str]) -> None:
    assert words(name) == expected
