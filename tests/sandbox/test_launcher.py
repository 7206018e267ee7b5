"""The launcher: the exit status is the command's, and nothing the command started outlives it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mlflow_ae5_deploy.sandbox.supervisor.processes import LAUNCHER
from tests.sandbox.support import wait_for


class Launched:
    def __init__(self, command: str, *options: str, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(LAUNCHER), "grace=1", *options, "--", "/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            cwd=folder,
            start_new_session=True,
        )

    def stop(self) -> int:
        """Close its standard input, as the sandbox does, or as the kernel does when the sandbox is gone."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(20)


@pytest.fixture
def launch(tmp_path):
    started: list[Launched] = []

    def start(command, *options):
        started.append(Launched(command, *options, folder=tmp_path))
        return started[-1]

    yield start
    for launched in started:
        if launched.process.poll() is None:
            launched.process.kill()
        launched.process.wait()


def pid_in(file: Path) -> int:
    """The process may have ended by now."""
    wait_for(lambda: file.exists() and file.read_text().strip(), f"{file.name}")
    return int(file.read_text())


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(("command", "status"), [("true", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)])
def test_the_exit_status_is_the_commands(launch, command, status):
    assert launch(command).process.wait(20) == status


def test_secrets_are_where_ae5_has_them_for_the_command_alone(launch, tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "NAME").write_text("value")
    before = {path.name for path in Path("/var/run").iterdir()}
    show = "cat /var/run/secrets/user_credentials/NAME > shown; ls -A /var/run > run; pwd -P > here; id -u > who"

    code = launch(show, f"secrets={tmp_path / 'secrets'}").process.wait(20)

    if code == 125:
        pytest.skip("this machine allows no mount namespace")
    read = {name: (tmp_path / name).read_text().split("\n") for name in ("shown", "run", "here", "who")}
    assert read["shown"] == ["value"]
    after = {path.name for path in Path("/var/run").iterdir()}
    assert {*read["run"]} >= (before & after) | {"secrets"}
    assert read["here"][0] == str(tmp_path.resolve())
    assert read["who"][0] == str(os.getuid())
    assert ("secrets" in after) is ("secrets" in before)


def test_a_stop_is_a_term_signal_that_the_command_may_answer(launch, tmp_path):
    launched = launch("trap 'echo bye > bye; exit 5' TERM; echo $$ > pid; while :; do sleep 0.05; done")
    pid_in(tmp_path / "pid")
    assert launched.stop() == 5
    assert (tmp_path / "bye").read_text() == "bye\n"


def test_who_ignores_the_signal_is_killed_after_the_grace(launch, tmp_path):
    launched = launch("trap '' TERM; echo $$ > pid; while :; do sleep 0.05; done")
    command = psutil.Process(pid_in(tmp_path / "pid"))
    assert launched.stop() == 137
    assert gone(command)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the process group is ended")
@pytest.mark.parametrize("ending", ["by itself", "stopped"])
def test_children_are_ended_also_those_that_left_the_session(launch, tmp_path, ending):
    rest = "" if ending == "by itself" else "sleep 300"
    launched = launch(
        f"setsid sh -c 'echo $$ > away; exec sleep 300' & sh -c 'echo $$ > near; exec sleep 300' &"
        f" while [ ! -s away ] || [ ! -s near ]; do sleep 0.02; done; echo $$ > main; {rest}"
    )
    children = [pid_in(tmp_path / name) for name in ("away", "near")]
    if ending == "stopped":
        pid_in(tmp_path / "main")
        launched.stop()
    else:
        assert launched.process.wait(20) == 0
    # Not even as zombies: the launcher has waited for them.
    assert [pid for pid in children if psutil.pid_exists(pid)] == []


THREADS_THAT_OUTLIVE_THE_FIRST = """
import ctypes, os, pathlib, threading, time
pathlib.Path("pid").write_text(str(os.getpid()))
threading.Thread(target=time.sleep, args=(300,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the process group is ended")
def test_a_process_whose_first_thread_has_ended_is_waited_for(launch, tmp_path):
    (tmp_path / "app.py").write_text(THREADS_THAT_OUTLIVE_THE_FIRST)
    launched = launch(f"setsid {sys.executable} app.py & while [ ! -s pid ]; do sleep 0.02; done")
    pid = pid_in(tmp_path / "pid")
    launched.process.wait(20)
    assert not psutil.pid_exists(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's parent-death signal")
def test_a_killed_launcher_takes_the_command_along(launch, tmp_path):
    launched = launch("echo $$ > pid; exec sleep 300")
    command = psutil.Process(pid_in(tmp_path / "pid"))
    launched.process.kill()
    wait_for(lambda: gone(command), "the command's end")


def test_signals_are_not_ignored_by_inheritance(launch):
    """What the launcher does about signals for itself must not reach the command."""
    assert launch("kill -TERM $$; exit 1").process.wait(20) == 143
    assert launch("kill -INT $$; exit 1").process.wait(20) == 130
