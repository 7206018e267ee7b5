"""The documents of the repository, and what is in them: blocks, commands, tables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNBOOKS = sorted((ROOT / "runbooks").rglob("*.md"))
TEXTS = {"README.md": README} | {
    path.relative_to(ROOT / "runbooks").as_posix(): path.read_text(encoding="utf-8") for path in RUNBOOKS
}
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    ROOT / "project_template" / "README.md",
    *RUNBOOKS,
]
PROGRAM = "mlflow-ae5-deploy"


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language, without the indentation that a list gives them."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, re.M | re.S)
    return [re.sub(rf"^{indent}", "", block, flags=re.M) for indent, block in found]


@dataclass(frozen=True)
class Command:
    """One simple command. words: without variables before it, redirections behind it, and comments."""

    line: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        return Path(self.words[0]).name


def commands(text: str) -> list[Command]:
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    return [command for line in lines for command in simple_commands(line)]


def simple_commands(line: str) -> Iterator[Command]:
    """Those of a list (`a && b`; of `a || b` both), and the inner one of `eval "$(a)"`."""
    if inner := re.fullmatch(r'eval "\$\((.*)\)"', line.strip()):
        yield from simple_commands(inner[1])
        return
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, "&&"]:
        if word not in ("&&", "||", ";", "|"):
            words.append(word)
            continue
        if ">" in words:
            words = words[: words.index(">")]
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words:
            yield Command(line, tuple(words))
        words = []


def table(text: str) -> list[list[str]]:
    """Cells of every row of every table, without header and ruler."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()]
        found += rows[2:]
    return found


def section(text: str, title: str) -> str:
    return re.split(r"^## ", text.split(f"\n## {title}\n", 1)[1], flags=re.M)[0]
