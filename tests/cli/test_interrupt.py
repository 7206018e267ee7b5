"""Ctrl-C at every stage of a real process. The next run finishes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlflow_ae5_deploy.config.state_dir import installation_dir
from tests.cli.answers import assert_error, assert_no_accident
from tests.cli.bench import ACCOUNT, Bench, Outcome
from tests.sandbox.support import make_project_archive, wait_for

# stage -> a request of that stage which is made to hang, so that the moment is known, and what is said of the changes
MOMENTS = {
    "1 service-account": ("POST", "/users$", "The last request may have taken effect."),
    "3 login": ("GET", "/projects$", "Nothing was changed."),
    "6 upload": ("POST", "/projects/upload$", "The last request may have taken effect."),
    "8 deploy": ("POST", "/deployments$", "recorded"),
    "11 token": ("POST", "/deployments/[^/]+/token$", "recorded"),
    "12 store-token": ("POST", "/credentials/user$", "recorded"),
    "13 sharing": ("PUT", "/collaborators$", "recorded"),
    "14 gc-schedule": ("POST", "/jobs$", "recorded"),
}


def end(process: subprocess.Popen[str]) -> Outcome:
    out, err = process.communicate(timeout=200)
    return Outcome(process.returncode, out, err)


class Installation:
    """One of many on the same sandbox, each with names of its own."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench = bench
        self.name = f"interrupted-{name}"
        release, config = str(bench.release), str(bench.another(self.name))
        self.options = ("install", "--sandbox", "--json", "--release", release, "--config", config)

    @property
    def folder(self) -> Path:
        return installation_dir(self.bench.folder / "state", self.bench.info.hostname, ACCOUNT, self.name)

    def stage(self) -> str:
        """What the running process has written into its lock."""
        try:
            found: str = json.loads((self.folder / "lock").read_text())["stage"]
        except (FileNotFoundError, ValueError):
            return ""
        return found

    def assert_converges(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The lock is free, and the next run finishes, with nothing twice."""
        second = self.bench.run(capsys, *self.options)
        third = self.bench.run(capsys, *self.options)
        assert second.code == 0, second.err
        assert third.data["outcome"] == "unchanged", third.out
        owner = self.bench.owner()
        assert [p["name"] for p in owner.get("projects")].count(self.name) == 1
        assert [d["name"] for d in owner.get("deployments")].count(f"dev {self.name}") == 1
        assert [j["name"] for j in owner.get("jobs")].count(f"gc {self.name}") == 1


def assert_interrupted(ended: Outcome) -> None:
    assert ended.code == 130
    assert "Interrupted." in ended.err
    (again,) = [line for line in ended.err.splitlines() if line.startswith("  do this  ")]
    assert again.endswith("   # to run it again")
    assert again.count(" --sandbox") == 1
    assert json.loads(ended.out)["error"]["exit_code"] == 130
    assert_no_accident(ended)


@pytest.mark.parametrize("stage", MOMENTS)
def test_in_the_middle_of_a_request(bench, capsys, stage):
    """The request's effect takes place all the same, afterwards: the platform does not know of Ctrl-C. What is killed
    so: tests/convergence."""
    method, path, changes = MOMENTS[stage]
    skip = 6 if stage == "12 store-token" else 0  # six secrets are set by the stages 8 and 10
    installation = Installation(bench, f"in-{stage.split()[0]}")
    bench.forget_calls()

    def hit(call: dict[str, Any]) -> bool:
        return call["method"] == method and re.search(path, call["path"]) is not None

    with bench.held(installation.options, method, path, skip=skip) as process:
        process.send_signal(signal.SIGINT)
        ended = end(process)

    assert_interrupted(ended)
    assert changes in ended.err
    if changes == "recorded":
        lines = (installation.folder / "journal.jsonl").read_text().splitlines()
        assert f"{sum(json.loads(line)['event'] == 'effect' for line in lines)} changes are recorded" in ended.err
    last = json.loads((installation.folder / "journal.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "interrupted"
    wait_for(lambda: sum(hit(call) for call in bench.calls()) > skip, "the effect of the request")
    installation.assert_converges(capsys)


def test_a_file_that_was_saved_is_a_change_before_any_request_is(bench, capsys):
    """The archive of the project that is to be replaced."""
    installation = Installation(bench, "saved")
    assert bench.run(capsys, *installation.options).code == 0
    other = make_project_archive(bench.folder / "other.tar.gz", files={"new": "1"})
    words = [str(other) if word == str(bench.release) else word for word in installation.options]

    with bench.held([*words, "--replace"], "GET", "/jobs/[^/]+/runs$") as process:
        process.send_signal(signal.SIGINT)
        ended = end(process)

    assert_interrupted(ended)
    assert "1 change is recorded" in ended.err
    assert "Nothing was changed" not in ended.err
    assert list((installation.folder / "replaced").iterdir())


def test_a_plan_changes_nothing_and_leaves_nothing_to_finish(bench):
    words = ("plan", "--sandbox", "--json", "--release", str(bench.release))
    with bench.held(words, "GET", "/projects$") as process:
        process.send_signal(signal.SIGINT)
        ended = end(process)

    assert ended.code == 130
    assert ended.err == "\nInterrupted. Nothing was changed.\n"
    assert ended.data["error"]["remedy"] == ""


class TestWaiting:
    def test_for_the_deployment_to_start(self, bench, capsys):
        installation = Installation(bench, "starting")
        fault = {"method": "POST", "path": "/credentials/user$", "skip": 1, "hold": True}  # the first one is the lock
        bench.control("POST", "/faults", fault)

        with bench.spawn(*installation.options) as process:
            wait_for(lambda: bench.control("GET", "/")["held"], "stage 8")
            assert installation.stage() == "8 deploy"
            bench.control("PATCH", "/settings", {"state_seconds": 4})  # from now on things start slowly
            bench.control("DELETE", "/faults")
            named = f"dev {installation.name}"
            wait_for(lambda: named in [d["name"] for d in bench.owner().get("deployments")], "the deployment")
            process.send_signal(signal.SIGINT)
            ended = end(process)

        bench.control("PATCH", "/settings", {"state_seconds": 0})
        assert_interrupted(ended)
        installation.assert_converges(capsys)

    def test_for_a_server_that_does_not_become_healthy(self, bench, capsys):
        installation = Installation(bench, "unhealthy")
        bench.forget_calls()
        fault = bench.fault("GET", "experiments/search", status=503, times=None)
        with fault, bench.spawn(*installation.options) as process:
            wait_for(lambda: [c for c in bench.calls() if "experiments/search" in c["path"]], "a health check")
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGINT)  # the impatient press it twice
            ended = end(process)

        assert_interrupted(ended)
        installation.assert_converges(capsys)

    def test_for_the_lock_that_another_run_holds(self, bench, capsys):
        installation = Installation(bench, "locked")
        assert bench.run(capsys, *installation.options).code == 0
        with bench.held(installation.options, "GET", "/jobs$") as first:
            refused = bench.run(capsys, *installation.options)
            with bench.spawn(*installation.options, "--lock-wait", "60") as second:
                wait_for(lambda: has_open(second.pid, installation.folder / "lock"), "the second run to wait")
                second.send_signal(signal.SIGINT)
                interrupted = end(second)
            bench.control("DELETE", "/faults")
            done = end(first)

        assert_error(refused, 22, f"pid {first.pid}", "stage 14 gc-schedule", "--lock-wait")
        assert_interrupted(interrupted)
        assert done.code == 0, done.err


def has_open(pid: int, path: Path) -> bool:
    try:
        return str(path) in [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]  # noqa: PTH115
    except FileNotFoundError:
        return False  # a descriptor that was closed while we looked


def test_while_the_sandbox_starts(bench, capsys):
    bench.run(capsys, "sandbox", "reset", "--yes")
    folder = bench.folder / "state" / "sandbox"

    with bench.spawn("install", "--sandbox", "--json", "--release", str(bench.release)) as process:
        wait_for(lambda: (folder / "daemon.log").exists(), "the sandbox to be started")
        process.send_signal(signal.SIGINT)
        ended = end(process)

    assert_interrupted(ended)
    assert bench.install(capsys).code == 0
    assert bench.install(capsys).data["outcome"] == "unchanged"


# Raises a signal in the process itself: when a module is looked for, or when the interpreter ends.
CUSTOM = """
import atexit, os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["WHEN"]:
            signal.raise_signal(int(os.environ["NUMBER"]))

sys.meta_path.insert(0, Finder())
if os.environ["WHEN"] == "the end":
    atexit.register(lambda: signal.raise_signal(int(os.environ["NUMBER"])))
"""


def signalled(bench: Bench, when: str, number: int) -> Outcome:
    folder = bench.folder / "custom"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(CUSTOM)
    found = bench.environment()
    path = {"PYTHONPATH": f"{folder}{os.pathsep}{found['PYTHONPATH']}", "WHEN": when, "NUMBER": str(int(number))}
    with bench.spawn("runbook", "--sandbox", environment={**found, **path}) as process:
        return end(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("module", ["typer.core", "mlflow_ae5_deploy.cli.main", "rich.console", "pydantic.main"])
def test_while_the_program_is_being_loaded(bench, module, number):
    ended = signalled(bench, module, number)

    assert ended.code == 130, ended.err
    assert "Interrupted." in ended.err
    assert_no_accident(ended)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_while_the_interpreter_ends_the_result_stands(bench, number):
    ended = signalled(bench, "the end", number)

    assert (ended.code, ended.err) == (0, "")
    assert "14" in ended.out


UNLUCKY = """
import signal, sys, time
from mlflow_ae5_deploy.__main__ import interrupt_again

class Closed:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

sys.unraisablehook = interrupt_again
try:
    Closed()
    time.sleep(30)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_where_python_cannot_raise_it_is_neither_lost_nor_printed():
    ended = subprocess.run([sys.executable, "-c", UNLUCKY], capture_output=True, text=True, timeout=25, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "interrupted\n", "")
