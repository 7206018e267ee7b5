"""The temporary folder of a run: gone with it, and what killed runs have left goes with the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mlflow_ae5_deploy.common.files import scratch_folder

KILLED = f"""
import os, sys
from pathlib import Path
from mlflow_ae5_deploy.common.files import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "project.tar.gz").write_bytes(b"x")
    os.kill(os.getpid(), {signal.SIGKILL:d})
"""


def kill_one(parent: Path) -> Path:
    before = set(parent.iterdir())
    ended = subprocess.run([sys.executable, "-c", KILLED, str(parent)], check=False)
    assert ended.returncode == -signal.SIGKILL
    (left,) = set(parent.iterdir()) - before
    assert (left / "project.tar.gz").exists()
    return left


def age(folder: Path) -> None:
    long_ago = time.time() - 3600
    os.utime(folder / ".lock", (long_ago, long_ago))


def test_what_a_killed_run_has_left_goes_and_nothing_else(tmp_path):
    old, young = kill_one(tmp_path), kill_one(tmp_path)
    age(old)
    foreign = tmp_path / "mlflow-ae5-deploy-by-hand"
    foreign.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".lock").touch()
    age(elsewhere)
    link = tmp_path / "mlflow-ae5-deploy-link"
    link.symlink_to(elsewhere)
    with scratch_folder(tmp_path) as running:
        age(running)
        assert not old.exists()
        with scratch_folder(tmp_path) as own:
            assert own.stat().st_mode & 0o777 == 0o700
            assert (own / ".lock").stat().st_mode & 0o777 == 0o600
            assert running.exists(), "its process lives"
        assert not own.exists()
        assert running.exists()
    assert not running.exists()
    assert young.exists(), "it may be about to be locked"
    assert foreign.exists()
    assert (elsewhere / ".lock").exists()
