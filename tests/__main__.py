"""`python tests` runs every check of the project: formatting, lint and types, then the tests, each at the same time.

Extra arguments go to pytest, and then tests/convergence, which tries every request of a run, is left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
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
        ["-m", "pytest", "-n", "4", "--dist", "loadfile", "--no-loadscope-reorder", "--ignore", "tests/convergence"],
    ),
    ("convergence", ".", ["-m", "pytest", "-n", "2", "--dist", "worksteal", "tests/convergence"]),
)


# Without bytecode every process of every test would compile what it imports, and pytest rewrite every test.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def start(folder: str, command: list[str], stdout: int | None = None) -> subprocess.Popen[str]:
    together = None if stdout is None else subprocess.STDOUT
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT / folder, env=ENVIRONMENT, stdout=stdout, stderr=together, text=True
    )


def main(arguments: list[str]) -> int:
    failed = []
    reading = [(name, start(folder, command, stdout=subprocess.PIPE)) for name, folder, command in READING]
    for name, process in reading:
        print(f"== {name}", flush=True)
        print(process.communicate()[0], end="", flush=True)
        if process.returncode != 0:
            failed.append(name)
    # Both wait for processes most of the time; the second one's output comes after the first one's.
    with tempfile.TemporaryFile("w+") as later:
        testing = [
            (name, start(folder, [*command, *arguments], stdout=later.fileno() if number else None))
            for number, (name, folder, command) in enumerate(TESTS[:1] if arguments else TESTS)
        ]
        print(f"== {testing[0][0]}", flush=True)
        failed += [name for name, process in testing if process.wait() != 0]
        for name, _process in testing[1:]:
            later.seek(0)
            print(f"== {name}\n{later.read()}", flush=True)
    print(f"Failed: {', '.join(failed)}" if failed else "Everything passed.", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
