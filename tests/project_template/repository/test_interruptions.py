"""Killed, no room left, the place gone: what is listed is whole, and the next backup works.

Killed is who works at the first and last step of each kind.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from mlflow_ae5_server.backup import artifacts
from mlflow_ae5_server.common.errors import StorageError
from mlflow_ae5_server.repository import prune
from mlflow_ae5_server.repository.folder_backend import FolderBackend
from mlflow_ae5_server.repository.prune import RetentionPolicy
from mlflow_ae5_server.repository.repository import open_backend

from tests.project_template.repository.conftest import (
    Server,
    Wrapped,
    ends_of_kinds,
    in_child,
    kill_at,
    new_server,
)

FILES = {f"{number}/file": os.urandom(3000 + number) for number in range(6)} | {"big": os.urandom(600_000)}


def fill(server: Server, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        server.write(path, data)


def all_is_well(server: Server, known: int) -> None:
    """Every listed snapshot is whole, and there are as many as before, or one more."""
    listed = server.repository().snapshots()
    assert len(listed) in {known, known + 1}
    for one in listed:
        assert one.manifest is not None, one.problem
        assert server.damage_of(one.manifest) == []


def copy_of(model: Server, name: str) -> Server:
    folder = model.folder.with_name(name)
    shutil.copytree(model.folder, folder)
    return new_server(folder, made=True)


def test_a_backup_killed_at_any_kind_of_step_harms_nothing(tmp_path: Path) -> None:
    model = new_server(tmp_path / "model")
    fill(model, {"old": b"old"})
    model.back_up()
    fill(model, FILES)
    whole, steps = copy_of(model, "whole"), []
    whole.back_up(backend=Wrapped(open_backend(whole.backend), lambda *step: steps.append(step)), save_every=0)
    assert len(steps) > 9
    for number in ends_of_kinds(steps):
        server = copy_of(model, f"{number}")

        def work(server: Server = server, number: int = number) -> None:
            server.back_up(backend=Wrapped(open_backend(server.backend), kill_at(number)), save_every=0)

        assert in_child(work) == -signal.SIGKILL
        all_is_well(server, 1)
        manifest = server.back_up()
        assert server.contents(manifest) == {**FILES, "old": b"old"}
        assert server.damage_of(manifest) == []
        assert server.repository().unfinished() == []
        assert list(Path(server.backend, "tmp").iterdir()) == []
        shutil.rmtree(server.folder)


class Halved(FolderBackend):
    """Is killed with half of the bytes of a file on disk."""

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__(folder)
        self.threads = 1
        self.left = number

    def _temporary(self, name: str, data: bytes, *, durable: bool) -> str:
        if self.left == 0:
            super()._temporary(name, data[: len(data) // 2], durable=durable)
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        return super()._temporary(name, data, durable=durable)


@pytest.mark.parametrize("number", range(7))
def test_half_a_file_never_gets_a_name(server: Server, number: int) -> None:
    server.back_up()
    fill(server, FILES)
    code = in_child(lambda: server.back_up(backend=Halved(Path(server.backend), number)) and None)
    assert code == -signal.SIGKILL
    all_is_well(server, 1)
    manifest = server.back_up()
    assert server.contents(manifest) == FILES
    assert server.damage_of(manifest) == []


def test_an_interrupted_snapshot_is_named_and_then_finished(server: Server) -> None:
    fill(server, FILES)
    backend = open_backend(server.backend)
    writes = [0]

    def count(verb: str, name: str) -> None:
        writes[0] += name.startswith("objects/")
        if writes[0] == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(lambda: server.back_up(backend=Wrapped(backend, count)) and None) == -signal.SIGKILL
    (begun,) = server.repository().unfinished()
    code, report = server.job("list")
    assert (code, report["snapshots"], report["unfinished"]) == (0, [], [begun.id])
    there = server.objects()
    manifest = server.back_up()
    assert manifest.id == begun.id
    assert there <= server.objects()
    assert manifest.new_objects == len(server.objects()) - len(there), "what was there is not copied again"
    assert server.job("list")[1]["unfinished"] == []


def test_a_long_backup_goes_on_where_its_notes_end(server: Server) -> None:
    files = {f"{number:05}": b"%d" % number for number in range(5000)}
    fill(server, files)
    notes = [0]

    def stop_later(verb: str, name: str) -> None:
        notes[0] += name.startswith("unfinished/")
        if notes[0] == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        # as if the files had been there for an hour
        server.back_up(
            backend=Wrapped(open_backend(server.backend), stop_later), save_every=0, now=lambda: time.time() + 3600
        )

    assert in_child(work) == -signal.SIGKILL
    (begun,) = server.repository().unfinished()
    assert len(begun.lists) >= 2
    opened: list[str] = []

    class Watching(artifacts.FolderArtifacts):
        def whole(self, found: artifacts.Artifact) -> artifacts.Content | None:
            opened.append(found.path)
            return super().whole(found)

    manifest = server.back_up(source=Watching(server.artifacts))
    assert 0 < len(opened) < 4000
    assert server.contents(manifest) == files


def test_garbage_that_a_power_failure_left_is_not_believed(server: Server) -> None:
    fill(server, FILES)
    backend = Wrapped(open_backend(server.backend), lambda verb, name: _die_at("snapshots/", name))
    assert in_child(lambda: server.back_up(backend=backend) and None) == -signal.SIGKILL
    for sha256 in server.objects():
        file = server.object_file(sha256)
        file.write_bytes(b"z" + bytes(file.stat().st_size - 1))
    manifest = server.back_up()
    assert server.damage_of(manifest) == []
    assert server.contents(manifest) == FILES


def _die_at(prefix: str, name: str) -> None:
    if name.startswith(prefix):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("number", range(6))
def test_no_room_left(server: Server, number: int) -> None:
    fill(server, {"old": b"old"})
    server.back_up()
    fill(server, FILES)
    left = [number]

    class Full(FolderBackend):
        def _temporary(self, name: str, data: bytes, *, durable: bool) -> str:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super()._temporary(name, data, durable=durable)

    with pytest.raises(StorageError, match="no space left") as failed:
        server.back_up(backend=Full(Path(server.backend)))
    assert "prune" in failed.value.hint
    all_is_well(server, 1)
    assert server.contents(server.back_up()) == {**FILES, "old": b"old"}


def test_nothing_more_is_read_once_there_is_no_room(server: Server) -> None:
    server.write("long", os.urandom(artifacts.CHUNK) * 20)
    with (server.artifacts / "long").open("r+b") as stream:
        for number in range(20):
            stream.seek(number * artifacts.CHUNK)
            stream.write(b"%d" % number)
    tried: list[str] = []

    class Full(FolderBackend):
        def _temporary(self, name: str, data: bytes, *, durable: bool) -> str:
            if name.startswith("objects/") and len(data) > 1000:
                tried.append(name)
                raise OSError(errno.ENOSPC, "No space left on device")
            return super()._temporary(name, data, durable=durable)

    with pytest.raises(StorageError, match="no space left"):
        server.back_up(backend=Full(Path(server.backend)))
    assert len(tried) < 12


def test_a_place_that_vanishes_is_told_and_not_made_anew(server: Server) -> None:
    fill(server, FILES)
    server.back_up()
    fill(server, {"more": os.urandom(700_000)})
    gone = server.folder / "unmounted"

    def vanish(_verb: str, name: str) -> None:
        if name.startswith("objects/") and not gone.exists():
            Path(server.backend).rename(gone)

    def work() -> None:
        with pytest.raises(StorageError, match="no such file"):
            server.back_up(backend=Wrapped(open_backend(server.backend), vanish))

    assert in_child(work) == 0
    assert not Path(server.backend).exists()
    gone.rename(server.backend)
    all_is_well(server, 1)
    assert server.damage_of(server.back_up()) == []


def test_another_volume_in_its_place_gets_no_snapshot(server: Server) -> None:
    fill(server, FILES)

    def swap(verb: str, _name: str) -> None:
        if verb == "write" and _name.startswith("objects/"):
            marker = Path(server.backend, "mlflow-ae5-backups.json")
            marker.write_text(marker.read_text().replace('"repository": "', '"repository": "other'))

    with pytest.raises(StorageError, match="not the repository any more"):
        server.back_up(backend=Wrapped(open_backend(server.backend), swap))
    assert server.repository().snapshots() == []


def test_a_prune_killed_at_any_kind_of_step_leaves_whole_snapshots(tmp_path: Path) -> None:
    model = new_server(tmp_path / "model")
    for number in range(3):
        fill(model, {"changing": os.urandom(400_000), f"{number}": os.urandom(500)})
        model.back_up()
    # and an unfinished one
    fill(model, {"changing": os.urandom(400_000)})
    dying = Wrapped(open_backend(model.backend), lambda verb, name: _die_at("snapshots/", name))
    assert in_child(lambda: model.back_up(backend=dying) and None) == -signal.SIGKILL
    whole, steps = copy_of(model, "whole"), []
    watched = Wrapped(open_backend(whole.backend), lambda *step: steps.append(step))
    prune.prune(whole.repository(watched), RetentionPolicy(last=1), apply=True)
    assert len(steps) > 6
    for number in ends_of_kinds(steps):
        server = copy_of(model, f"{number}")

        def work(server: Server = server, number: int = number) -> None:
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
def test_a_note_that_makes_no_sense_is_begun_anew(server: Server, note: bytes) -> None:
    fill(server, FILES)
    backend = server.repository().backend
    backend.write("unfinished/00000007-20200101T000000Z-abcdef.json", note)
    manifest = server.back_up()
    assert server.contents(manifest) == FILES
    assert server.repository().unfinished() == []
    assert server.job("prune --keep-daily 1 --yes")[0] == 0


def test_an_unfinished_snapshot_that_others_have_overtaken_is_not_finished(server: Server) -> None:
    fill(server, FILES)
    backend = server.repository().backend
    server.back_up()
    server.back_up()
    backend.write("unfinished/00000001-20200101T000000Z-abcdef.json", b"{}")
    newest = server.back_up()
    assert newest.sequence == 3
    assert server.repository().snapshot("latest").id == newest.id
    assert [one.sequence for one in server.repository().unfinished()] == [1]
