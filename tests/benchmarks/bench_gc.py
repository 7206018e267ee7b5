"""GarbageCollection beside `mlflow gc`, on SQLite and PostgreSQL, with a tracking server at work.

    python tests/benchmarks/bench_gc.py [--runs 2000] [--bare 20000] [--large 50000] [--metrics 1000000] [--json]

Speed: both remove the same number of deleted runs (10 params, 50 metrics, one small artifact each) from the same
database, one after the other, start of the process included: this project's job right before and right after
`mlflow gc`, and the mean of the two counts. `mlflow gc` asks the server to remove artifacts, so all that is done twice:
with `mlflow server` as MLflow ships it, and with this project's, which answers sooner. Bare: the same data, in turn
removed by the job and by a script that does the least that can be done, one DELETE per table in one transaction with
foreign keys enforced, then unlink and rmdir; its processor time and that of the job, with that of PostgreSQL, because
both wait for other programs on a busy machine. Memory: the job's peak (RSS)
with many runs, and with one run that has very many metrics. The server meanwhile: 95th percentile of a simple read
(`runs/get`) and a simple write (`runs/set-tag`), called one after the other by one client, first with nothing else
going on, then during a collection; the median of three such pairs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

sys.path.insert(0, str(Path(__file__).parent))
import gc_data

TEMPLATE = Path(__file__).parents[2] / "project_template"
TIMES, MEMORY, SLOWER = 20, 300, 2.0  # what is promised: times faster, MiB, times slower
BARE = 2.0  # times the seconds of the bare statements
_QUIET = 4.0  # seconds of calls with nothing else going on
_ROUNDS = 3


@dataclass(frozen=True)
class Ended:
    seconds: float
    cpu: float  # seconds, with those of the database server
    mib: float
    last: dict[str, Any]


class Site:
    """A server with its database and artifacts."""

    def __init__(self, name: str, uri: str, folder: Path, idle: float) -> None:
        self.name, self.uri, self.folder, self.idle = name, uri, folder, idle
        self.artifacts = folder / "artifacts"
        self.artifacts.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "PYTHONPATH": str(TEMPLATE),
            "MLFLOW_BACKEND_STORE_URI": uri,
            "MLFLOW_ARTIFACTS_DESTINATION": str(self.artifacts),
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_GC_TTL": "30d",
            "MLFLOW_WORKERS": "2",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    @contextlib.contextmanager
    def server(self, *, plain: bool = False) -> Iterator[None]:
        """This project's server, or with `plain` the one that MLflow ships, as many workers each."""
        address = ["--anaconda-project-address", "127.0.0.1", "--anaconda-project-port", str(self.port)]
        command = ["mlflow_ae5_server", "tracking-server", *address]
        if plain:
            command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "2",
                       "--backend-store-uri", self.uri, "--artifacts-destination", str(self.artifacts)]  # fmt: skip
        with (self.folder / "server.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        try:
            deadline, well = time.monotonic() + 90, False
            while not well or psutil.cpu_percent(1.0) > self.idle:  # its other processes may start for a while yet
                with contextlib.suppress(requests.RequestException):
                    well = self.call("experiments/search", max_results=1).ok
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit((self.folder / "server.log").read_text()[-3000:])
                time.sleep(0.2)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    def call(self, path: str, **body: Any) -> requests.Response:
        return requests.post(f"{self.url}/api/2.0/mlflow/{path}", json=body, timeout=60)

    def ours(self) -> Ended:
        ended = self._run([sys.executable, "-m", "mlflow_ae5_server", "garbage-collection"])
        if ended.last.get("outcome") != "done":
            raise SystemExit(f"collection: {ended.last}")
        return ended

    def mlflow_gc(self) -> Ended:
        return self._run(
            [sys.executable, "-m", "mlflow", "gc", "--older-than", "30d", "--backend-store-uri", self.uri], mlflow=True
        )

    def bare(self) -> Ended:
        """As few statements and calls as can be, with the job's priority."""
        command = [sys.executable, __file__, "--bare-worker", self.uri, str(self.artifacts)]
        return self._run(["nice", *command], mlflow=True)

    def _run(self, command: list[str], mlflow: bool = False) -> Ended:
        database = self._database_cpu()
        started = time.monotonic()
        with (self.folder / "job.out").open("w+b") as out, (self.folder / "job.err").open("wb") as err:
            process = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=out, stderr=err)
            _pid, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.monotonic() - started
            out.seek(0)
            lines = out.read().decode().strip().splitlines()
        if process.returncode:
            raise SystemExit(
                f"{command}: exit code {process.returncode}\n{(self.folder / 'job.err').read_text()[-3000:]}"
            )
        cpu = usage.ru_utime + usage.ru_stime + self._database_cpu() - database
        return Ended(seconds, cpu, usage.ru_maxrss / 1024, {} if mlflow else json.loads(lines[-1]))

    def _database_cpu(self) -> float:
        """Seconds of PostgreSQL's processes, those that have ended included."""
        if self.name == "sqlite":
            return 0.0
        connection = gc_data.connect(self.uri)
        postmaster = psutil.Process(connection.execute("SELECT pg_backend_pid()").fetchone()[0]).parent()
        connection.close()
        assert postmaster is not None
        seconds = 0.0
        for process in (postmaster, *postmaster.children()):
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                times = process.cpu_times()
                seconds += times.user + times.system
        ended = postmaster.cpu_times()
        return seconds + ended.children_user + ended.children_system


