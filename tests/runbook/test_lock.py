"""One run at a time: the second caller learns who, since when and where."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mlflow_ae5_deploy.common.errors import Locked
from mlflow_ae5_deploy.engine.journal import operator
from mlflow_ae5_deploy.engine.lock import InstallationLock, holder_of, nonces_of
from tests.manual_clock import ManualClock


def test_a_second_run_is_refused_and_names_the_holder(tmp_path):
    with InstallationLock(tmp_path, ManualClock(), verb="install").held() as first:
        first.at_stage("8 deploy")

        with (
            pytest.raises(Locked) as caught,
            InstallationLock(tmp_path, ManualClock(), verb="install").held(),
        ):
            pass

    assert f"pid {os.getpid()}" in caught.value.what
    assert "8 deploy" in caught.value.what
    assert "2026-01-01T00:00:00+00:00" in caught.value.what
    assert caught.value.exit_code == 22


def test_waiting_has_an_end(tmp_path):
    clock = ManualClock()
    with InstallationLock(tmp_path, clock, verb="install").held():
        with pytest.raises(Locked), InstallationLock(tmp_path, clock, verb="install").held(wait_seconds=30):
            pass
        assert 30 <= clock.elapsed < 32


def test_it_is_free_after_the_run_and_after_an_error(tmp_path):
    lock = InstallationLock(tmp_path, ManualClock(), verb="install")
    with pytest.raises(ValueError, match="x"), lock.held():
        raise ValueError("x")
    with lock.held():
        pass


def test_a_killed_run_leaves_no_lock(tmp_path):
    code = (
        "import os, pathlib, sys\n"
        "from mlflow_ae5_deploy.common.clock import SystemClock\n"
        "from mlflow_ae5_deploy.engine.lock import InstallationLock\n"
        "with InstallationLock(pathlib.Path(sys.argv[1]), SystemClock(), verb='x').held():\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)

    assert killed.returncode == -9
    with InstallationLock(tmp_path, ManualClock(), verb="install").held():
        pass


@pytest.mark.parametrize("count", [1, 8000], ids=["one", "many"])
def test_a_run_that_was_killed_while_it_wrote_keeps_its_name_and_its_leases(tmp_path, count):
    nonces = tuple(f"{number:08x}" for number in range(count))
    with InstallationLock(tmp_path, ManualClock(), verb="install").held() as first:
        first.nonces = nonces
        with (tmp_path / "lock").open("ab") as file:
            file.write(b'1", "nonces": []}')  # the end of a longer text, which it had no time to cut off

        holder = holder_of(tmp_path)
        with (
            pytest.raises(Locked) as caught,
            InstallationLock(tmp_path, ManualClock(), verb="upgrade").held(),
        ):
            pass

    assert holder is not None
    assert holder.verb == "install"
    assert f"install, {operator()}, pid {os.getpid()}" in caught.value.what
    assert nonces_of(tmp_path) == nonces
    with InstallationLock(tmp_path, ManualClock(), verb="install").held() as again:
        assert again.nonces == nonces
