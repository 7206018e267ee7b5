"""A backup folder that changes while a backup runs: swapped for a link, or storing other bytes than were written."""

import shutil
import threading

import pytest
from mlflow_ae5_server.common.errors import SnapshotDamaged
from mlflow_ae5_server.repository.repository import open_backend

from tests.project_template.repository.conftest import Wrapped
from tests.project_template.repository.hostile import CREATE, MARKER


class Toggling(Wrapped):
    """Before every operation, also one that reads, the folder is swapped for a link, or swapped back."""

    def __init__(self, hostile, swap):
        super().__init__(open_backend(hostile.server.backend), lambda _verb, _name: self.toggle())
        self.steps = 0
        self._hostile = hostile
        self._swap = swap
        self._moved = hostile.backend.with_name("moved")
        self._lock = threading.Lock()

    def __getattr__(self, name):
        self.toggle()
        return super().__getattr__(name)

    def toggle(self):
        with self._lock:
            self.steps += 1
            self._move(swapped=self._swap(self.steps))

    def _move(self, *, swapped):
        if swapped and not self._moved.exists():
            self._hostile.backend.rename(self._moved)
            self._hostile.backend.symlink_to(self._hostile.outside)
        elif not swapped and self._moved.exists():
            self._hostile.backend.unlink()
            self._moved.rename(self._hostile.backend)

    def put_back(self):
        self._move(swapped=False)


SWAPS = {
    "every second step": lambda step: step % 2 == 0,
    "every other step": lambda step: step % 2 == 1,
    "in the middle": lambda step: 20 <= step < 25,
    "from step 20 on": lambda step: step >= 20,
    "from the start": lambda _step: True,
}


@pytest.mark.parametrize("how", SWAPS)
def test_a_folder_swapped_for_a_link_gets_no_file(hostile, how):
    """Files are created in the folder that was opened, or the backup fails; the other folder stays as it was."""
    for name in ("tmp", "objects", "snapshots", "lock"):
        (hostile.outside / name).mkdir()
        (hostile.outside / name / "deadbeef-1").write_text("precious")
    shutil.copy(hostile.backend / MARKER, hostile.outside)
    before = hostile.outside_state()
    hostile.server.write("1/b", b"b" * 5000)
    backend = Toggling(hostile, SWAPS[how])
    try:
        created = [hostile.server.back_up(backend=backend).id]
    except SnapshotDamaged:
        created = []
    assert hostile.outside_state() == before
    assert created or how != "in the middle"
    assert not created or how not in {"from step 20 on", "from the start"}
    assert backend.steps
    backend.put_back()
    assert [entry.id for entry in hostile.server.repository().snapshots()][1:] == created
    assert hostile.server.job(CREATE)[0] == 0


def test_a_manifest_is_read_back_after_it_was_published(hostile):
    class Truncating(Wrapped):
        def create(self, name, data):
            return super().create(name, data[:-1] if name.startswith("snapshots/") else data)

    with pytest.raises(SnapshotDamaged, match="is not what was written"):
        hostile.server.back_up(backend=Truncating(open_backend(hostile.server.backend), lambda _verb, _name: None))
