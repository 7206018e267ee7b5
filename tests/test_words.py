"""One word for one thing: code, messages and documents do not use the words that the glossary has replaced."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# retired word -> what names of the code say instead
NAMES = {
    "anew": "again, or recreate",
    "aside": "saved",
    "asked": "requested, or options",
    "begun": "started, or interrupted",
    "beside": "what it is",
    "book": "restore journal",
    "choices": "options",
    "fact": "state, report or field",
    "facts": "state, report or fields",
    "forsake": "abandon",
    "forsaken": "abandoned",
    "former": "previous",
    "ground": "what it is",
    "holdings": "saved copies",
    "known": "state, index, or what it is",
    "ledger": "restore journal",
    "look": "observe, or check",
    "mend": "fix",
    "mended": "fixed",
    "mine": "own",
    "place": "repository, destination or path",
    "places": "repositories, destinations or paths",
    "said": "message",
    "stead": "instead",
    "stock": "reusable blobs",
    "strangers": "unauthenticated",
    "tell": "render, report or log",
    "telling": "what it does",
    "tells": "renders, reports or logs",
    "thin": "prune",
    "told": "message, or reported",
    "verdict": "result",
    "void": "invalidate",
    "wanted": "desired or spec",
    "wish": "requirement",
    "wishes": "options",
}
LIBRARY = {"parse_known_args", "choices", "tell"}  # names of Python's own, of argparse and of files
# retired phrase, as a regular expression -> what texts, comments and documents say instead
PHRASES = {
    r"aside": "saved copy",
    r"anew": "again",
    r"answers from": "is reachable",
    r"as wanted": "unchanged, or as configured",
    r"at work": "running",
    r"already so": "unchanged",
    r"begun": "started, or interrupted",
    r"cut off": "interrupted",
    r"former(ly)?": "previous",
    r"forsak\w+": "abandon",
    r"(go|goes|going|went) back": "roll back",
    r"half[- ](migrated|restored|upgraded)": "interrupted",
    r"holdings": "saved copies",
    r"in its stead": "instead",
    r"kept nowhere": "stored nowhere",
    r"ledgers?": "restore journal",
    r"let(s|ting)? go": "release, or delete",
    r"make so": "apply",
    r"mend(s|ed|ing)?": "fix",
    r"places? (of|for) (the |its )?(backups|snapshots)": "backup repository",
    r"scratch place": "scratch folder or database",
    r"strangers?": "unauthenticated client",
    r"tak(e|es|en|ing) away": "delete",
    r"thin(ned)? out": "prune",
    r"turned away": "rejected",
    r"verdict": "result",
    r"void(s|ed|ing)?": "invalidate",
    r"wanted": "desired",
    r"wish(es)?": "option, or requirement",
}
PHRASE = re.compile(rf"\b({'|'.join(f'(?:{phrase})' for phrase in PHRASES)})\b", re.I)
PACKAGES = ["mlflow_ae5_deploy", "project_template"]
DOCUMENTS = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "project_template/README.md",
    *(p.relative_to(ROOT).as_posix() for p in sorted((ROOT / "runbooks").rglob("*.md"))),
]


def words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def retired_names(name: str) -> list[str]:
    return [f"{name}: say {NAMES[word]}" for word in words(name) if word in NAMES and name not in LIBRARY]


def retired_phrases(text: str) -> list[str]:
    return [f"{found[0]!r}: say {_instead(found[0])}" for found in PHRASE.finditer(" ".join(text.split()))]


def _instead(found: str) -> str:
    return next(word for phrase, word in PHRASES.items() if re.fullmatch(phrase, found, re.I))


def retired_words(source: str) -> Iterator[str]:
    """Of a module: in its names, and in its texts and comments."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        match token.type:
            case tokenize.NAME:
                found = retired_names(token.string)
            case tokenize.STRING | tokenize.COMMENT:
                found = retired_phrases(token.string)
            case _:
                continue
        for item in found:
            yield f"line {token.start[0]}: {item}"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_uses_a_retired_word(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {item}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for item in (*retired_names(path.stem), *retired_words(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_document_uses_a_retired_phrase(name: str) -> None:
    assert retired_phrases((ROOT / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("wanted_job = 1", ["line 1: wanted_job: say desired or spec"]),
        ("class WantedJob: ...", ["line 1: WantedJob: say desired or spec"]),
        ("job.NOT_WANTED", ["line 1: NOT_WANTED: say desired or spec"]),
        ("x = 'an upgrade was cut\\\n  off'", []),
        ('"""An upgrade was cut\noff."""', ["line 1: 'cut off': say interrupted"]),
        ("x = 1  # Going back", ["line 1: 'Going back': say roll back"]),
        ("replace = 'a place'", []),
    ],
)
def test_retired_words_are_found_in_names_texts_and_comments(source: str, expected: list[str]) -> None:
    assert list(retired_words(source)) == expected
