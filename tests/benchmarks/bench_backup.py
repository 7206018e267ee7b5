"""How long the artifacts of a backup take, beside `cp -r` and `sha256sum` of the same files in the same run.

    python tests/benchmarks/bench_backup.py [--files 5000] [--rounds 3] [--folder DIR] [--large-mb 1024]

Each round makes a copy with `cp -r` and sums with `sha256sum` (one process each, as one would type them), then takes a
first backup and a second one of the unchanged files, each in a process of its own whose start is counted. The backup
includes what `cp` leaves out: everything is on disk when it ends. The table has the best round of each, and the
largest memory of any. Leave five minutes between two runs: see `empty`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

TEMPLATE = Path(__file__).parents[2] / "project_template"
ALLOWED = 1.5
_WORDS = b"epoch loss accuracy step metric value model layer weight bias train test "


def content(number: int, size: int) -> bytes:
    """Half of it text, half of it noise: what a model's folder is like on the whole."""
    noise = random.Random(number).randbytes(size // 2)
    return noise + (b"%d " % number + _WORDS * (size // len(_WORDS) + 1))[: size - len(noise)]


def make_runs(folder: Path, files: int, size: int) -> None:
    for number in range(files):
        run = folder / "1" / hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest() / "artifacts"
        run.mkdir(parents=True)
        (run / "model.txt").write_bytes(content(number, size))


def make_flat(folder: Path, files: int, size: int) -> None:
    folder.mkdir()
    for number in range(files):
        (folder / f"{number:06}.txt").write_bytes(content(number, size))


def make_large(folder: Path, megabytes: int) -> None:
    folder.mkdir()
    for number in range(4):
        with (folder / f"model-{number}.bin").open("wb") as stream:
            for piece in range(megabytes // 4):
                stream.write(content(number * 1_000_000 + piece, 1024 * 1024))


def back_up(artifacts: str, destination: str) -> None:
    """The artifacts' part of a backup, from opening the repository to the last blob on disk."""
    sys.path.insert(0, str(TEMPLATE))
    from mlflow_ae5_server.backup.copy import Copier
    from mlflow_ae5_server.backup.open_artifacts import open_artifacts
    from mlflow_ae5_server.repository.blob_index import BlobIndex
    from mlflow_ae5_server.repository.blobs import BlobReader, BlobWriter
    from mlflow_ae5_server.repository.file_list import FileListWriter, read
    from mlflow_ae5_server.repository.repository import create_repository, open_backend

    repository = create_repository(open_backend(destination))
    index = BlobIndex()
    index.add(sha256 for sha256, _size in repository.blob_sizes())
    saved = Path(destination + ".lists")
    before = saved.read_text().split() if saved.exists() else []
    with repository.lock("backup"):
        writer = BlobWriter(repository.backend, index)
        lists = FileListWriter(writer)
        copier = Copier(open_artifacts(artifacts), writer, index, lists, store_threads=repository.backend.threads)
        totals = copier.run(read(BlobReader(repository.backend), before), time.time() + 10)
        repository.backend.sync()
    saved.write_text("\n".join(lists.lists))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(totals.files, writer.new_objects, writer.stored_bytes, round(memory))


def timed(command: list[str], **arguments: object) -> tuple[float, str]:
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True, **arguments)  # type: ignore[call-overload]
    return time.perf_counter() - started, done.stdout


def measure(name: str, artifacts: Path, scratch: Path, rounds: int) -> list[str]:
    files = [path for path in artifacts.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    best: dict[str, float] = {}
    memory = stored = 0
    listing = "\0".join(map(str, files))
    for number in range(rounds):
        copied, destination = scratch / f"copied-{number}", scratch / f"destination-{number}"
        own = [sys.executable, __file__, "--back-up", str(artifacts), str(destination)]
        os.sync()
        results = {"cp -r": timed(["cp", "-r", str(artifacts), str(copied)])[0]}
        results["sha256sum"] = timed(["xargs", "-0", "sha256sum"], input=listing)[0]
        empty(copied)
        os.sync()
        for which in ("first", "again"):
            results[which], message = timed(own)
            seen, new, new_stored, used = map(int, message.split())
            if seen != len(files) or (which == "again") != (new == 0):
                raise SystemExit(f"{name}: {which} backup saw {seen} files and made {new} objects")
            memory, stored = max(memory, used), stored or new_stored
        empty(destination)
        best = {key: min(value, best.get(key, value)) for key, value in results.items()}
    allowed = best["cp -r"] + best["sha256sum"]
    ratio = best["first"] / allowed
    return [
        name,
        f"{len(files)}",
        f"{size / 1e6:.0f}",
        f"{best['cp -r']:.2f}",
        f"{best['sha256sum']:.2f}",
        f"{best['first']:.2f}",
        f"{ratio:.2f}" + ("" if ratio <= ALLOWED else " !"),
        f"{best['again']:.2f}",
        f"{stored / 1e6:.0f}",
        f"{memory}",
    ]


def empty(folder: Path) -> None:
    """Give back the room of what was measured, and leave its names until everything is measured.

    For minutes after names were removed ext4 looks at each of them whenever it makes a file: that would count against
    whoever comes next.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return (
        f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB, "
        f"Linux {platform.release()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


def kinds(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """What is measured, and a folder of its own with the files in `artifacts`; emptied before the next one."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name, make in (
            ("4 KB, a run each", lambda to: make_runs(to, options.files, 4096)),
            ("4 KB, one folder", lambda to: make_flat(to, options.files, 4096)),
            ("100 KB, a run each", lambda to: make_runs(to, options.files, 100_000)),
            ("4 large ones", lambda to: make_large(to, options.large_mb)),
        ):
            scratch = Path(folder) / name.replace(" ", "-")
            scratch.mkdir()
            make(scratch / "artifacts")
            yield name, scratch
            empty(scratch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large-mb", type=int, default=1024)
    parser.add_argument("--folder", help="where to work; the default is a temporary folder")
    parser.add_argument("--back-up", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.back_up:
        back_up(*options.back_up)
        return
    print(machine())
    header = ["files of", "number", "MB", "cp -r s", "sha256sum s", "backup s", "of both", "again s", "kept MB"]
    header.append("memory MB")
    rows = [header]
    for name, scratch in kinds(options):
        rows.append(measure(name, scratch / "artifacts", scratch, options.rounds))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        print(
            "  ".join(
                cell.ljust(width) if not n else cell.rjust(width)
                for n, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )
    print(f"allowed: {ALLOWED} times cp -r and sha256sum together")


if __name__ == "__main__":
    main()
