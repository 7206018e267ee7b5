"""Killed, full, unmounted: every listed snapshot is whole, and the next backup works.

Processes are killed at the first and last step of each kind.
"""

import errno
import itertools
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from mlflow_ae5_server.backup import artifacts
from mlflow_ae5_server.common.errors import RepositoryFailed
from mlflow_ae5_server.repository import prune
from mlflow_ae5_server.repository.folder_backend import FolderBackend
from mlflow_ae5_server.repository.prune import RetentionPolicy
from mlflow_ae5_server.repository.repository import open_backend

from tests.project_template.repository.conftest import (
    Watched,
    Wrapped,
    die_at,
    ends_of_kinds,
    in_child,
    kill_at,
    killed_backup,
    new_server,
)

FILES = {f"{number}/file": os.urandom(3000 + number) for number in range(6)} | {"big": os.urandom(600_000)}


def fill(server, files):
    for path, data in files.items():
        server.write(path, data)


def assert_all_whole(server, before):
    """Every listed snapshot is whole, and there are as many as before, or one more."""
    listed = server.repository().snapshots()
    assert len(listed) in {before, before + 1}
    for one in listed:
        assert one.manifest is not None, one.problem
        assert server.damage_of(one.manifest) == []


def copy_of(model, name):
    folder = model.folder.with_name(name)
    shutil.copytree(model.folder, folder)
    return new_server(folder, made=True)


def test_a_backup_killed_at_any_kind_of_step_harms_nothing(tmp_path):
    model = new_server(tmp_path / "model")
    fill(model, {"old": b"old"})
    model.back_up()
    fill(model, FILES)
    whole, steps = copy_of(model, "whole"), []
    whole.back_up(backend=Wrapped(open_backend(whole.backend), lambda *step: steps.append(step)), save_every=0)
    assert len(steps) > 9
    for number in ends_of_kinds(steps):
        server = copy_of(model, f"{number}")
        killed_backup(server, Wrapped(open_backend(server.backend), kill_at(number)), save_every=0)
        assert_all_whole(server, 1)
        manifest = server.back_up()
        assert server.contents(manifest) == {**FILES, "old": b"old"}
        assert server.damage_of(manifest) == []
        assert server.repository().unfinished() == []
        assert list(Path(server.backend, "tmp").iterdir()) == []
        shutil.rmtree(server.folder)