def gone(site: Site) -> None:
    left = gc_data.count(site.uri, "runs", "lifecycle_stage = 'deleted'")
    if left:
        raise SystemExit(f"{left} runs are left")


def theirs(site: Site, runs: int) -> Ended:
    gc_data.fill(site.uri, site.artifacts, runs)
    ended = site.mlflow_gc()
    gone(site)
    return ended


def speed(site: Site, runs: int) -> dict[str, dict[str, float]]:
    """By the server at work: what each took."""
    found = {}
    for plain in (True, False):
        with site.server(plain=plain):
            before, slow, after = collected(site, runs), theirs(site, runs), collected(site, runs)
        seconds = (before.seconds + after.seconds) / 2
        found["mlflow server" if plain else "this project's"] = {
            "mlflow_gc": slow.seconds,
            "ours": seconds,
            "times": slow.seconds / seconds,
            "mlflow_gc_mib": slow.mib,
            "mib": max(before.mib, after.mib),
        }
    return found


def collected(site: Site, runs: int) -> Ended:
    gc_data.fill(site.uri, site.artifacts, runs)
    ours = site.ours()
    gone(site)
    # mlflow gc leaves the folders of the runs behind, empty
    folders = sum(1 for item in (site.artifacts / "0").iterdir() if (item / "artifacts").is_dir())
    if ours.last["runs"]["removed"] != runs or folders != gc_data.count(site.uri, "runs"):
        raise SystemExit(f"not everything was removed: {ours.last}, {folders} folders")
    return ours


def bare(site: Site, runs: int) -> dict[str, Any]:
    """Both in turn; the median of each."""
    pairs = []
    for _ in range(_ROUNDS):
        ours = collected(site, runs)
        gc_data.fill(site.uri, site.artifacts, runs)
        least = site.bare()
        gone(site)
        pairs.append((ours, least))
    found: dict[str, Any] = {}
    for what in ("seconds", "cpu"):
        one, other = (statistics.median(getattr(pair[side], what) for pair in pairs) for side in (0, 1))
        found[what] = {"ours": one, "bare": other, "times": one / other}
    return found


