"""Saved copies of artifacts and the restore journal, next to a folder and in a bucket."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import Configuration, RepositoryFailed
from mlflow_ae5_server.restore.open import open_saved_copies
from mlflow_ae5_server.restore.saved_copies import FolderSavedCopies, SavedCopies

NAME = "saved_20261123_001122_ab12cd"
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

    def move_partly(self, name: str) -> None:
        """Leave the files as a killed move to `name` does."""
        copy = self.root.with_name(f"{self.root.name}.{name}")
        copy.mkdir()
        (self.root / "0").rename(copy / "0")


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

    def move_partly(self, name: str) -> None:
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
    return open_saved_copies(destination.url)


def test_artifacts_are_saved_brought_back_and_dropped(destination: Folder | Bucket) -> None:
    copies = filled(destination)
    found = copies.contents()
    assert found is not None
    assert (found.files, found.bytes, found.more) == (4, 1002, False)
    copies.save(NAME)
    assert (copies.contents(), copies.exists(NAME)) == (None, True)
    assert destination.files(f".{NAME}") == FILES
    copies.save(NAME)  # nothing left to do
    copies.bring_back(NAME)
    assert (destination.files(), copies.exists(NAME)) == (FILES, False)
    copies.bring_back(NAME)
    assert destination.files() == FILES
    copies.save(NAME)
    destination.put("0/a", b"")
    copies.drop(NAME)
    copies.drop(NAME)
    assert (copies.exists(NAME), destination.files()) == (False, {"0/a": b""})


def test_an_interrupted_move_is_finished(destination: Folder | Bucket) -> None:
    copies = filled(destination)
    destination.move_partly(NAME)
    assert copies.contents() is not None
    copies.save(NAME)
    assert copies.contents() is None
    assert destination.files(f".{NAME}") == FILES


def test_the_journal_is_no_artifact_and_is_not_moved(destination: Folder | Bucket) -> None:
    copies = open_saved_copies(destination.url)
    assert (copies.contents(), copies.read_journal()) == (None, None)
    copies.write_journal(b"one")
    copies.write_journal(b"two")
    assert copies.contents() is None
    destination.put("0/a", b"")
    copies.save(NAME)
    assert copies.read_journal() == b"two"
    copies.write_journal(None)
    copies.write_journal(None)
    assert copies.read_journal() is None


def test_a_copy_is_not_mixed_with_other_files(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    copies = filled(folder)
    copies.save(NAME)
    folder.put("0/run/new", b"new")
    with pytest.raises(RepositoryFailed, match="both hold files"):
        copies.bring_back(NAME)
    assert folder.files() == {"0/run/new": b"new"}
    assert folder.files(f".{NAME}") == FILES


def test_the_files_are_inside_where_nothing_can_be_next_to_the_folder(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    filled(folder)
    copies = FolderSavedCopies(folder.root, inside=True)
    copies.write_journal(b"one")
    copies.save(NAME)
    copies.save(NAME)
    assert copies.contents() is None
    assert [path.name for path in tmp_path.iterdir()] == ["artifacts"]
    assert {path.name for path in folder.root.iterdir()} == {".mlflow-ae5-restore.json", f".mlflow-ae5-{NAME}"}
    copies.bring_back(NAME)
    copies.write_journal(None)
    assert folder.files() == FILES


def test_a_link_to_the_artifacts_stays_one(tmp_path: Path) -> None:
    real = Folder(tmp_path / "volume")
    filled(real)
    (tmp_path / "artifacts").symlink_to(real.root)
    copies = open_saved_copies(str(tmp_path / "artifacts"))
    copies.save(NAME)
    assert (tmp_path / "artifacts").is_symlink()
    assert real.files(f".{NAME}") == FILES  # on the volume, not next to the link


def test_another_kind_of_destination_is_refused() -> None:
    with pytest.raises(Configuration, match="ftp://host"):
        open_saved_copies("ftp://host/path")
