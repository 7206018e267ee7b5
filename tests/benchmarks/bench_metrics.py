"""What metrics cost: calls of `TrackingServer` with them and without, each under the same load in turn.

    python tests/benchmarks/bench_metrics.py [--workers 2] [--rounds 9] [--seconds 6] [--clients 4] [--json]

Compared is the processor time of the server's processes per call: on a machine with other work, calls per second say
little. In every round both are loaded, in alternating order; the median of the rounds' ratios counts. Scrapes are
measured by themselves, and added as if one came every 15 seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from pathlib import Path

import psutil
import requests

sys.path.insert(0, str(Path(__file__).parent))
import bench_load
import bench_server

MOST = 0.03  # of a call's processor time
SCRAPES, EVERY = 40, 15.0


def processor_seconds(port: int) -> float:
    """Of all processes of the server on `port`, so far."""
    option = f"--anaconda-project-port {port}"
    found = [p for p in psutil.process_iter() if option in " ".join(_command(p))]
    return sum(sum(p.cpu_times()[:2]) for p in found)


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def cost(port: int, database: str, options: argparse.Namespace) -> tuple[float, float]:
    """Processor seconds per call, and calls per second."""
    before = processor_seconds(port)
    load = bench_load.measure(port, database, options.clients, options.seconds)
    return (processor_seconds(port) - before) / load.codes["200"], load.rate


def scrape_cost(port: int) -> float:
    """Processor seconds of a scrape."""
    before = processor_seconds(port)
    for _ in range(SCRAPES):
        requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30).raise_for_status()
    return (processor_seconds(port) - before) / SCRAPES


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rounds: list[dict[bool, tuple[float, float]]] = []
    with contextlib.ExitStack() as stack:
        servers = {}
        for metrics in (False, True):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-metrics-")))
            ours = bench_server.contenders(options.workers, folder)[-1]
            environment = {**ours.environment, "MLFLOW_TRACKING_METRICS": str(metrics).lower()}
            contender = bench_server.Contender(ours.name, ours.command, environment)
            servers[metrics] = stack.enter_context(bench_load.serving(contender, folder)), environment
        for number in range(options.rounds + 1):
            order = (False, True) if number % 2 else (True, False)
            measured = {m: cost(servers[m][0], servers[m][1]["MLFLOW_BACKEND_STORE_URI"], options) for m in order}
            rounds.append(measured)
        scrape = scrape_cost(servers[True][0])
    rounds = rounds[1:]  # the first warms both up
    calls = statistics.median(r[True][0] / r[False][0] for r in rounds) - 1
    rate = statistics.median(r[True][1] / r[False][1] for r in rounds) - 1
    per_call = {m: statistics.median(r[m][0] for r in rounds) for m in (False, True)}
    busy = per_call[False] * statistics.median(r[False][1] for r in rounds)  # processor seconds per second
    ratio = calls + scrape / EVERY / busy
    if options.json:
        print(json.dumps({"machine": bench_server.machine(), "ratio": ratio, "rate": rate, "scrape": scrape}))
    else:
        print(
            f"{options.rounds} rounds, {options.clients} clients, {options.workers} workers; {bench_server.machine()}\n"
        )
        print(
            f"processor time per call  {per_call[False] * 1000:.2f} ms -> {per_call[True] * 1000:.2f} ms, {calls:+.1%}"
        )
        print(f"of a scrape              {scrape * 1000:.0f} ms, {ratio - calls:+.1%} with one every {EVERY:g} s")
        print(f"together                 {ratio:+.1%} (at most {MOST:+.0%}); calls per second {rate:+.1%}")
    return 0 if ratio <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