def remove_bare(uri: str, artifacts: Path) -> None:
    """The statements and calls themselves, of all runs that are deleted."""
    connection = gc_data.connect(uri)
    if uri.startswith("sqlite"):
        connection.execute("PRAGMA foreign_keys = ON")  # as PostgreSQL always has it, and MLflow
    expired = "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'deleted'"
    ids = [run for (run,) in connection.execute(expired).fetchall()]
    for table in ("tags", "params", "metrics", "latest_metrics"):
        connection.execute(f"DELETE FROM {table} WHERE run_uuid IN ({expired})")  # noqa: S608
    connection.execute("DELETE FROM runs WHERE lifecycle_stage = 'deleted'")
    connection.commit()
    for run in ids:
        folder = artifacts / "0" / run / "artifacts"
        for file in os.listdir(folder):  # noqa: PTH208
            os.unlink(f"{folder}/{file}")  # noqa: PTH108
        folder.rmdir()
        folder.parent.rmdir()


def memory(site: Site, large: int, metrics: int) -> dict[str, Any]:
    gc_data.fill(site.uri, site.artifacts, large, params=2, metrics=5)
    many = site.ours()
    gone(site)
    gc_data.fill(site.uri, site.artifacts, 1, metrics=metrics)
    one = site.ours()
    gone(site)
    return {"many": {"mib": many.mib, "seconds": many.seconds}, "one": {"mib": one.mib, "seconds": one.seconds}}


class Caller(threading.Thread):
    """One client that calls the server until it is told to stop; seconds of every call, by what was called."""

    def __init__(self, site: Site, run: str) -> None:
        super().__init__()
        self.site, self.run_id = site, run
        self.taken: dict[str, list[float]] = {"read": [], "write": []}
        self.enough = threading.Event()

    def run(self) -> None:
        session, number = requests.Session(), 0
        while not self.enough.is_set():
            number += 1
            base = f"{self.site.url}/api/2.0/mlflow/runs"
            started = time.monotonic()
            session.get(f"{base}/get", params={"run_id": self.run_id}, timeout=60).raise_for_status()
            middle = time.monotonic()
            tag = {"run_id": self.run_id, "key": "bench", "value": str(number)}
            session.post(f"{base}/set-tag", json=tag, timeout=60).raise_for_status()
            self.taken["read"].append(middle - started)
            self.taken["write"].append(time.monotonic() - middle)

    def percentiles(self) -> dict[str, float]:
        return {name: statistics.quantiles(values, n=20)[18] * 1000 for name, values in self.taken.items()}


