"""Temporary folders: removed after their process, also when it was killed, and never while it runs."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow_ae5_server.common.errors import RepositoryFailed
from mlflow_ae5_server.common.work_folder import work_folder

TEMPLATE = Path(__file__).parents[2] / "project_template"
HOLD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from collections.abc import Iterator
from pathlib import Path
from mlflow_ae5_server.common.work_folder import work_folder
with work_folder(Path(sys.argv[2])) as folder:
    (folder / "copy").mkdir()
    (folder / "copy" / "data").write_text("restored")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that works in the same parent folder, and its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(TEMPLATE), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    yield process, folder
    process.kill()
    process.wait()
    process.stdout.close()


def fail_in(parent):
    with work_folder(parent) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
        assert folder.stat().st_mode & 0o777 == 0o700
        raise RuntimeError


def test_the_folder_is_removed_after_a_failure(tmp_path):
    with pytest.raises(RuntimeError):
        fail_in(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_running_process_stays(tmp_path, other):
    _process, folder = other
    with work_folder(tmp_path) as own:
        assert own != folder
    assert (folder / "copy" / "data").read_text() == "restored"


def test_the_folder_of_a_killed_process_is_removed(tmp_path, other):
    process, folder = other
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert folder.exists()
    with work_folder(tmp_path):
        assert not folder.exists()
    assert list(tmp_path.iterdir()) == []


def test_other_folders_stay(tmp_path):
    (tmp_path / ".mlflow-ae5-work-notes").mkdir()  # without a lock file it is of no process
    (tmp_path / "artifacts").mkdir()
    with work_folder(tmp_path):
        pass
    assert len(list(tmp_path.iterdir())) == 2


def test_a_parent_that_cannot_be_written_to_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RepositoryFailed), work_folder(tmp_path / "file"):
        pass
