"""The supervisor of the workers, with workers that need no MLflow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

TEMPLATE = Path(__file__).parents[2] / "project_template"
PROGRAM = """
import os, signal, sys, time
from mlflow_ae5_server.server.prefork import Restarts, Supervisor
def say(text): print(text, flush=True)
def work(slot):
    say(f"working {{os.getpid()}} in {{slot}}")
    {work}
{before}
sys.exit(Supervisor(work, {count}, grace={grace}, restarts=Restarts(3, 60), say=say, job_runner={job_runner}).run())
"""
JOB_RUNNER = """
import atexit, subprocess
class JobRunner:
    def start(self):
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.pid = self._process.pid
        say(f"beside {self.pid}")
job_runner = JobRunner()
job_runner.start()
atexit.register(lambda: job_runner._process.kill())
"""
FOREVER = "time.sleep(600)"
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN); say('deaf'); time.sleep(600)"


class Started:
    def __init__(self, work: str, count: int, grace: float, before: str) -> None:
        job_runner = "job_runner" if before else "None"
        program = PROGRAM.format(work=work, count=count, grace=grace, before=before, job_runner=job_runner)
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TEMPLATE)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True
        )

    def lines(self, beginning: str, count: int) -> list[str]:
        """Wait for `count` lines that begin so; the pipe's end is an error."""
        found: list[str] = []
        assert self.process.stdout is not None
        while len(found) < count:
            line = self.process.stdout.readline()
            assert line, "ended early"
            if line.startswith(beginning):
                found.append(line.strip())
        return found

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def rest(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=200)
        return self.process.returncode, output


@pytest.fixture
def start() -> Iterator[type[Started]]:
    started: list[Started] = []

    class Tracked(Started):
        def __init__(self, work: str, count: int = 2, grace: float = 10, before: str = "") -> None:
            super().__init__(work, count, grace, before)
            started.append(self)

    yield Tracked
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_workers_in_order(start: type[Started], number: signal.Signals) -> None:
    running = start(FOREVER)
    running.lines("working", 2)
    workers = running.workers()
    running.process.send_signal(number)
    code, output = running.rest()
    assert (code, len(workers)) == (0, 2)
    assert f"received {number.name}: stopping" in output
    assert not [worker for worker in workers if worker.is_running()]


def test_a_worker_that_does_not_listen_is_killed_after_the_grace_period(start: type[Started]) -> None:
    running = start(STUBBORN, grace=0.2)
    running.lines("deaf", 2)
    running.process.terminate()
    code, output = running.rest()
    assert code == 128 + signal.SIGKILL  # not in order, and it shows
    assert "killing them" in output


def test_a_dead_worker_is_replaced(start: type[Started]) -> None:
    running = start(FOREVER)
    running.lines("working", 2)
    before = running.workers()
    before[0].kill()
    running.lines("working", 1)
    after = running.workers()
    assert before[1] in after
    assert len(after) == 2


@pytest.mark.parametrize(
    ("work", "code", "words"),
    [
        ("sys.exit(7)", 7, "giving up"),
        ("raise RuntimeError('broken')", 1, "giving up"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 1, "giving up"),
        ("return Supervisor.FAILED_TO_START", 3, "could not start"),
    ],
)
def test_workers_that_keep_dying_end_everything_with_an_error(
    start: type[Started], work: str, code: int, words: str
) -> None:
    assert_ends = start(work).rest()
    assert assert_ends[0] == code
    assert words in assert_ends[1]


def test_workers_end_with_a_parent_that_was_killed(start: type[Started]) -> None:
    running = start(FOREVER)
    running.lines("working", 2)
    workers = running.workers()
    running.process.kill()
    running.process.wait()
    _gone, left = psutil.wait_procs(workers, timeout=5)
    for worker in left:
        worker.kill()
    assert left == []


def test_a_dead_job_runner_is_replaced_and_keeps_no_signal_blocked(start: type[Started]) -> None:
    started = start(FOREVER, count=1, before=JOB_RUNNER)
    (first,) = started.lines("beside", 1)
    started.lines("working", 1)
    psutil.Process(int(first.split()[1])).kill()
    (said,) = started.lines("the job runner", 1)
    (second,) = started.lines("beside", 1)
    again = psutil.Process(int(second.split()[1]))
    again.terminate()  # a blocked signal would not end it
    started.lines("beside", 1)
    started.process.terminate()
    code, _ = started.rest()
    assert said == "the job runner exited with code -9; starting another"
    assert (code, second != first) == (0, True)
