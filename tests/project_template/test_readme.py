"""The README of the project names every command, word and variable that there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from mlflow_ae5_server import cli
from mlflow_ae5_server.common import arguments, errors, settings
from mlflow_ae5_server.common.contract import EXIT_CODES

FOLDER = Path(errors.__file__).parents[2]
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")
LINES = re.findall(r"^    python -m mlflow_ae5_server (.*)$", TEXT, re.M)


def rows(head: str) -> dict[str, str]:
    """First two cells of a table, by the first one."""
    block = TEXT.split(f"\n| {head} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block]
    return {row[0]: row[1] for row in cells}


def test_variables_and_their_defaults() -> None:
    reported = {
        name: default.strip("`") for cell, default in rows("variable").items() for name in re.findall(r"[A-Z_]+", cell)
    }
    assert reported == settings.DEFAULTS


def test_commands() -> None:
    file = (FOLDER / "anaconda-project.yml").read_text(encoding="utf-8")
    commands = re.findall(r"^  (\w+):$", file.partition("\ncommands:\n")[2].partition("\nchannels:")[0], re.M)
    reported = {name.strip("`") for name in rows("command")} - {"Minimum..."}
    assert reported | {f"Minimum{name}" for name in reported} == set(commands)


def test_exit_codes_of_the_contract_are_those_of_the_errors() -> None:
    kinds = [errors.ProjectError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    ends = {0, errors.Interrupted.exit_code, EXIT_CODES["incomplete"]} | {kind.exit_code for kind in kinds}
    assert set(EXIT_CODES.values()) == ends


def readings(line: str) -> list[str]:
    """The command lines that a line with `[--one | --other]` stands for."""
    found = re.search(r"\[([^]]*)\]", line)
    if found is None:
        return [line]
    *lead, last = found[1].split(" ") if " | " not in found[1] else [found[1]]
    choices = last.split(" | ") if " | " in last else [" ".join([*lead, value]) for value in last.split("|")]
    rest = line[found.end() :]
    return [reading for choice in choices for reading in readings(line[: found.start()] + choice + rest)]


@pytest.mark.parametrize("line", LINES)
def test_every_line_is_understood_with_all_its_options(line: str) -> None:
    for reading in readings(line):
        words = shlex.split(reading.replace(" N", " 1"))
        assert cli.parse(words).command == words[0]


def test_every_word_of_every_command_is_in_it() -> None:
    source = Path(cli.__file__).read_text() + Path(arguments.__file__).read_text()
    options = set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', source)) | {
        "--keep-last",
        "--keep-daily",
        "--keep-weekly",
    }
    assert options <= set(re.findall(r"--[a-z-]+", "\n".join(LINES)))
