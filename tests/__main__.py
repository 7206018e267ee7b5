"""`python tests` runs every check of the project: formatting, lint, types, tests.

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
    str(ROOT / ".mypy_cache"),
    "--strict",
    "--ignore-missing-imports",
    "-p",
    "mlflow_ae5_server",
]
CHECKS = (
    ("format", ".", ["-m", "ruff", "format", "--check", "."]),
    ("lint", ".", ["-m", "ruff", "check", "."]),
    ("types", ".", ["-m", "mypy"]),
    ("types of the server project", "project_template", ["-m", "mypy", *SERVER_TYPES]),
    (
        "tests",
        ".",
        ["-m", "pytest", "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", "--ignore", "tests/convergence"],
    ),
    ("convergence", ".", ["-m", "pytest", "-n", "4", "--dist", "worksteal", "tests/convergence"]),
)


def main(arguments: list[str]) -> int:
    failed = []
    for name, folder, command in CHECKS:
        if arguments and name == "convergence":
            continue
        print(f"== {name}", flush=True)
        extra = arguments if name == "tests" else []
        if subprocess.run([sys.executable, *command, *extra], cwd=ROOT / folder, check=False).returncode != 0:
            failed.append(name)
    print(f"Failed: {', '.join(failed)}" if failed else "Everything passed.", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