def responsiveness(site: Site, runs: int) -> dict[str, Any]:
    """By kind of call, (quiet, meanwhile) in milliseconds: of `_ROUNDS` rounds the one of the median ratio."""
    rounds = [one_round(site, runs) for _ in range(_ROUNDS)]
    found: dict[str, Any] = {}
    for kind in ("read", "write"):
        pairs = sorted(((quiet[kind], busy[kind]) for quiet, busy, _ in rounds), key=lambda pair: pair[1] / pair[0])
        found[kind] = pairs[_ROUNDS // 2]
    return {**found, "calls": sum(calls for *_, calls in rounds)}


def one_round(site: Site, runs: int) -> tuple[dict[str, float], dict[str, float], int]:
    (kept,) = gc_data.fill(site.uri, site.artifacts, 1, deleted=False)
    gc_data.fill(site.uri, site.artifacts, runs)
    quiet = Caller(site, kept)
    quiet.start()
    time.sleep(_QUIET)
    quiet.enough.set()
    quiet.join()
    busy = Caller(site, kept)
    busy.start()
    site.ours()
    busy.enough.set()
    busy.join()
    return quiet.percentiles(), busy.percentiles(), len(busy.taken["read"])


def measure(site: Site, options: argparse.Namespace) -> dict[str, Any]:
    with site.server():
        gc_data.fill(site.uri, site.artifacts, 500, deleted=False)  # what must stay
    found: dict[str, Any] = {"speed": speed(site, options.runs)} if not options.no_speed else {}
    if options.bare:
        with site.server():
            found["bare"] = bare(site, options.bare)
    with site.server():
        if not options.no_calls:
            found["server"] = responsiveness(site, max(options.runs, 100))
        if options.large:
            found["memory"] = memory(site, options.large, options.metrics)
    return found


def table(results: dict[str, Any], options: argparse.Namespace) -> str:
    lines = [f"{'':12}{'':52}{'other':>12}{'ours':>12}{'':>4}"]

    def row(site: str, what: str, theirs: str, ours: str, job_result: bool | None, note: str = "") -> None:
        mark = "" if job_result is None else "ok" if job_result else "NO"
        lines.append(f"{site:12}{what:52}{theirs:>12}{ours:>12}{mark:>4}  {note}")

    for site, found in results.items():
        for which, speed in found.get("speed", {}).items():
            row(site, f"{options.runs} runs with {which}, seconds", f"{speed['mlflow_gc']:.1f}", f"{speed['ours']:.2f}",
                speed["times"] >= TIMES, f"{speed['times']:.1f} times as fast; promised {TIMES}")  # fmt: skip
            row(site, "peak memory, MiB", f"{speed['mlflow_gc_mib']:.0f}", f"{speed['mib']:.0f}", None)
        for what, bare in found.get("bare", {}).items():
            label = "seconds" if what == "seconds" else "CPU seconds"
            promise = f"{bare['times']:.2f} times; promised {BARE:g}"
            row(site, f"{options.bare} runs beside bare statements, {label}", f"{bare['bare']:.2f}",
                f"{bare['ours']:.2f}", bare["times"] <= BARE, promise)  # fmt: skip
        for kind in ("read", "write") if "server" in found else ():
            calls = found["server"]["calls"]
            before, meanwhile = found["server"][kind]
            row(site, f"p95 of a {kind}, ms: quiet, meanwhile", f"{before:.1f}", f"{meanwhile:.1f}",
                meanwhile <= SLOWER * before, f"{meanwhile / before:.2f} times; {calls} calls")  # fmt: skip
        if memory := found.get("memory"):
            for key, what in (("many", f"{options.large} runs"), ("one", f"a run of {options.metrics} metric rows")):
                mib = memory[key]["mib"]
                row(site, f"{what}: MiB", "", f"{mib:.0f}", mib < MEMORY, f"in {memory[key]['seconds']:.1f} s")
    return "\n".join(lines)


def machine() -> str:
    import mlflow
    import sqlalchemy

    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} x {model}, load {load}; {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, MLflow {mlflow.__version__}, SQLAlchemy {sqlalchemy.__version__}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--bare", type=int, default=20_000, help="runs beside bare statements; 0 leaves it out")
    parser.add_argument("--bare-worker", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--large", type=int, default=50_000, help="runs for the memory test; 0 leaves it out")
    parser.add_argument("--metrics", type=int, default=1_000_000, help="metric rows of one run for the memory test")
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--no-speed", action="store_true", help="without mlflow gc, which takes minutes")
    parser.add_argument("--no-calls", action="store_true", help="without calls of the server meanwhile")
    parser.add_argument("--idle", type=float, default=15, help="percent of all cores that others may take at most")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.bare_worker:
        remove_bare(options.bare_worker[0], Path(options.bare_worker[1]))
        return
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench-gc-") as scratch, contextlib.ExitStack() as stack:
        for name in options.databases.split(","):
            folder = Path(scratch) / name
            folder.mkdir()
            uri = f"sqlite:///{folder}/bench.sqlite" if name == "sqlite" else stack.enter_context(_postgresql(folder))
            results[name] = measure(Site(name, uri, folder, options.idle), options)
            print(f"{name}: {json.dumps(results[name])}", file=sys.stderr, flush=True)
    print(
        json.dumps({"machine": machine(), "results": results})
        if options.json
        else f"{machine()}\n\n{table(results, options)}"
    )


@contextlib.contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    from mlflow_ae5_deploy.sandbox.postgres import remove_data
    from mlflow_ae5_deploy.sandbox.sandbox import Sandbox

    with Sandbox(folder / "sandbox", database="postgresql") as sandbox:
        assert sandbox.database_uri is not None
        yield sandbox.database_uri
    remove_data(folder / "sandbox")


if __name__ == "__main__":
    main()
