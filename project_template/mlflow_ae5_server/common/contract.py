"""What the jobs and their caller agree on, read from contract.json: names, variables, exit codes, fields of reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "contract.json"
CONTRACT: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))

EXIT_CODES: dict[str, int] = CONTRACT["exit_codes"]
COMMANDS: dict[str, str] = {command["word"]: name for name, command in CONTRACT["commands"].items()}
"""The word on the command line -> the command in anaconda-project.yml."""
ARGUMENTS: dict[str, str] = {
    command["word"]: command["variables"]["arguments"]
    for command in CONTRACT["commands"].values()
    if "arguments" in command["variables"]
}
"""The word on the command line -> the variable with the rest of its command line."""
PHASES: dict[str, dict[str, list[str]]] = {name: command["phases"] for name, command in CONTRACT["commands"].items()}
"""Command -> action, or another variant of it -> its phases in order."""
