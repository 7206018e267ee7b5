"""Object stores with names that are no file's: markers of folders, and names that nobody can address."""

import dataclasses
import uuid

import pytest
from mlflow_ae5_server.repository.repository import open_repository

from tests.project_template.repository.test_object_stores import s3
from tests.project_template.restore.conftest import Home, pilot

__all__ = ["pilot", "s3"]

boto3 = pytest.importorskip("boto3")
FILES = {"1/r/artifacts/a": b"a", "1/r/artifacts/empty": b"", "2/z": b"z"}
MARKERS = ("", "1/", "1/r/artifacts/", "2/", "alone/")
FULL = {"1/r/artifacts/full/": b"content"}
BAD = {"1/r/artifacts/./x": b"x", "1/r/artifacts//y": b"y", "1/q/artifacts/../z": b"z", "1/r/bell\x07": b"b"}


class Bucket:
    def __init__(self, client, scheme):
        self.client = client
        self.name = uuid.uuid4().hex
        self.client.create_bucket(Bucket=self.name)
        self.url = f"{scheme}://{self.name}"

    def put(self, below, *files):
        for name, data in ((name, data) for some in files for name, data in some.items()):
            self.client.put_object(Bucket=self.name, Key=f"{below}/{name}", Body=data)

    def keys(self):
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=self.name).get("Contents", ())]

    def files(self, below):
        """Without markers."""
        return {
            key.removeprefix(f"{below}/"): data
            for key in self.keys()
            if key.startswith(f"{below}/")
            and ((data := self.client.get_object(Bucket=self.name, Key=key)["Body"].read()) or not key.endswith("/"))
        }


@pytest.fixture(params=["s3", "gs"])
def bucket(s3, request):
    return Bucket(s3, request.param)


@pytest.fixture
def on_s3(s3):
    return Bucket(s3, "s3")


def markers():
    return dict.fromkeys(MARKERS, b"")


def home_of(pilot, bucket):
    """The pilot's database; artifacts and backups in the bucket."""
    return dataclasses.replace(pilot.home, destination=f"{bucket.url}/root", backups=f"{bucket.url}/backups")


def back_up(home):
    """As the job reports it."""
    return home.job("backup", "create")


def contents(home):
    repository = open_repository(home.backups)
    reader = repository.reader()
    return {entry.path: b"".join(map(bytes, reader.chunks(entry))) for entry in repository.files(repository.snapshot())}


def test_markers_are_no_artifacts(pilot, bucket):
    home = home_of(pilot, bucket)
    bucket.put("root", FILES, markers())
    bucket.put("backups", {"": b"", "objects/": b"", "lock/": b"", "snapshots/": b""})
    report = back_up(home)
    assert (report["exit_code"], report["artifacts"], report["unreadable"]) == (0, len(FILES), [])
    assert report["in_flight"]["vanished_files"] == 0
    assert contents(home) == FILES
    bucket.put("backups", {"objects/ab/": b"", "tmp/": b"", "verified/": b""})
    assert home.job("backup", "verify")["exit_code"] == 0
    again = back_up(home)
    assert (again["exit_code"], again["new_objects"]) == (0, 0)
    assert home.job("backup", "prune", "--keep-last", "1", "--yes")["exit_code"] == 0


def test_a_restore_into_a_bucket_with_markers(pilot, bucket, tmp_path):
    bucket.put("root", FILES)
    back_up(home_of(pilot, bucket))
    bucket.put("target", markers())
    home = Home.at(tmp_path / "home", f"{bucket.url}/backups", "", f"{bucket.url}/target")
    home.restore()
    assert bucket.files("target") == FILES
    if bucket.url.startswith("gs:"):
        return  # moto does not copy for Google's client
    bucket.put("target", {"3/new": b"new", "1/r/": b"", "3/": b""})
    assert home.restore("--replace", "--dry-run")["would_refuse"] == []
    kept = home.restore("--replace")["saved_copy"]
    assert bucket.files("target") == FILES
    assert bucket.files(f"target.{kept}") == {**FILES, "3/new": b"new"}
    bucket.put(f"target.{kept}", markers())
    home.restore("--undo")
    assert bucket.files("target") == {**FILES, "3/new": b"new"}


@pytest.mark.parametrize("bad", [FULL, *({name: data} for name, data in BAD.items()), {**FULL, **BAD}], ids=str)
def test_names_that_cannot_be_backed_up_are_named_and_the_rest_is_backed_up(pilot, on_s3, bad):
    home = home_of(pilot, on_s3)
    on_s3.put("root", FILES, bad)
    report = back_up(home)
    assert (report["exit_code"], report["outcome"], contents(home)) == (23, "incomplete", FILES)
    reported = [name.rpartition(": its name")[0] for name in report["unreadable"]]
    assert sorted(reported) == sorted(name.replace("\x07", "\\x07") for name in bad)


def test_in_other_stores_the_folder_of_such_a_name_is_named(pilot, s3):
    bucket = Bucket(s3, "gs")
    home = home_of(pilot, bucket)
    bucket.put("root", FILES, FULL, {"1/r/./x": b"x", "3/later": b"later"})
    report = back_up(home)
    assert (report["exit_code"], contents(home)) == (23, {"2/z": b"z", "3/later": b"later"})
    assert [name.rpartition(": its name")[0] for name in report["unreadable"]] == ["1/r/./"]


def test_a_name_that_cannot_be_addressed_is_saved_and_comes_back(pilot, on_s3, tmp_path):
    on_s3.put("root", FILES)
    back_up(home_of(pilot, on_s3))
    home = Home.at(tmp_path / "home", f"{on_s3.url}/backups", "", f"{on_s3.url}/target")
    home.restore()
    before = {**FILES, **FULL, **BAD}
    on_s3.put("target", FULL, BAD)
    assert home.restore("--replace", "--dry-run")["would_refuse"] == []
    kept = home.restore("--replace")["saved_copy"]
    assert (on_s3.files("target"), on_s3.files(f"target.{kept}")) == (FILES, before)
    home.restore("--undo")
    assert on_s3.files("target") == before
    home.restore("--replace")
    (kept, _again) = sorted(entry["name"] for entry in home.restore("--list-saved")["saved_copies"])
    home.restore("--drop-saved", kept)
    assert on_s3.files(f"target.{kept}") == {}
