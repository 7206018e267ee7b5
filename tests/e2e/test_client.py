"""Trainings with MLflow clients of several versions, through restarts and rotations: no call is lost."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.bench import ACCOUNT
from tests.e2e.site import Site

OLD = ("2.9.2", "2.22.5", "3.3.2")  # of mlflow-skinny, from the package index
PINNED = "pinned"
DISTURBANCES = ("--restart", "--all", "--restart", "--all", "--all")

TRAINING = '''\
"""Train until the file STOP exists. Prints which calls failed."""
import json, pathlib, sys, time
from mlflow_ae5_deploy.client import connect
connect()
import mlflow

name, stop = sys.argv[1], pathlib.Path(sys.argv[2])
lost, steps = [], {}


def call(function, *arguments, **options):
    try:
        return function(*arguments, **options)
    except Exception as error:
        lost.append(f"{function.__name__}: {error}"[:300])


artifact = pathlib.Path(name + ".bin")
artifact.write_bytes(b"0123456789abcdef" * 65536)
call(mlflow.set_experiment, name)
while not stop.exists():
    run = call(mlflow.start_run, tags={"client": name})
    if run is None:
        continue
    steps[run.info.run_id] = 0
    for step in range(10):
        call(mlflow.log_metric, "loss", 1.0, step=step)
        steps[run.info.run_id] += 1
        call(mlflow.log_artifact, str(artifact), str(step))
        pathlib.Path(name + ".started").touch()
        time.sleep(0.1)
        if stop.exists():
            break
    call(mlflow.end_run)

client, wrong = mlflow.MlflowClient(), []
for run_id, count in steps.items():
    if client.get_run(run_id).info.status != "FINISHED":
        wrong.append(run_id + " has not finished")
    if len(client.get_metric_history(run_id, "loss")) != count:
        wrong.append(run_id + " lacks metrics")
    files = [file for folder in client.list_artifacts(run_id) for file in client.list_artifacts(run_id, folder.path)]
    if [file.file_size for file in files] != [2**20] * count:
        wrong.append(run_id + " lacks artifacts")
experiments = [experiment.experiment_id for experiment in client.search_experiments()]
running = client.search_runs(experiments, f"attributes.status = 'RUNNING' and tags.client = '{name}'")
print(json.dumps({"lost": lost, "wrong": wrong, "running": len(running), "runs": len(steps)}))
'''


@dataclass(frozen=True)
class Training:
    """What a client printed, and logged; or why it could not be had."""

    result: dict[str, Any]  # empty if it has failed
    log: str
    missing: str = ""


def client_of(version: str, folder: Path, wheel: Path) -> Path | None:
    """Its Python, with mlflow-skinny of that version and our wheel alone; None without a package index."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-compile"]
    # MLflow 2.9 asks setuptools, which newer environments lack, for its plugins.
    for packages in ([f"mlflow-skinny=={version}", "setuptools<80"], ["--no-deps", "--no-index", str(wheel)]):
        try:
            subprocess.run([*pip, *packages], check=True, capture_output=True, timeout=240)
        except subprocess.SubprocessError:
            return None
    return python


@pytest.fixture(scope="module")
def pythons(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> dict[str, Path | None]:
    folder = tmp_path_factory.mktemp("clients")
    old = {version: client_of(version, folder / version, wheel) for version in OLD}
    return {**old, PINNED: Path(sys.executable)}


@pytest.fixture(scope="module")
def installed(site: Site) -> tuple[Site, tuple[str, str]]:
    """And its configuration: the collection's test is left out of each rotation."""
    config = site.configure("gc: {command: Nothing}\nconsumers: [{file: token}]\n")
    done = site.install()
    assert done.code == 0, done.err
    return site, config


@contextlib.contextmanager
def training(site: Site, name: str, python: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    bare = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    given = {
        "HOME": str(site.client_folder),
        "MLFLOW_TRACKING_SERVER_CERT_PATH": str(site.info.ca_file),
        **environment,
    }
    program = site.client_folder / f"{name}.py"  # each its own: another may be starting
    program.write_text(TRAINING)
    with subprocess.Popen(
        [str(python), str(program), name, str(site.client_folder / "stop")],
        env={**bare, **given},
        cwd=site.client_folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def trainings(installed: tuple[Site, tuple[str, str]], pythons: dict[str, Path | None]) -> dict[str, Training]:
    """All at once, because each restart takes long; the pinned client has the token from a file."""
    site, config = installed
    assert site.run("rotate-token", "--sandbox", "--all", *config).code == 0
    url = site.deployment()["url"].rstrip("/")
    on_ae5 = {"MLFLOW_AE5_SECRETS_DIR": str(site.sandbox / "secrets" / ACCOUNT)}
    elsewhere = {"MLFLOW_AE5_TOKEN_FILE": str(site.folder / "token"), "MLFLOW_TRACKING_URI": url}
    with contextlib.ExitStack() as stack:
        processes = {
            version: stack.enter_context(
                training(site, version, python, **(elsewhere if version == PINNED else on_ae5))
            )
            for version, python in pythons.items()
            if python is not None
        }
        for version, process in processes.items():
            while process.poll() is None and not (site.client_folder / f"{version}.started").exists():
                time.sleep(0.1)
        for disturbance in DISTURBANCES:
            done = site.run("rotate-token", "--sandbox", "--yes", disturbance, *config)
            assert done.code == 0, done.err
        (site.client_folder / "stop").touch()
        ended = {version: (*process.communicate(timeout=300), process) for version, process in processes.items()}
    made = {version: Training({}, "", "no package index has this client") for version in pythons}
    for version, (out, log, process) in ended.items():
        _, found, result = out.rpartition('{"lost":')  # MLflow may have printed on the same line
        if found and process.returncode == 0:
            made[version] = Training(json.loads(found + result.splitlines()[0]), log)
        else:
            made[version] = Training({}, f"{out}\n{log}\nexit code {process.returncode}")
    return made


@pytest.fixture
def trained(trainings: dict[str, Training], version: str) -> Training:
    """One client's, so that a failure shows no other's."""
    if trainings[version].missing:
        pytest.skip(trainings[version].missing)
    return trainings[version]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", [*OLD, PINNED])
def test_no_call_is_lost_and_no_run_goes_on_for_ever(trained: Training, version: str) -> None:
    result, log = trained.result, f"of the client {version}, which logged:\n{trained.log}"

    assert result, f"no result {log}"
    assert result["lost"] == [], f"lost calls {log}"
    assert result["wrong"] == [], f"wrong runs {log}"
    assert result["running"] == 0, f"running runs {log}"
    assert result["runs"] > 0, f"no run {log}"
    warnings = trained.log.count("rejects the token")
    assert 0 < warnings <= DISTURBANCES.count("--restart"), f"warnings {log}"
