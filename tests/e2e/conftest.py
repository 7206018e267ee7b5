"""One installation for each database, made once. The tests of a file use it in turn, in order."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.site import Site

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Not installed yet. Afterwards nothing of it runs any more."""
    made = Site(tmp_path_factory.mktemp("site"))
    yield made
    before = made.processes()
    made.reset()
    left = {p.pid: p for p in [*before, *made.processes()] if p.is_running()}
    assert left == {}, "processes were left behind"


@pytest.fixture(scope="session")
def helper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A client program for a process of its own."""
    path = tmp_path_factory.mktemp("client") / "client.py"
    path.write_text(CLIENT)
    return path


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = ["wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", "pip", *command], check=True, capture_output=True, timeout=120)
    (found,) = folder.glob("*.whl")
    return found


CLIENT = '''\
"""What a data scientist does, with nothing but the environment that `env` prints. Answers one line for each step."""
import json, pathlib, sys
import mlflow

client = mlflow.MlflowClient()
logged = None  # the run of the last `log`: what a step without an argument is about

for verb, *arguments in map(str.split, sys.argv[1:]):
    about = arguments[0] if arguments else logged
    if verb == "log":
        mlflow.set_experiment(about)
        with mlflow.start_run() as run:
            mlflow.log_param("rate", 0.1)
            mlflow.log_metric("loss", 0.25, step=1)
            pathlib.Path("note.txt").write_text("an artifact of " + run.info.run_id)
            mlflow.log_artifact("note.txt")
        logged = run.info.run_id
        answer = {"run": logged, "experiment": run.info.experiment_id}
    elif verb == "read":
        run = client.get_run(about)
        path = mlflow.artifacts.download_artifacts(run_id=about, artifact_path="note.txt", dst_path="down")
        text = pathlib.Path(path).read_text()
        answer = {"loss": run.data.metrics["loss"], "note": text, "stage": run.info.lifecycle_stage}
    elif verb == "delete":
        client.delete_run(about)
        answer = {"stage": client.get_run(about).info.lifecycle_stage}
    print(json.dumps({"answer": answer}))
'''
