"""Artifacts into a folder and an object store: written, read back, and not believed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow_ae5_server.common.errors import Configuration, RepositoryFailed, SnapshotDamaged, TargetNotEmpty
from mlflow_ae5_server.repository import blobs
from mlflow_ae5_server.repository.blob_index import BlobIndex
from mlflow_ae5_server.repository.blobs import BlobReader, BlobWriter
from mlflow_ae5_server.repository.entries import FileEntry, FilePart, key
from mlflow_ae5_server.repository.folder_backend import FolderBackend
from mlflow_ae5_server.restore import files
from mlflow_ae5_server.restore.open import open_target
from mlflow_ae5_server.restore.target import ArtifactTarget, FolderTarget

LARGE = os.urandom(3_000_000) + bytes(6_000_000) + b"end"
CONTENTS = {
    "0/run/artifacts/a.txt": b"a",
    "0/run/artifacts/empty": b"",
    "1/" + "n" * 255: b"long name",
    "1/spaces and ünïcode ✓": b"x" * 300_000,
    "2/large": LARGE,
}
ODD = {"3/line\nbreak": b"odd"}


class Snapshot:
    """A few files as a snapshot keeps them."""

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self.backend = FolderBackend(folder)
        self.backend.prepare()
        writer = BlobWriter(self.backend, BlobIndex())
        self.entries = []
        for path, data in sorted(files.items(), key=lambda entry: key(entry[0])):
            parts = []
            for start in range(0, len(data), 4 * 1024 * 1024):
                stored = writer.put(data[start : start + 4 * 1024 * 1024])
                parts.append(FilePart(stored.sha256, 0, stored.size, stored.size))
            digest = hashlib.sha256(data).hexdigest()
            self.entries.append(FileEntry(path, "file", len(data), digest, 1_700_000_000_123_456_789, "", tuple(parts)))

    def files(self) -> Iterator[FileEntry]:
        return iter(self.entries)

    def restore(self, target: ArtifactTarget, again: bool = False) -> files.RestoreCounts:
        return files.restore(self.files, BlobReader(self.backend), target, again=again)


@pytest.fixture(params=["folder", "store"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactTarget:
    if request.param == "folder":
        return open_target(str(tmp_path / "artifacts"))
    make: Callable[[str], str] = request.getfixturevalue("bucket")
    return open_target(make(f"t{uuid.uuid4().hex}") + "/some/prefix")


def test_every_file_is_there_and_was_read_back(target: ArtifactTarget, tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path / "backups", CONTENTS)
    done = snapshot.restore(target)
    assert (done.files, done.written, done.bytes) == (5, 5, sum(map(len, CONTENTS.values())))
    for path, data in CONTENTS.items():
        assert target.digest(path) == (len(data), hashlib.sha256(data).hexdigest())
    assert target.count() == 5
    again = snapshot.restore(target, again=True)
    assert (again.files, again.written) == (5, 0)


@pytest.mark.parametrize("wrong", [b"b", b"b" * (len(LARGE) + 1)], ids=["short", "long"])
def test_other_content_of_an_interrupted_run_is_replaced(target: ArtifactTarget, tmp_path: Path, wrong: bytes) -> None:
    snapshot = Snapshot(tmp_path / "backups", CONTENTS)
    snapshot.restore(target)
    for entry in snapshot.entries:
        if entry.path in {"0/run/artifacts/a.txt", "2/large"}:
            target.write(entry._replace(size=len(wrong), mtime_ns=0), iter([memoryview(wrong)]))
    done = snapshot.restore(target, again=True)
    assert (done.files, done.written) == (5, 2)


def test_other_files_are_refused(target: ArtifactTarget, tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path / "backups", CONTENTS)
    target.prepare()
    target.write(snapshot.entries[0]._replace(path="9/of/somebody else"), iter([memoryview(b"a")]))
    with pytest.raises(TargetNotEmpty, match="6 files, and the snapshot 5"):
        snapshot.restore(target)


def test_a_file_in_a_folder_has_its_content_time_and_holes(tmp_path: Path) -> None:
    Snapshot(tmp_path / "backups", CONTENTS | ODD).restore(FolderTarget(tmp_path / "artifacts"))
    for path, data in (CONTENTS | ODD).items():
        file = tmp_path / "artifacts" / path
        assert (file.read_bytes(), file.stat().st_mtime_ns) == (data, 1_700_000_000_123_456_789)
    large = (tmp_path / "artifacts/2/large").stat()
    assert large.st_blocks * 512 < len(LARGE) - 4_000_000  # its zeros take no room


def test_a_target_that_is_gone_is_not_created_again(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path / "backups", {"a/file": b"x"})
    target = FolderTarget(tmp_path / "artifacts")
    target.prepare()
    (tmp_path / "artifacts").rmdir()  # as when its volume is not mounted any more
    with pytest.raises(RepositoryFailed, match="cannot write a/file"):
        target.write(snapshot.entries[0], iter([memoryview(b"x")]))
    assert not (tmp_path / "artifacts").exists()


def test_links_are_created_last_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    snapshot = Snapshot(tmp_path / "backups", {"a/file": b"x"})
    link = FileEntry("b", "link", 0, "", 0, "", (), str(outside))
    snapshot.entries += [link, FileEntry("c", "special", 0, "", 0, "", ())]
    for again in (False, True):
        done = snapshot.restore(FolderTarget(tmp_path / "artifacts"), again=again)
        assert (done.files, done.links, done.left_out) == (1, 1, ["c"])
    assert (tmp_path / "artifacts/b").readlink() == outside
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("path", ["x\ny", "\x7f", "\udcff", "é" * 600, ".mlflow-ae5-restore.json"])
def test_names_that_a_store_cannot_hold_are_refused_first(path: str, bucket: Callable[[str], str]) -> None:
    entry = FileEntry(path, "file", 0, hashlib.sha256().hexdigest(), 0, "", ())
    with pytest.raises(Configuration, match="cannot hold"):
        files.refuse_names([entry], open_target("s3://nobody-looks/there"))


def test_a_damaged_object_is_never_written_as_a_file(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path / "backups", CONTENTS)
    name = blobs.blob_name(hashlib.sha256(b"a").hexdigest())
    (tmp_path / "backups" / name).write_bytes(b"rb")
    with pytest.raises(SnapshotDamaged, match=hashlib.sha256(b"a").hexdigest()):
        snapshot.restore(FolderTarget(tmp_path / "artifacts"))


def test_an_entry_whose_digest_is_another(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path / "backups", {"f": b"content"})
    snapshot.entries[0] = snapshot.entries[0]._replace(sha256="0" * 64)
    with pytest.raises(SnapshotDamaged, match="read back as 7 bytes"):
        snapshot.restore(FolderTarget(tmp_path / "artifacts"))


def test_nothing_is_written_through_a_link_and_no_pipe_is_waited_for(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path / "backups", {"0/a": b"a", "1": b""})
    top, outside = tmp_path / "artifacts", tmp_path / "outside"
    top.mkdir()
    outside.mkdir()
    (top / "0").symlink_to(outside)
    with pytest.raises(RepositoryFailed, match="0/a"):
        snapshot.restore(open_target(str(top)), again=True)
    assert list(outside.iterdir()) == []
    (top / "0").unlink()
    (top / "1").unlink(missing_ok=True)
    os.mkfifo(top / "1")
    with pytest.raises(RepositoryFailed, match="regular file"):
        snapshot.restore(open_target(str(top)), again=True)


def test_a_path_that_no_file_system_takes_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path / "backups", {"/".join(["d"] * 2040): b"deep"})
    with pytest.raises(Configuration, match="longer than 4095 bytes"):
        files.refuse_names(snapshot.files(), open_target(str(tmp_path / "artifacts")))


def test_folders_may_be_very_deep(tmp_path: Path) -> None:
    path = "/".join(["d"] * 1500)
    snapshot = Snapshot(tmp_path / "backups", {path: b"deep"})
    try:
        assert snapshot.restore(open_target(str(tmp_path / "artifacts"))).files == 1
        assert (tmp_path / "artifacts" / path).read_bytes() == b"deep"
    finally:  # Python's own removal of a tree goes no deeper than its calls
        subprocess.run(["rm", "-rf", tmp_path / "artifacts"], check=True)


class Stepped:
    """Works in the test's thread, or in the pool; a clock that the work moves."""

    def __init__(self, takes: dict[int, float]) -> None:
        self.takes, self.now, self.here = takes, 0.0, list[int]()

    def work(self, item: int) -> None:
        if threading.current_thread() is threading.main_thread():
            self.here.append(item)
            self.now += self.takes.get(item, 0.1)


def test_a_slow_item_sends_the_next_ones_to_the_threads_for_a_while() -> None:
    stepped = Stepped({3: 4.0})

    files.each(stepped.work, range(8), 2, here=lambda _item, seconds: seconds < 1, clock=lambda: stepped.now)

    assert stepped.here == [0, 1, 2, 3, 7]


def test_a_failure_in_a_thread_ends_the_work_in_this_one() -> None:
    failed, begun = threading.Event(), list[int]()

    def work(item: int) -> None:
        if item == 0:
            failed.set()
            raise SnapshotDamaged("damaged")
        failed.wait()
        begun.append(item)

    with pytest.raises(SnapshotDamaged):
        files.each(work, range(100_000), 2, here=lambda item, _seconds: item > 0)
    assert len(begun) < 50_000
