"""How long the artifacts of a restore take, beside `cp -r`, `sync -f` and `sha256sum` of the same files in one run.

    python tests/benchmarks/bench_restore.py [--files 5000] [--rounds 3] [--folder DIR] [--large-mb 1024]

A backup is taken once. Each round copies the files with `cp -r`, has the copy written to the disk with `sync -f`, sums
the files with `sha256sum`, and restores them in a process of its own. `check` reads every object of the snapshot and
looks at every name; `files` writes every file, reads it back, compares it, and has everything on disk when it ends.
`of all` is check and files together beside the three commands together, `no sync` beside `cp -r` and `sha256sum` alone,
which may leave everything in memory. Python's start and imports are not counted. The table has the best round, and the
largest memory of any. Leave five minutes between two runs: see `empty`. Where other programs write to the same file
system, both `sync -f` and the restore wait for their data: give `--folder` on a file system of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from pathlib import Path

from bench_backup import ALLOWED, TEMPLATE, empty, kinds, machine, timed

sys.path.insert(0, str(TEMPLATE))


def back_up(folder: Path, artifacts: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow_ae5_server.backup import create
    from mlflow_ae5_server.backup.open_artifacts import open_artifacts
    from mlflow_ae5_server.database import dump
    from mlflow_ae5_server.database.connection import check_uri
    from mlflow_ae5_server.repository.repository import create_repository, open_backend

    uri = f"sqlite:///{folder}/db.sqlite"
    SqlAlchemyStore(uri, "mlflow-artifacts:/").engine.dispose()
    repository = create_repository(open_backend(str(folder / "backups")))
    source = open_artifacts(str(artifacts))
    create.create_snapshot(repository, check_uri(uri), source, str(artifacts), dump.dump)


def restore(backups: str, destination: str) -> None:
    from mlflow_ae5_server.restore import preflight
    from mlflow_ae5_server.restore.open import open_target
    from mlflow_ae5_server.restore.source import find_source

    started = time.perf_counter()
    source = find_source(backups, "latest")
    preflight.check(source.repository, source.snapshot).require_intact(source.snapshot)
    target = open_target(destination)
    source.refuse_names(target)
    checked = time.perf_counter()
    done = source.write_artifacts(target, again=False)
    ended = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(done.files, checked - started, ended - checked, round(memory))


def measure(name: str, artifacts: Path, scratch: Path, rounds: int) -> list[str]:
    files = [path for path in artifacts.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    listing = "\0".join(map(str, files))
    best: dict[str, float] = {}
    memory = 0
    timed([sys.executable, __file__, "--back-up", str(scratch), str(artifacts)])
    for number in range(rounds):
        copied, restored = scratch / f"copied-{number}", scratch / f"restored-{number}"
        own = [sys.executable, __file__, "--restore", str(scratch / "backups"), str(restored)]
        os.sync()
        results = {"cp -r": timed(["cp", "-r", str(artifacts), str(copied)])[0]}
        results["sync -f"] = timed(["sync", "-f", str(copied)])[0]
        results["sha256sum"] = timed(["xargs", "-0", "sha256sum"], input=listing)[0]
        empty(copied)
        os.sync()
        count, results["check"], results["files"], used = map(float, timed(own)[1].split())
        if count != len(files):
            raise SystemExit(f"{name}: {count} files of {len(files)}")
        empty(restored)
        results["restore"] = results["check"] + results["files"]
        memory = max(memory, int(used))
        best = {key: min(value, best.get(key, value)) for key, value in results.items()}
    volatile = best["restore"] / (best["cp -r"] + best["sha256sum"])
    ratio = best["restore"] / (best["cp -r"] + best["sync -f"] + best["sha256sum"])
    seconds = [f"{best[key]:.2f}" for key in ("cp -r", "sync -f", "sha256sum", "check", "files", "restore")]
    judged = f"{ratio:.2f}" + ("" if ratio <= ALLOWED else " !")
    return [name, f"{len(files)}", f"{size / 1e6:.0f}", *seconds, judged, f"{volatile:.2f}", f"{memory}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large-mb", type=int, default=1024)
    parser.add_argument("--folder", help="where to work; the default is a temporary folder")
    parser.add_argument("--back-up", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--restore", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.back_up:
        back_up(Path(options.back_up[0]), Path(options.back_up[1]))
        return
    if options.restore:
        restore(*options.restore)
        return
    print(machine())
    header = [
        "files of",
        "number",
        "MB",
        "cp -r s",
        "sync -f s",
        "sha256sum s",
        "check s",
        "files s",
        "both s",
        "of all",
        "no sync",
    ]
    rows = [[*header, "memory MB"]]
    for name, scratch in kinds(options):
        rows.append(measure(name, scratch / "artifacts", scratch, options.rounds))
    for row in rows:
        print(f"{row[0]:20}", *(f"{cell:>12}" for cell in row[1:]))
    print(f"allowed: {ALLOWED} times cp -r, sync -f and sha256sum together")


if __name__ == "__main__":
    main()
