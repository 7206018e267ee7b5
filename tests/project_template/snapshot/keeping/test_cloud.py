"""Snapshots in S3, and of S3: a moto server on loopback."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.errors import BusyError, ConfigurationError, DamagedError, NoSnapshotError, StorageError
from mlflow_ae5_server.snapshot import artifacts, capture, clouds
from mlflow_ae5_server.snapshot.capture import Wishes
from mlflow_ae5_server.snapshot.contents import object_name
from mlflow_ae5_server.snapshot.manifest import Manifest
from mlflow_ae5_server.snapshot.repository import open_repository

from tests.project_template.snapshot.keeping.conftest import Server, dump, new_server

boto3 = pytest.importorskip("boto3")

FILES = {
    "0/r/artifacts/a": b"hello",
    "0/r/artifacts/empty": b"",
    "0/r/artifacts/space and ünï 100% #?&+": b"x" * 1000,
    "0/r/artifacts/large": os.urandom(artifacts.CHUNK + 5),
    "0/r-1/a": b"sorted before its neighbour",
}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    server_module = pytest.importorskip("moto.server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = server_module.ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "secret-testing-key",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        yield boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
    server.stop()


@pytest.fixture
def on_s3(s3: Any, tmp_path: Path) -> Server:
    """A server that keeps its artifacts in one bucket, and its backups in another."""
    for bucket in (f"{tmp_path.name}-a", f"{tmp_path.name}-b"):
        s3.create_bucket(Bucket=bucket.replace("_", "-")[-60:])
    server = new_server(tmp_path)
    server.place = "s3://" + f"{tmp_path.name}-b".replace("_", "-")[-60:] + "/prefix/backups"
    return server


def source_of(server: Server) -> str:
    return "s3://" + f"{server.folder.name}-a".replace("_", "-")[-60:] + "/store"


def put(s3: Any, server: Server, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        s3.put_object(Bucket=source_of(server)[5:].partition("/")[0], Key=f"store/{name}", Body=data)


def back_up(server: Server) -> Manifest:
    source = artifacts.open_source(source_of(server))
    wishes = Wishes(say=server.says.append)
    return capture.create(server.repository(), server.database, source, source_of(server), dump, wishes)


def test_from_a_bucket_to_a_bucket_and_a_second_time_nothing(s3: Any, on_s3: Server) -> None:
    put(s3, on_s3, FILES)
    first = back_up(on_s3)
    assert on_s3.contents(first) == FILES
    assert on_s3.damage_of(first) == []
    second = back_up(on_s3)
    assert (second.new_objects, second.sequence) == (0, 2)
    put(s3, on_s3, {"0/r/artifacts/a": b"HELLO"})
    third = back_up(on_s3)
    assert on_s3.contents(third)["0/r/artifacts/a"] == b"HELLO"
    assert on_s3.contents(first) == FILES


def test_the_same_verbs_as_in_a_folder(s3: Any, on_s3: Server) -> None:
    on_s3.write("local", os.urandom(300_000))
    first = on_s3.back_up()
    on_s3.write("local", os.urandom(300_000))
    second = on_s3.back_up()
    assert on_s3.job("verify")[0] == 0
    bucket, _, prefix = on_s3.place[5:].partition("/")
    (part,) = on_s3.entries(second)["local"].parts
    key = f"{prefix}/{object_name(part.sha256)}"
    s3.put_object(Bucket=bucket, Key=key, Body=b"rsomething else")
    code, report = on_s3.job("verify")
    assert (code, report["damaged"][0]["object"]) == (DamagedError.exit_code, part.sha256)
    third = on_s3.back_up()
    assert on_s3.damage_of(third) == []
    s3.put_object(Bucket=bucket, Key=f"{prefix}/unfinished/00000009-20200101T000000Z-abcdef.json", Body=b"{}")
    code, done = on_s3.job("prune --keep-last 1 --yes")
    assert (code, done["kept"], done["removed"]) == (0, [third.id], [first.id, second.id])
    code, listed = on_s3.job("list")
    assert ([one["snapshot"] for one in listed["snapshots"]], listed["unfinished"]) == ([third.id], [])
    assert on_s3.damage_of(third) == []


def test_one_writer_at_a_time(s3: Any, on_s3: Server) -> None:
    repository = on_s3.repository()
    with repository.lease("backup") as held, pytest.raises(BusyError), on_s3.repository().lease("prune"):
        pass
    with repository.lease("prune") as again:
        again.check()
    assert again.number > held.number


def test_a_bucket_that_holds_something_else_and_one_that_is_not_there(s3: Any, on_s3: Server) -> None:
    bucket, _, prefix = on_s3.place[5:].partition("/")
    s3.put_object(Bucket=bucket, Key=f"{prefix}/thesis.tex", Body=b"mine")
    with pytest.raises(StorageError, match=r"holds something else: thesis\.tex"):
        on_s3.back_up()
    with pytest.raises(StorageError, match="no place of backups"):
        open_repository(on_s3.place)
    with pytest.raises(NoSnapshotError, match=r"no backup was made in .*/elsewhere yet"):
        open_repository(f"s3://{bucket}/elsewhere")
    on_s3.place = "s3://no-such-bucket/x"
    with pytest.raises(StorageError) as failed:
        on_s3.back_up()
    assert "secret-testing-key" not in str(failed.value)


def test_an_endpoint_that_does_not_answer(s3: Any, on_s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{probe.getsockname()[1]}")
        with pytest.raises(StorageError, match="cannot read s3://"):
            on_s3.back_up()


@pytest.mark.parametrize(
    ("url", "account", "key"),
    [
        ("wasbs://box@account.blob.core.windows.net/a/b", "account", "c2VjcmV0"),
        ("abfss://box@account.dfs.core.windows.net/a/b", "account", "c2VjcmV0"),
        ("az://box/a/b", None, "c2VjcmV0"),
    ],
)
def test_azure_addresses_as_mlflow_writes_them(
    url: str, account: str | None, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING", f"DefaultEndpointsProtocol=https;AccountName=account;AccountKey={key}"
    )
    store: Any = clouds.open_store(url)
    assert store.config["container_name"] == "box"
    assert store.config["account_name"] == "account"
    assert store.prefix == "a/b"


@pytest.mark.parametrize("url", ["s3://", "ftp://x/y", "s3:/x", "dbfs:/x"])
def test_what_is_no_object_store(url: str) -> None:
    with pytest.raises(ConfigurationError):
        clouds.open_store(url)
