"""A destination without a free byte: it can still be verified, listed and pruned."""

import errno
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow_ae5_server.common.errors import Locked, NoRoom
from mlflow_ae5_server.repository import prune
from mlflow_ae5_server.repository.folder_backend import FolderBackend
from mlflow_ae5_server.repository.prune import RetentionPolicy

from tests.cli.test_bad_disk import NAMESPACE, with_small_disk
from tests.project_template.repository.conftest import new_server

BLOCK = 4096


class Small(FolderBackend):
    """On a volume of that many blocks, of which a file of no bytes takes none."""

    def __init__(self, folder, blocks=None):
        super().__init__(folder)
        self.blocks = self.used() if blocks is None else blocks

    def used(self):
        return sum(-(-file.lstat().st_size // BLOCK) for file in self.folder.rglob("*") if file.is_file())

    def _temporary(self, name, data, *, durable):
        if data and self.used() + -(-len(data) // BLOCK) > self.blocks:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super()._temporary(name, data, durable=durable)


def spare(server):
    return Path(server.backend, "spare")


def lease_files(server):
    return list(Path(server.backend, "lock").iterdir())


def take(server, count=3):
    taken = []
    for _ in range(count):
        server.write("a", os.urandom(300_000))
        taken.append(server.back_up().id)
    return taken


@pytest.mark.parametrize("has", ["both", "no spare file", "no lease", "a dead lease"])
def test_a_full_volume_is_pruned(server, has):
    taken = take(server)
    assert (spare(server).stat().st_size, spare(server).stat().st_mode & 0o777) == (65536, 0o600)
    if has == "no spare file":  # as an earlier release has left it
        spare(server).unlink()
    elif has == "no lease":  # as a backup that found no room has left it
        for file in lease_files(server):
            file.unlink()
    elif has == "a dead lease":  # of a container that was killed
        spare(server).unlink()
        (file,) = lease_files(server)
        file.write_text(json.dumps({**json.loads(file.read_text()), "machine": "elsewhere", "released": False}))
        os.utime(file, (time.time() - 100,) * 2)
    small = Small(Path(server.backend))
    server.repository().backend.write("unfinished/00000009-20200101T000000Z-abcdef.json", b"")
    plan = prune.prune(server.repository(small), RetentionPolicy(last=1), apply=True)
    assert (plan.removed, plan.unfinished) == (tuple(taken[:2]), ("20200101T000000Z-abcdef",))
    assert server.damage_of(server.repository().snapshot()) == []
    assert spare(server).stat().st_size == 65536, "there is room for it again"
    assert len(lease_files(server)) == 1


def test_a_prune_without_any_space_says_what_to_do(server):
    take(server)
    spare(server).unlink()
    for file in lease_files(server):
        file.unlink()
    before = server.objects()
    with pytest.raises(NoRoom, match="no space left") as failed:
        prune.prune(server.repository(Small(Path(server.backend))), RetentionPolicy(last=1), apply=True)
    assert "something other than backups" in failed.value.hint
    assert server.objects() == before
    assert [file.stat().st_size for file in lease_files(server)] == [0], "which keeps nobody out"
    assert prune.prune(server.repository(), RetentionPolicy(last=1), apply=True).removed


def test_a_backup_does_not_use_the_spare_file(server):
    take(server, 1)
    server.write("more", os.urandom(300_000))
    with pytest.raises(NoRoom, match="no space left") as failed:
        server.back_up(backend=Small(Path(server.backend)))
    assert "prune" in failed.value.hint
    assert spare(server).stat().st_size == 65536


def test_a_held_lock_is_not_taken_over_on_a_full_volume(server):
    take(server)
    with server.repository().lock("backup") as held:
        small = Small(Path(server.backend), blocks=0)
        small._temporary = FolderBackend(small.folder)._temporary
        with pytest.raises(Locked):
            prune.prune(server.repository(small), RetentionPolicy(last=1), apply=True)
        held.check()
    assert len(server.repository().snapshots()) == 3


ON_A_VOLUME = """
import json, os, sys
from pathlib import Path
from tests.project_template.repository.conftest import new_server

server = new_server(Path(sys.argv[1]), made=True)
server.backend = sys.argv[2] + "/backups"
for number in range(3):
    server.write("a", os.urandom(300_000))
    server.back_up()
with open(sys.argv[2] + "/filler", "wb", buffering=0) as filler:
    try:
        while filler.write(bytes(4096)):
            pass
    except OSError:
        pass
free = os.statvfs(sys.argv[2]).f_bfree
results = [server.job(words) for words in ("verify", "list", "prune --keep-last 1 --yes", "verify", "list")]
print(json.dumps([free, *results]))
"""


@with_small_disk
def test_a_volume_without_a_free_byte_is_verified_and_pruned(tmp_path):
    new_server(tmp_path / "server")
    volume = tmp_path / "volume"
    volume.mkdir()
    program = shlex.join([sys.executable, "-c", ON_A_VOLUME, str(tmp_path / "server"), str(volume)])
    mount = f"mount -t tmpfs -o size=2m,mode=0700 small {shlex.quote(str(volume))}"
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", f"{mount} && exec {program}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    free, (code, verified), (_, listed), (pruned, gone), (_, again), (_, after) = results
    assert (free, code, verified["outcome"]) == (0, 0, "done")
    assert "no space left" in verified["not_recorded"]
    assert [line["verified"] for line in listed["snapshots"]] == [None] * 3
    assert (pruned, len(gone["removed"])) == (0, 2)
    assert "not_recorded" not in again
    assert [bool(line["verified"]) for line in after["snapshots"]] == [True]
