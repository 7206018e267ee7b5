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
READING = (
    ("format", ["-m", "ruff", "format", "--check", "."]),
    ("lint", ["-m", "ruff", "check", "."]),
    ("types", ["-m", "mypy"]),
)
TESTS = (
    (
        "tests",
        ["-m", "pytest", "-n", "5", "--dist", "loadfile", "--no-loadscope-reorder", "--ignore", "tests/convergence"],
    ),
    ("convergence", ["-m", "pytest", "-n", "2", "--dist", "worksteal", "tests/convergence"]),
)


# Without bytecode every process of every test would compile what it imports, and pytest rewrite every test.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def start(command: list[str], stdout: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=ENVIRONMENT, stdout=stdout, stderr=subprocess.STDOUT
    )


def show(name: str, process: subprocess.Popen[bytes]) -> bool:
    """Print what it writes as it comes. Whether it failed."""
    print(f"== {name}", flush=True)
    assert process.stdout is not None
    while text := os.read(process.stdout.fileno(), 4096):
        sys.stdout.buffer.write(text)
        sys.stdout.flush()
    return process.wait() != 0


def main(arguments: list[str]) -> int:
    # All wait most of the time, for processes and for each other; their outputs come one after the other.
    with tempfile.TemporaryFile() as later:
        running = [
            *((name, start(command, subprocess.PIPE)) for name, command in READING),
            (TESTS[0][0], start([*TESTS[0][1], *arguments], subprocess.PIPE)),
        ]
        behind = [(name, start(command, later.fileno())) for name, command in TESTS[1:] if not arguments]
        failed = [name for name, process in running if show(name, process)]
        failed += [name for name, process in behind if process.wait() != 0]
        later.seek(0)
        print("".join(f"== {name}\n" for name, _process in behind) + later.read().decode(), flush=True)
    print(f"Failed: {', '.join(failed)}" if failed else "Everything passed.", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
