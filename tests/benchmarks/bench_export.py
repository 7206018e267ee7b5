"""A whole backup beside an export with `mlflow-export-import`, of the same data in the same run.

    python tests/benchmarks/bench_export.py [--runs 500] [--rounds 3] [--exporter PATH_TO_PYTHON] [--json]

The data: a tracking server on SQLite and a folder of artifacts; so many runs with 10 params, 50 metric values and a
small artifact each. (The values are the histories of 5 metrics: the export asks the server for one metric at a time,
so that with 50 metrics it would take several times as long.) The backup is the job as AE5 starts it, a first one into
an empty place: the start of Python, all imports and writing to disk are counted; median of the rounds. The export is
`export-experiments` for all experiments, without threads, as is its default: once from `mlflow server` as MLflow ships
it, once from this project's server, which answers sooner.

mlflow-export-import is no dependency of ours: `--exporter` names the Python of an environment that has it (and
`tabulate`, which it needs and does not ask for). Without one, the figure beside ours is the documented one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import gc_data
from bench_gc import Site, machine

TIMES = 200  # what is promised: times as fast
DOCUMENTED, DOCUMENTED_RUNS = 306.0, 500  # seconds of an export, measured on another machine


def back_up(site: Site, runs: int) -> float:
    place = site.folder / "backups"
    shutil.rmtree(place, ignore_errors=True)
    seconds, out = _timed(
        [sys.executable, "-m", "mlflow_ae5_server", "backup", "create"],
        site,
        site.environment | {"MLFLOW_TRACKING_BACKUP_DESTINATION": str(place)},
    )
    last = json.loads(out.splitlines()[-1])
    if last["outcome"] != "done" or (last["runs"], last["artifacts"]) != (runs, runs):
        raise SystemExit(f"backup: {last}")
    return seconds


def export(site: Site, python: str, runs: int) -> float:
    place = site.folder / "exported"
    shutil.rmtree(place, ignore_errors=True)
    seconds, _out = _timed(
        [python, "-m", "mlflow_export_import.bulk.export_experiments", "--experiments", "all",
         "--output-dir", str(place)],
        site,
        {name: value for name, value in site.environment.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    exported, artifacts = (len(list(place.rglob(name))) for name in ("run.json", "a.txt"))
    if (exported, artifacts) != (runs, runs):
        raise SystemExit(f"export: {exported} runs and {artifacts} artifacts of {runs}")
    return seconds


def _timed(command: list[str], site: Site, environment: dict[str, str]) -> tuple[float, str]:
    started = time.perf_counter()
    done = subprocess.run(command, cwd=site.folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{command}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    return seconds, done.stdout


def measure(runs: int, rounds: int, exporter: str | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench-export-") as name:
        site = Site("sqlite", f"sqlite:///{name}/mlflow.sqlite", Path(name))
        with site.server():  # the backup too is taken while it runs
            gc_data.fill(site.uri, site.artifacts, runs, deleted=False)
            found: dict[str, Any] = {"backup": statistics.median(back_up(site, runs) for _ in range(rounds))}
            if exporter:
                found["export"] = export(site, exporter, runs)
        if exporter:
            with site.server(plain=True):
                found["export_plain"] = export(site, exporter, runs)
    beside = found["export_plain"] if exporter else DOCUMENTED * runs / DOCUMENTED_RUNS
    return {**found, "beside": beside, "times": beside / found["backup"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--exporter", help="a Python that has mlflow-export-import")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = measure(options.runs, options.rounds, options.exporter)
    kept = results["times"] >= TIMES
    if options.json:
        print(json.dumps({"machine": machine(), "runs": options.runs, "results": results, "kept": kept}))
        return 0 if kept else 1
    print(f"{options.runs} runs; backup: median of {options.rounds} rounds; {machine()}\n")
    print(f"{'our backup, the whole job':40}{results['backup']:>10.2f} s")
    print(f"{'mlflow-export-import':40}{results['beside']:>10.2f} s" + ("" if options.exporter else "   not measured"))
    print(f"{results['times']:.0f} times as fast; promised {TIMES}: {'kept' if kept else 'BROKEN'}")
    if export := results.get("export"):
        times = export / results["backup"]
        print(f"{'the same from our own server':40}{export:>10.2f} s   {times:.0f} times")
    if not options.exporter:
        print(
            f"The export was not measured here: {DOCUMENTED:g} s for {DOCUMENTED_RUNS} runs are documented, on another "
            "machine.\nGive --exporter to compare on this one."
        )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
