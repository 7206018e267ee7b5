"""Cold start and memory of `TrackingServer` beside plain `mlflow server`, with the same number of workers.

    python tests/benchmarks/bench_server.py [--workers 2] [--rounds 3] [--json]

Each round starts both on a database that already has its tables, in turn. Cold start: from starting the process to the
first API call that reaches the database answered with 200. Memory: of the whole process tree, once every worker has
answered such calls; PSS counts a shared page once, RSS as often as it is mapped. "jobs off" is plain `mlflow server`
without its background-job processes, for comparison; the limits in the last column are for the plain server.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

TEMPLATE = Path(__file__).parents[2] / "project_template"
MIB = 1024 * 1024
MOST_SECONDS, MOST_MEMORY = 0.6, 0.5  # of the plain server's
START_LIMIT = 120.0


@dataclass(frozen=True)
class Measurement:
    """One start: seconds until it served, then MiB and processes of the tree."""

    seconds: float
    pss: float
    rss: float
    processes: int


@dataclass(frozen=True)
class Contender:
    name: str
    command: Callable[[int], list[str]]
    environment: dict[str, str]


def contenders(workers: int, folder: Path) -> list[Contender]:
    """The same database, artifact folder and worker count for all three."""
    store = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/bench.sqlite",
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        "MLFLOW_WORKERS": str(workers),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }

    def plain(port: int) -> list[str]:
        return [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]

    def ours(port: int) -> list[str]:
        options = ["--anaconda-project-address", "127.0.0.1", "--anaconda-project-port", str(port)]
        return [sys.executable, "-m", "mlflow_ae5_server", "tracking-server", *options]

    return [
        Contender("mlflow server", plain, store),
        Contender("mlflow server, jobs off", plain, {**store, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}),
        Contender("TrackingServer", ours, {**store, "PYTHONPATH": str(TEMPLATE)}),
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def measure(contender: Contender, folder: Path, workers: int) -> Measurement:
    """Start, measure, stop; nothing of it is left running, whatever happens."""
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "_MLFLOW_"))}
    environment.update(contender.environment)
    with (folder / "server.log").open("w") as log:
        started = time.monotonic()
        server = subprocess.Popen(
            contender.command(port), cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait(server, port, log.name)
            seconds = time.monotonic() - started
            _settle(port, workers)
            tree = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
            memory = [process.memory_full_info() for process in tree]
            pss, rss = sum(m.pss for m in memory) / MIB, sum(m.rss for m in memory) / MIB
            return Measurement(seconds, pss, rss, len(tree))
        finally:
            stop(server)


def _call(port: int, session: requests.Session | None = None) -> bool:
    try:
        answer = (session or requests).post(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search", json={"max_results": 5}, timeout=10
        )
    except requests.RequestException:
        return False
    return answer.status_code == 200


def wait(server: subprocess.Popen[bytes], port: int, log: str) -> None:
    deadline = time.monotonic() + START_LIMIT
    while not _call(port):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not come up:\n{Path(log).read_text()[-2000:]}")
        time.sleep(0.05)


def _settle(port: int, workers: int) -> None:
    """Let every process finish starting, and every worker answer: new connections spread over the workers."""
    until = time.monotonic() + 12
    while time.monotonic() < until:
        for _ in range(8 * workers):
            _call(port)
        time.sleep(1)


def stop(server: subprocess.Popen[bytes]) -> None:
    tree = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    server.send_signal(signal.SIGTERM)
    _gone, alive = psutil.wait_procs(tree, timeout=20)
    for process in alive:
        process.kill()
    server.wait()


def machine() -> str:
    """What the figures were measured on."""
    import mlflow
    import sqlalchemy

    model = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ""
    )
    memory = psutil.virtual_memory().total / 1024**3
    return (
        f"{os.cpu_count()} x {model or platform.machine()}, {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, MLflow {mlflow.__version__}, SQLAlchemy {sqlalchemy.__version__}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-server-") as name:
        folder = Path(name)
        field = contenders(options.workers, folder)
        measure(field[-1], folder, options.workers)  # makes the tables, and warms the disk cache for all
        rounds = [[measure(c, folder, options.workers) for c in field] for _ in range(options.rounds)]
    results = {
        contender.name: {
            key: statistics.median(getattr(r[i], key) for r in rounds) for key in ("seconds", "pss", "rss", "processes")
        }
        for i, contender in enumerate(field)
    }
    plain, ours = results["mlflow server"], results["TrackingServer"]
    ratios = {key: ours[key] / plain[key] for key in ("seconds", "pss", "rss")}
    kept = ratios["seconds"] <= MOST_SECONDS and max(ratios["pss"], ratios["rss"]) <= MOST_MEMORY
    if options.json:
        print(json.dumps({"machine": machine(), "workers": options.workers, "results": results, "ratios": ratios}))
        return 0 if kept else 1
    print(f"{options.workers} workers, median of {options.rounds} rounds; {machine()}\n")
    print(f"{'':26}{'cold start':>12}{'PSS':>12}{'RSS':>12}{'processes':>12}")
    for label, r in results.items():
        print(f"{label:26}{r['seconds']:>10.1f} s{r['pss']:>8.0f} MiB{r['rss']:>8.0f} MiB{r['processes']:>12.0f}")
    print(f"{'ratio to mlflow server':26}{ratios['seconds']:>12.2f}{ratios['pss']:>12.2f}{ratios['rss']:>12.2f}")
    print(
        f"{'at most':26}{MOST_SECONDS:>12.2f}{MOST_MEMORY:>12.2f}{MOST_MEMORY:>12.2f}{'kept' if kept else 'BROKEN':>12}"
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
