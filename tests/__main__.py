"""`python tests` runs every check of the project: formatting, lint and types at the same time, then the tests.

Extra arguments go to pytest, and then tests/convergence, which tries every request of a run, is left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVER_TYPES = [
    "--config-file",
    os.devnull,
    "--cache-dir",
    str(ROOT / ".mypy_cache" / "server"),  # with other options than the other, which works at the same time
    "--strict",
    "--ignore-missing-imports",
    "-p",
    "mlflow_ae5_server",
]
READING = (
    ("format", ".", ["-m", "ruff", "format", "--check", "."]),
    ("lint", ".", ["-m", "ruff", "check", "."]),
    ("types", ".", ["-m", "mypy"]),
    ("types of the server project", "project_template", ["-m", "mypy", *SERVER_TYPES]),
)
TESTS = (
    (
        "tests",
        ".",
        ["-m", "pytest", "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", "--ignore", "tests/convergence"],
    ),
    ("convergence", ".", ["-m", "pytest", "-n", "4", "--dist", "worksteal", "tests/convergence"]),
)


def start(folder: str, command: list[str], stdout: int | None = None) -> subprocess.Popen[str]:
    together = None if stdout is None else subprocess.STDOUT
    return subprocess.Popen([sys.executable, *command], cwd=ROOT / folder, stdout=stdout, stderr=together, text=True)


def main(arguments: list[str]) -> int:
    failed = []
    reading = [(name, start(folder, command, stdout=subprocess.PIPE)) for name, folder, command in READING]
    for name, process in reading:
        print(f"== {name}", flush=True)
        print(process.communicate()[0], end="", flush=True)
        if process.returncode != 0:
            failed.append(name)
    for name, folder, command in TESTS:
        if arguments and name == "convergence":
            continue
        print(f"== {name}", flush=True)
        if start(folder, [*command, *arguments]).wait() != 0:
            failed.append(name)
    print(f"Failed: {', '.join(failed)}" if failed else "Everything passed.", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