class Halved(FolderBackend):
    """Is killed with half of the bytes of a file on disk."""

    def __init__(self, folder, number):
        super().__init__(folder)
        self.threads = 1
        self.left = number

    def _temporary(self, name, data, *, durable):
        if self.left == 0:
            with super()._temporary(name, data[: len(data) // 2], durable=durable):
                os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        return super()._temporary(name, data, durable=durable)


@pytest.mark.parametrize("number", range(7))
def test_half_a_file_is_never_visible(server, number):
    server.back_up()
    fill(server, FILES)
    killed_backup(server, Halved(Path(server.backend), number))
    assert_all_whole(server, 1)
    manifest = server.back_up()
    assert server.contents(manifest) == FILES
    assert server.damage_of(manifest) == []


def test_an_interrupted_snapshot_is_listed_and_then_resumed(server):
    fill(server, FILES)
    killed_backup(server, Wrapped(open_backend(server.backend), die_at("objects/", 3)))
    (unfinished,) = server.repository().unfinished()
    code, report = server.job("list")
    assert (code, report["snapshots"], report["unfinished"]) == (0, [], [unfinished.id])
    there = server.objects()
    manifest = server.back_up()
    assert manifest.id == unfinished.id
    assert there <= server.objects()
    assert manifest.new_objects == len(server.objects()) - len(there), "what was there is not copied again"
    assert server.job("list")[1]["unfinished"] == []


def test_a_long_backup_resumes_at_its_saved_file_list(server):
    files = {f"{number:05}": b"%d" % number for number in range(5000)}
    fill(server, files)
    an_hour_later = time.time() + 3600  # so that the files count as old
    dying = Wrapped(open_backend(server.backend), die_at("unfinished/", 4))
    killed_backup(server, dying, save_every=0, now=lambda: an_hour_later)
    (unfinished,) = server.repository().unfinished()
    assert len(unfinished.lists) >= 2
    source = Watched(server.artifacts)
    manifest = server.back_up(source=source)
    assert 0 < len(source.read) < 4000
    assert server.contents(manifest) == files


def test_unsynced_blobs_of_a_power_failure_are_not_reused(server):
    fill(server, FILES)
    killed_backup(server, Wrapped(open_backend(server.backend), die_at("snapshots/")))
    for sha256 in server.objects():
        file = server.object_file(sha256)
        file.write_bytes(b"z" + bytes(file.stat().st_size - 1))
    manifest = server.back_up()
    assert server.damage_of(manifest) == []
    assert server.contents(manifest) == FILES


class Full(FolderBackend):
    """A volume without space for the files that `refuses` names, by their name and size."""

    def __init__(self, folder, refuses):
        super().__init__(folder)
        self.refuses = refuses

    def _temporary(self, name, data, *, durable):
        if self.refuses(name, len(data)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return super()._temporary(name, data, durable=durable)


@pytest.mark.parametrize("number", range(6))
def test_a_backup_on_a_full_volume_fails_and_the_next_is_whole(server, number):
    fill(server, {"old": b"old"})
    server.back_up()
    fill(server, FILES)
    written = itertools.count()
    with pytest.raises(RepositoryFailed, match="no space left") as failed:
        server.back_up(backend=Full(Path(server.backend), lambda _name, _size: next(written) >= number))
    assert "prune" in failed.value.hint
    assert_all_whole(server, 1)
    assert server.contents(server.back_up()) == {**FILES, "old": b"old"}


def test_reading_stops_when_the_volume_is_full(server):
    chunk = os.urandom(artifacts.CHUNK - 2)
    server.write("long", b"".join(b"%02d" % number + chunk for number in range(20)))
    attempts = []

    def refuses(name, size):
        blob = name.startswith("objects/") and size > 1000
        attempts.extend([name] * blob)
        return blob

    with pytest.raises(RepositoryFailed, match="no space left"):
        server.back_up(backend=Full(Path(server.backend), refuses))
    assert len(attempts) < 12


def test_an_unmounted_destination_is_reported_and_not_recreated(server):
    fill(server, FILES)
    server.back_up()
    fill(server, {"more": os.urandom(700_000)})
    gone = server.folder / "unmounted"

    def vanish(_verb, name):
        if name.startswith("objects/") and not gone.exists():
            Path(server.backend).rename(gone)

    def work():
        with pytest.raises(RepositoryFailed, match="no such file"):
            server.back_up(backend=Wrapped(open_backend(server.backend), vanish))

    assert in_child(work) == 0
    assert not Path(server.backend).exists()
    gone.rename(server.backend)
    assert_all_whole(server, 1)
    assert server.damage_of(server.back_up()) == []


def test_another_repository_at_the_address_gets_no_snapshot(server):
    fill(server, FILES)

    def swap(verb, _name):
        if verb == "write" and _name.startswith("objects/"):
            marker = Path(server.backend, "mlflow-ae5-backups.json")
            marker.write_text(marker.read_text().replace('"repository": "', '"repository": "other'))

    with pytest.raises(RepositoryFailed, match="was replaced by another repository"):
        server.back_up(backend=Wrapped(open_backend(server.backend), swap))
    assert server.repository().snapshots() == []


def test_a_prune_killed_at_any_kind_of_step_leaves_whole_snapshots(tmp_path):
    model = new_server(tmp_path / "model")
    for number in range(3):
        fill(model, {"changing": os.urandom(400_000), f"{number}": os.urandom(500)})
        model.back_up()
    # and an unfinished one
    fill(model, {"changing": os.urandom(400_000)})
    killed_backup(model, Wrapped(open_backend(model.backend), die_at("snapshots/")))
    whole, steps = copy_of(model, "whole"), []
    watched = Wrapped(open_backend(whole.backend), lambda *step: steps.append(step))
    prune.prune(whole.repository(watched), RetentionPolicy(last=1), apply=True)
    assert len(steps) > 6
    for number in ends_of_kinds(steps):
        server = copy_of(model, f"{number}")

        def work(server=server, number=number):
            backend = Wrapped(open_backend(server.backend), kill_at(number))
            prune.prune(server.repository(backend), RetentionPolicy(last=1), apply=True)

        assert in_child(work) == -signal.SIGKILL
        for one in server.repository().snapshots():
            assert one.manifest is not None
            assert server.damage_of(one.manifest) == []
        assert server.damage_of(server.back_up()) == []
        prune.prune(server.repository(), RetentionPolicy(last=1), apply=True)
        (left,) = server.repository().snapshots()
        assert left.manifest is not None
        assert server.damage_of(left.manifest) == []
        shutil.rmtree(server.folder)


@pytest.mark.parametrize(
    "note", [b"", b"{}", b"[]", b"nonsense", b'{"lists": ["../x"], "started": 5}', b'{"lists": 5}']
)
def test_an_unfinished_snapshot_with_a_malformed_file_is_started_again(server, note):
    fill(server, FILES)
    backend = server.repository().backend
    backend.write("unfinished/00000007-20200101T000000Z-abcdef.json", note)
    manifest = server.back_up()
    assert server.contents(manifest) == FILES
    assert server.repository().unfinished() == []
    assert server.job("prune --keep-daily 1 --yes")[0] == 0


def test_an_unfinished_snapshot_behind_newer_ones_is_not_resumed(server):
    fill(server, FILES)
    backend = server.repository().backend
    server.back_up()
    server.back_up()
    backend.write("unfinished/00000001-20200101T000000Z-abcdef.json", b"{}")
    newest = server.back_up()
    assert newest.sequence == 3
    assert server.repository().snapshot("latest").id == newest.id
    assert [one.sequence for one in server.repository().unfinished()] == [1]
