"""How long the command line takes, and how much memory: `python tests/benchmarks/bench_install.py`.

Runs every command as a process of its own, with a state folder of its own, on the sandbox with a real MLflow server.
An install includes MLflow's boot, so that is measured as well (from the start of the deployment to the first answer
from its database, as the install itself saw it) and taken off.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 5


def timed(environ: dict[str, str], *argv: str) -> tuple[float, str]:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *argv], env=environ, capture_output=True, text=True, check=True)
    return time.perf_counter() - began, done.stdout


def seconds(environ: dict[str, str], *argv: str) -> float:
    return statistics.median(timed(environ, *argv)[0] for _ in range(RUNS))


def main() -> int:
    tool = ("-m", "mlflow_ae5_deploy")
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "MLFLOW_AE5_DEPLOY_STATE": str(Path(folder) / "state")}
        bare = seconds(environ, "-c", "pass")
        rows.append(("--help, more than a bare interpreter", f"{seconds(environ, *tool, '--help') - bare:.2f} s"))
        try:
            timed(environ, *tool, "sandbox", "up")
            whole, text = timed(environ, *tool, "install", "--sandbox", "--json")
            deploy = next(s["seconds"] for s in json.loads(text)["stages"] if s["name"] == "deploy")
            rows.append(("first install, whole", f"{whole:.2f} s"))
            rows.append(("of it the deploy stage, MLflow's boot included", f"{deploy:.2f} s"))
            rows.append(("first install without the deploy stage", f"{whole - deploy:.2f} s"))
            rows.append(("repeated install", f"{seconds(environ, *tool, 'install', '--sandbox'):.2f} s"))
            rows.append(("plan", f"{seconds(environ, *tool, 'plan', '--sandbox'):.2f} s"))
            rows.append(("verify", f"{seconds(environ, *tool, 'verify', '--sandbox'):.2f} s"))
        finally:
            timed(environ, *tool, "sandbox", "reset", "--yes")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    rows.append(("largest process of the tool itself (the sandbox's servers not counted)", f"{peak:.0f} MB"))
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}; medians of {RUNS}")
    for name, value in rows:
        print(f"  {name:<72} {value:>8}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
