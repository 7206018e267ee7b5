"""One writer at a time; who is gone is recognised, and who was taken over notices."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow_ae5_server.common.errors import Locked, RepositoryFailed
from mlflow_ae5_server.repository import lock
from mlflow_ae5_server.repository.folder_backend import FolderBackend
from mlflow_ae5_server.repository.lock import LockTiming

from tests.project_template.repository.conftest import in_child

QUIET = LockTiming(heartbeat=1000)


@pytest.fixture
def backend(tmp_path):
    return FolderBackend(tmp_path)


def hold(backend, timing=QUIET, **arguments):
    return lock.hold(backend, "backup", timing, **arguments)


def holder(backend):
    (file,) = (backend.folder / "lock").glob("*.json")
    return file


def pretend(backend, *, age, **content):
    """Make the holder one of another machine that was heard of `age` seconds ago."""
    file = holder(backend)
    file.write_text(json.dumps({**json.loads(file.read_text()), "machine": "elsewhere", **content}))
    os.utime(file, (time.time() - age,) * 2)


def test_one_writer_at_a_time_and_then_the_next(backend):
    with hold(backend) as first:
        first.check()
        with pytest.raises(Locked, match=r"locked by another backup: .*, pid"), hold(backend):
            pass
        first.check()
    with hold(backend) as second:
        assert second.number > first.number
    assert len(list((backend.folder / "lock").iterdir())) == 1


def test_a_holder_of_another_machine_counts_as_gone_after_its_silence(backend):
    with hold(backend) as first:
        pretend(backend, age=80)
        with pytest.raises(Locked), hold(backend):
            pass
        pretend(backend, age=100)
        with hold(backend) as second:
            second.check()
            with pytest.raises(RepositoryFailed, match="taken over"):
                first.check()
    with hold(backend):
        pass


def test_a_holder_from_the_future_is_watched_for_a_sign_of_life(backend):
    slept = []

    def beat(seconds):
        slept.append(seconds)
        pretend(backend, age=-3600, beats=9)

    with hold(backend):
        pretend(backend, age=-3600)
        with pytest.raises(Locked), hold(backend, sleep=beat):
            pass
        assert slept == [QUIET.watch]
        with hold(backend, sleep=slept.append):
            pass
    assert slept == [QUIET.watch] * 2


def test_a_killed_holder_on_this_machine_is_recognised_at_once(backend):
    def work():
        with hold(backend):
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work) == -signal.SIGKILL
    with hold(backend, LockTiming(stale=10_000)) as next_one:
        next_one.check()


def test_a_pid_that_another_process_has_by_now_is_not_the_holder(backend):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        with hold(backend):
            file = holder(backend)
            file.write_text(json.dumps({**json.loads(file.read_text()), "pid": other.pid}))
            with hold(backend) as second:
                assert second.number == 2
        other.communicate(b"\n")


def test_an_empty_lock_file_of_a_killed_process_is_free(backend):
    with hold(backend):
        holder(backend).write_bytes(b"")
        with hold(backend) as second:
            assert second.number == 2


def test_only_one_of_two_takes_over(backend):
    """The other one had looked at the same silent holder, and finds the next number taken."""

    class Late(FolderBackend):
        def create(self, name, data):
            if name.startswith("lock/"):
                FolderBackend(self.folder).create(name, b'{"token": "the quicker one"}')
            return super().create(name, data)

    with hold(backend):
        pretend(backend, age=1000)
        with pytest.raises(Locked), hold(Late(backend.folder)):
            pass
        assert json.loads(Path(backend.folder, "lock/2.json").read_text())["token"] == "the quicker one"


def test_the_holder_gives_signs_of_life_and_stops_when_taken_over(backend):
    with hold(backend, LockTiming(heartbeat=0.01)) as first:
        deadline = time.monotonic() + 20
        while json.loads(holder(backend).read_text())["beats"] < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert json.loads(holder(backend).read_text())["beats"] >= 3
        backend.create("lock/2.json", b'{"token": "another one"}')
        with pytest.raises(RepositoryFailed, match="taken over"):
            first.check()
    assert json.loads(Path(backend.folder, "lock/2.json").read_text()) == {"token": "another one"}
