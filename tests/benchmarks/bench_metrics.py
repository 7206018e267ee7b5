"""What metrics cost: calls of `TrackingServer` with them and without, each under the same load in turn.

    python tests/benchmarks/bench_metrics.py [--workers 2] [--rounds 9] [--seconds 6] [--clients 4] [--json]

Compared is the processor time of the server's processes per call: on a machine with other work, calls per second say
little. In every round both are loaded, in alternating order, and one of them is scraped each second (a scraper asks
every 15 to 60). The result is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import requests

sys.path.insert(0, str(Path(__file__).parent))
import bench_load
import bench_server

MOST = 0.03  # of a call's processor time


def processor_seconds(port: int) -> float:
    """Of all processes of the server on `port`, so far."""
    option = f"--anaconda-project-port {port}"
    found = [p for p in psutil.process_iter() if option in " ".join(_command(p))]
    return sum(sum(p.cpu_times()[:2]) for p in found)


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


@contextlib.contextmanager
def scraped(port: int, *, wanted: bool) -> Iterator[None]:
    stop = threading.Event()

    def scrape() -> None:
        while not stop.wait(1.0):
            requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30).raise_for_status()

    scraper = threading.Thread(target=scrape)
    if wanted:
        scraper.start()
    try:
        yield
    finally:
        stop.set()
        if wanted:
            scraper.join()


def cost(port: int, database: str, options: argparse.Namespace, *, metrics: bool) -> tuple[float, float]:
    """Processor seconds per call, and calls per second."""
    before = processor_seconds(port)
    with scraped(port, wanted=metrics and options.scrape):
        load = bench_load.measure(port, database, options.clients, options.seconds)
    return (processor_seconds(port) - before) / load.codes["200"], load.rate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--no-scrape", dest="scrape", action="store_false")
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
            measured = {
                m: cost(servers[m][0], servers[m][1]["MLFLOW_BACKEND_STORE_URI"], options, metrics=m) for m in order
            }
            rounds.append(measured)
    rounds = rounds[1:]  # the first warms both up
    ratio = statistics.median(r[True][0] / r[False][0] for r in rounds) - 1
    rate = statistics.median(r[True][1] / r[False][1] for r in rounds) - 1
    per_call = {m: statistics.median(r[m][0] for r in rounds) * 1000 for m in (False, True)}
    if options.json:
        print(json.dumps({"machine": bench_server.machine(), "ratio": ratio, "rate": rate, "ms_per_call": per_call}))
    else:
        print(
            f"{options.rounds} rounds, {options.clients} clients, {options.workers} workers; {bench_server.machine()}\n"
        )
        print(f"processor time per call  {per_call[False]:.2f} ms -> {per_call[True]:.2f} ms with metrics")
        print(f"median of the ratios     {ratio:+.1%} (at most {MOST:+.0%}); calls per second {rate:+.1%}")
    return 0 if ratio <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
