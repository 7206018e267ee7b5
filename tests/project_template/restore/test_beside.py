"""What a restore keeps beside the artifacts: moved away and back whole, also by somebody who was killed in between."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import ConfigurationError, DamagedError, StorageError
from mlflow_ae5_server.restore import journal
from mlflow_ae5_server.restore.journal import RestoreInProgress, RestoreJournal, RestoreJournalFile, SavedCopy
from mlflow_ae5_server.restore.open_saved_copies import beside
from mlflow_ae5_server.restore.saved_copies import FolderSavedCopies, SavedCopies

NAME = "kept_20261123_001122_ab12cd"
FILES = {"0/run/artifacts/a.txt": b"a", "0/run/artifacts/empty": b"", "1/ü b/c": b"c" * 1000, "models/m/x": b"x"}


class Folder:
    def __init__(self, root: Path) -> None:
        self.url = str(root / "artifacts")
        self.root = root / "artifacts"

    def put(self, path: str, data: bytes) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)

    def files(self, suffix: str = "") -> dict[str, bytes]:
        root = self.root.with_name(self.root.name + suffix)
        return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}

    def half_moved(self, name: str) -> None:
        """As a move to `name` leaves it that is killed half-way."""
        kept = self.root.with_name(f"{self.root.name}.{name}")
        kept.mkdir()
        (self.root / "0").rename(kept / "0")


class Bucket:
    def __init__(self, url: str, prefix: str, client: Any) -> None:
        self.url = f"{url}/{prefix}" if prefix else url
        self.name, self.prefix, self.client = url.removeprefix("s3://"), prefix, client

    def put(self, path: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=f"{self.prefix}/{path}".lstrip("/"), Body=data)

    def files(self, suffix: str = "") -> dict[str, bytes]:
        start = f"{self.prefix}{suffix}/" if self.prefix else f".mlflow-ae5-{suffix[1:]}/" if suffix else ""
        keys = [e["Key"] for e in self.client.list_objects_v2(Bucket=self.name, Prefix=start).get("Contents", [])]
        return {
            key[len(start) :]: self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
            for key in keys
            if start or not key.startswith(".mlflow-ae5-")
        }

    def half_moved(self, name: str) -> None:
        target = f"{self.prefix}.{name}" if self.prefix else f".mlflow-ae5-{name}"
        self.client.put_object(
            Bucket=self.name, Key=f"{target}/0/run/artifacts/a.txt", Body=b"a"
        )  # copied, not deleted
        self.client.put_object(Bucket=self.name, Key=f"{target}/models/m/x", Body=b"x")  # copied and deleted
        self.client.delete_object(Bucket=self.name, Key=f"{self.prefix}/models/m/x".lstrip("/"))


@pytest.fixture(params=["folder", "prefix", "whole bucket"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Folder | Bucket:
    if request.param == "folder":
        return Folder(tmp_path)
    make: Callable[[str], str] = request.getfixturevalue("bucket")
    import boto3

    client = boto3.client("s3", endpoint_url=request.getfixturevalue("s3_server"), region_name="us-east-1")
    return Bucket(make(f"b{uuid.uuid4().hex}"), "deep/artifacts" if request.param == "prefix" else "", client)


def filled(destination: Folder | Bucket) -> SavedCopies:
    for path, data in FILES.items():
        destination.put(path, data)
    return beside(destination.url)


def test_there_and_back(destination: Folder | Bucket) -> None:
    place = filled(destination)
    found = place.contents()
    assert found is not None
    assert (found.files, found.bytes, found.more) == (4, 1002, False)
    place.aside(NAME)
    assert (place.contents(), place.kept(NAME)) == (None, True)
    assert destination.files(f".{NAME}") == FILES
    place.aside(NAME)  # nothing left to do
    place.back(NAME)
    assert (destination.files(), place.kept(NAME)) == (FILES, False)
    place.back(NAME)
    assert destination.files() == FILES
    place.aside(NAME)
    destination.put("0/a", b"")
    place.drop(NAME)
    place.drop(NAME)
    assert (place.kept(NAME), destination.files()) == (False, {"0/a": b""})


def test_a_move_that_was_cut_off_is_finished(destination: Folder | Bucket) -> None:
    place = filled(destination)
    destination.half_moved(NAME)
    assert place.contents() is not None
    place.aside(NAME)
    assert place.contents() is None
    assert destination.files(f".{NAME}") == FILES


def test_the_ledger_is_neither_artifact_nor_moved(destination: Folder | Bucket) -> None:
    place = beside(destination.url)
    assert (place.contents(), place.read_journal()) == (None, None)
    place.write_journal(b"one")
    place.write_journal(b"two")
    assert place.contents() is None
    destination.put("0/a", b"")
    place.aside(NAME)
    assert place.read_journal() == b"two"
    place.write_journal(None)
    place.write_journal(None)
    assert place.read_journal() is None


def test_back_does_not_mix(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    place = filled(folder)
    place.aside(NAME)
    folder.put("0/run/new", b"new")
    with pytest.raises(StorageError, match="both hold files"):
        place.back(NAME)
    assert folder.files() == {"0/run/new": b"new"}
    assert folder.files(f".{NAME}") == FILES


def test_inside_where_nothing_can_be_put_beside(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    filled(folder)
    place = FolderSavedCopies(folder.root, inside=True)
    place.write_journal(b"one")
    place.aside(NAME)
    place.aside(NAME)
    assert place.contents() is None
    assert [path.name for path in tmp_path.iterdir()] == ["artifacts"]
    assert {path.name for path in folder.root.iterdir()} == {".mlflow-ae5-restore.json", f".mlflow-ae5-{NAME}"}
    place.back(NAME)
    place.write_journal(None)
    assert folder.files() == FILES


def test_a_link_to_the_artifacts_stays_one(tmp_path: Path) -> None:
    real = Folder(tmp_path / "volume")
    filled(real)
    (tmp_path / "artifacts").symlink_to(real.root)
    place = beside(str(tmp_path / "artifacts"))
    place.aside(NAME)
    assert (tmp_path / "artifacts").is_symlink()
    assert real.files(f".{NAME}") == FILES  # on the volume, not beside the link


def test_no_such_kind_of_place() -> None:
    with pytest.raises(ConfigurationError, match="ftp://host"):
        beside("ftp://host/path")


# The ledger's contents


def test_the_ledger_remembers(tmp_path: Path) -> None:
    url = str(tmp_path / "artifacts")
    journal_file = RestoreJournalFile(beside(url))
    assert (journal_file.running, journal_file.last_kept(), journal.unfinished(url)) == (None, None, None)
    name = journal.new_name("kept")
    running = RestoreInProgress("save-database", "20261123T001122Z-abcdef", journal.now(), "here:1", name, name)
    journal_file.begin(running, SavedCopy(name, running.snapshot, running.started, database=True, artifacts=False))
    journal_file.turn("artifacts")

    again = RestoreJournalFile(beside(url))
    assert again.restore_journal == journal_file.restore_journal
    assert again.running is not None
    assert again.running.phase == "artifacts"
    assert "here:1" in (journal.unfinished(url) or "")
    again.end()
    assert journal.unfinished(url) is None
    undone = journal.new_name("undone")
    again.keep(SavedCopy(undone, running.snapshot, running.started, database=True, artifacts=True))
    found = RestoreJournalFile(beside(url)).last_kept()
    assert found == journal_file.kept(name)  # not what an undo has put aside
    again.end(forget=name)
    assert again.last_kept() is None
    again.end(forget=undone)
    assert not (tmp_path / "artifacts.restore.json").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"format": 2}',
        b'{"format": 1, "running": null, "kept": [{"name": "../x", "snapshot": "s", "time": "t"}]}',
        b'{"format": 1, "running": null, "kept": [{"name": "kept_1"}]}',
        b'{"format": 1, "running": {"phase": "x", "snapshot": "s", "started": "t", "who": "w"}, "kept": []}',
    ],
)
def test_a_ledger_that_is_none(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "artifacts.restore.json").write_bytes(data)
    with pytest.raises(DamagedError, match="restore journal of"):
        RestoreJournalFile(beside(str(tmp_path / "artifacts")))


def test_a_ledger_reads_what_it_writes() -> None:
    running = RestoreInProgress("undo-artifacts", "s", "t", "w", NAME.replace("kept", "undone"), NAME)
    restore_journal = RestoreJournal(running, (SavedCopy(NAME, "s", "t", database=True, artifacts=False),))
    assert RestoreJournal.from_bytes(restore_journal.to_bytes(), "here") == restore_journal
