"""Kills at every step, on each database: nothing healthy loses anything, and the next run finishes the removal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.project_template.gc.conftest import LONG_AGO, Data

# Collects in forked processes that end at their n-th step, without a word to anybody; after each the parent checks.
# One fresh interpreter without threads does it all, so that a kill costs a fork only. On SQLite everything is put back
# before the next kill, which is at the first or last step of a kind; on PostgreSQL each goes on where the last ended.
DRIVER = """
import os, shutil, sys
from pathlib import Path
import mlflow_ae5_server.gc.collector, requests
from tests.project_template.gc.conftest import Data
from tests.project_template.gc.test_crash import consistent

uri, folder, kept = sys.argv[1], Path(sys.argv[2]), sys.argv[3].split()
file = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite") else None

# kills_at: a number of steps, or a step's name and how often it was seen before; then 9 is returned
def collected(kills_at=None):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seen = []
    def step(name):
        with (folder / "steps").open("a") as file:
            file.write(f"{name}\\n")
        if kills_at in (len(seen), (name, seen.count(name))):
            os.write(2, f"{name}\\n".encode())
            os._exit(9)
        seen.append(name)
    code = 1
    try:
        code = Data(uri, folder).collect(step=step)["exit_code"]
    finally:
        os._exit(code)

def put_back():
    shutil.rmtree(folder / "artifacts")
    shutil.copytree(folder / "saved", folder / "artifacts")
    shutil.rmtree(str(file) + ".gc", ignore_errors=True)
    Path(str(file) + "-journal").unlink(missing_ok=True)
    shutil.copy(folder / "saved.sqlite", file)

Data(uri, folder).collect(dry_run=True)  # what it imports is imported here once, and not in each fork
if file:
    shutil.copytree(folder / "artifacts", folder / "saved")
    shutil.copy(file, folder / "saved.sqlite")
    assert collected() == 0
    names = (folder / "steps").read_text().splitlines()
    kills = sorted({(name, nth) for name in names for nth in (0, names.count(name) - 1)})
    put_back()
else:
    kills = range(300)
for number in kills:
    if (code := collected(number)) != 9 and not file:
        break
    assert code == 9 or number[1], number  # the first of each comes always, how many come depends on the clock
    consistent(Data(uri, folder))
    if file:
        assert collected() == 0
        assert sorted(Data(uri, folder).column("SELECT run_uuid FROM runs")) == sorted(kept)
        assert Data(uri, folder).pages() == []
        assert {path.split("/")[1] for path in Data(uri, folder).files()} == set(kept)
        put_back()
code = collected()
print(f"ended with {code} after {number} steps")
"""


LARGE = 16_000  # metric rows of a run that goes in several transactions on SQLite, even if it is not the first
STEPS = {"page written", "before commit", "rows deleted", "part of a run deleted", "folder removed",
         "artifacts removed", "page closed"}  # fmt: skip


def consistent(data: Data) -> None:
    """Whatever still has its row has all that is its own."""
    name = dict.fromkeys(data.column("SELECT run_uuid FROM runs WHERE name LIKE 'being removed%'"))
    for run in data.column("SELECT run_uuid FROM runs"):
        location = data.column("SELECT artifact_uri FROM runs WHERE run_uuid = :id", id=run)[0]
        file = data.artifacts / location.removeprefix("mlflow-artifacts:/") / "a.txt"
        assert file.is_file(), f"run {run} has lost its artifacts"
        rows = len(data.column("SELECT step FROM metrics WHERE run_uuid = :id", id=run))
        assert rows in (3, LARGE) or run in name, f"run {run} has lost metrics, and nobody can see it"
        assert data.column("SELECT value FROM tags WHERE run_uuid = :id", id=run) or run in name
    for model in data.column("SELECT model_id FROM logged_models"):
        assert data.has_files(model), f"model {model} has lost its artifacts"
    for trace in data.column("SELECT request_id FROM trace_info"):
        assert data.has_files(trace), f"trace {trace} has lost its artifacts"
    if data.uri.startswith("sqlite"):
        assert data.column("PRAGMA foreign_key_check") == []


def test_killed_at_every_step(data: Data, tmp_path: Path) -> None:
    kept = [data.run(deleted=None), data.run(deleted=None)]
    data.run()
    number = data.experiment(deleted=LONG_AGO)
    data.run(number)
    data.run(metrics=LARGE)
    data.model(number, deleted=None)
    data.trace(number)
    data.dataset(0, kept[0])

    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root}/project_template"}
    ended = subprocess.run(
        [sys.executable, "-c", DRIVER, data.uri, str(tmp_path), " ".join(kept)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-3000:]
    assert "ended with 0" in ended.stdout
    seen = {line for line in ended.stderr.splitlines() if line in STEPS}
    assert seen == STEPS if data.uri.startswith("sqlite") else seen, STEPS - seen
    assert sorted(data.column("SELECT run_uuid FROM runs")) == sorted(kept)
    assert {file.split("/")[1] for file in data.files()} == set(kept)
    assert data.column("SELECT experiment_id FROM experiments WHERE experiment_id > 0") == []
    assert data.pages() == []


def test_a_page_that_is_not_ours_is_ignored(data: Data, capsys: Any) -> None:
    """Whoever may upload artifacts may upload this; it must not make the job delete what it names."""
    run = data.run(deleted=None)
    location = data.artifacts / ".mlflow-ae5-gc"
    victim = data.artifacts / "0" / ("e" * 32) / "artifacts"
    victim.mkdir(parents=True)
    (victim / "a").write_text("x")
    location.mkdir()
    entries = f'[[\\"run\\", \\"{"e" * 32}\\", \\"{victim}\\"]]'
    (location / "1.json").write_text(f'{{"sealed": "00", "entries": "{entries}"}}')
    (location / "2.json").write_text("[1")
    (location / "3.json").write_text("[" * 100_000)
    assert data.collect()["exit_code"] == 0
    assert (victim / "a").is_file()
    assert data.has_files(run)
    if not data.uri.startswith("sqlite"):  # there, pages are beside the database
        assert capsys.readouterr().err.count("not a page of the collection's journal") == 3


@pytest.mark.parametrize("where", ["page written", "before commit", "rows deleted", "folder removed"])
def test_a_stopped_run_reports_what_was_removed_and_the_next_one_resumes(on_file: Data, where: str) -> None:
    from mlflow_ae5_server.common.errors import Interrupted

    runs = [on_file.run() for _ in range(3)]

    def stop(name: str) -> None:
        if name == where:
            raise Interrupted

    from mlflow_ae5_server.commands import garbage_collection
    from mlflow_ae5_server.common import settings
    from mlflow_ae5_server.common.report import Report

    report = Report("GarbageCollection")
    given = {"MLFLOW_BACKEND_STORE_URI": on_file.uri, "MLFLOW_ARTIFACTS_DESTINATION": str(on_file.artifacts)}
    with pytest.raises(Interrupted):
        garbage_collection.run(settings.resolve(given, {}, {}), report, False, step=stop)
    left = on_file.column("SELECT run_uuid FROM runs")
    assert report._fields["runs"]["removed"] == len(runs) - len(left)
    consistent(on_file)
    assert on_file.collect()["exit_code"] == 0
    assert (on_file.files(), on_file.pages()) == (set(), [])
