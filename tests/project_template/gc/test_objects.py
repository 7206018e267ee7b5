"""Artifacts in S3, on moto: collected directly, with the journal in the bucket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from mlflow_ae5_server.gc.bucket_store import BucketStore
from mlflow_ae5_server.gc.stores import JOURNAL, StoredSize, StoreError

from tests.project_template.gc.conftest import LONG_AGO, Data

pytest.importorskip("obstore")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    import boto3

    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
    }.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{abs(hash(request.node.name)) % 10**8}"
    found = boto3.resource("s3", endpoint_url=endpoint).Bucket(name)
    found.create()
    return found


def put(bucket: Any, *keys: str) -> None:
    for key in keys:
        bucket.put_object(Key=key, Body=b"12345")


def keys(bucket: Any) -> set[str]:
    return {item.key for item in bucket.objects.all()}


@pytest.mark.parametrize("data", ["postgresql"], indirect=True)  # whose journal is in the bucket as well
def test_runs_of_the_server_and_of_the_bucket_itself(data: Data, bucket: Any) -> None:
    proxied = [data.run(file=False) for _ in range(3)]
    direct = data.run(uri=f"s3://{bucket.name}/own/RUN/artifacts")
    kept = data.run(deleted=None, file=False)
    put(bucket, *(f"root/0/{run}/artifacts/a b/ü.txt" for run in (*proxied, kept)), f"own/{direct}/artifacts/x")
    put(bucket, f"root/0/{proxied[0]}/artifacts-of-another/x")
    destination = {"MLFLOW_ARTIFACTS_DESTINATION": f"s3://{bucket.name}/root"}

    dry = data.collect(dry_run=True, **destination)
    assert (dry["runs"], dry["bytes"]) == ({"due": 4}, 20)
    fields = data.collect(**destination)

    assert (fields["exit_code"], fields["runs"]["removed"], fields["bytes"]) == (0, 4, 20)
    assert data.column("SELECT run_uuid FROM runs") == [kept]
    assert keys(bucket) == {f"root/0/{kept}/artifacts/a b/ü.txt", f"root/0/{proxied[0]}/artifacts-of-another/x"}


@pytest.mark.parametrize("data", ["postgresql"], indirect=True)  # whose journal is in the bucket as well
def test_what_a_crash_has_left_in_the_bucket_is_removed_the_next_time(data: Data, bucket: Any) -> None:
    class KilledError(BaseException):
        pass

    def kill(name: str) -> None:
        if name == "rows deleted":
            raise KilledError

    run, kept = data.run(file=False), data.run(deleted=None, file=False)
    put(bucket, f"0/{run}/artifacts/a", f"0/{kept}/artifacts/a")
    destination = {"MLFLOW_ARTIFACTS_DESTINATION": f"s3://{bucket.name}"}
    with pytest.raises(KilledError):
        data.collect(step=kill, **destination)
    assert data.column("SELECT run_uuid FROM runs") == [kept]
    assert f"0/{run}/artifacts/a" in keys(bucket)
    fields = data.collect(**destination)
    assert (fields["exit_code"], fields["finished"]) == (0, 1)
    assert keys(bucket) == {f"0/{kept}/artifacts/a"}


def test_orphans_in_a_bucket(on_file: Data, bucket: Any) -> None:
    kept = on_file.run(deleted=None, file=False)
    put(bucket, f"0/{kept}/artifacts/a", f"0/{'e' * 32}/artifacts/a", f"0/models/m-{'d' * 32}/artifacts/a")
    given = {"MLFLOW_ARTIFACTS_DESTINATION": f"s3://{bucket.name}", "MLFLOW_TRACKING_GC_ORPHANS": "remove-all"}
    young = on_file.collect(**given)
    assert (young["orphans"]["folders"], young["orphans"]["recent"]) == (2, 2)
    removed = on_file.collect(MLFLOW_TRACKING_GC_TTL="0s", **given)
    assert (removed["orphans"]["removed"], removed["orphans"]["removed_bytes"]) == (2, 10)
    assert keys(bucket) == {f"0/{kept}/artifacts/a"}


def test_more_keys_than_one_request_takes(bucket: Any) -> None:
    store = BucketStore.open(f"s3://{bucket.name}/p", at_once=3)
    put(bucket, *(f"p/r/artifacts/{number}" for number in range(10)), "p/other", f"p/{JOURNAL}/x")
    assert store.size("r/artifacts") == StoredSize(10, 50)
    assert store.top() == {"r", "other"}
    store.remove("r/artifacts")
    assert store.size("r/artifacts") is None
    assert keys(bucket) == {"p/other", f"p/{JOURNAL}/x"}


def test_a_missing_bucket_is_reported(on_file: Data, bucket: Any) -> None:
    with pytest.raises(StoreError, match="cannot be listed"):
        BucketStore.open(f"s3://{bucket.name}-gone").size("x")
    good = on_file.run()
    bad = on_file.run(uri=f"s3://{bucket.name}-gone/RUN/artifacts")
    fields = on_file.collect()
    assert (fields["exit_code"], on_file.column("SELECT run_uuid FROM runs")) == (23, [bad])
    assert not on_file.has_files(good)


def test_experiments_in_a_bucket_of_their_own(on_file: Data, bucket: Any) -> None:
    number = on_file.experiment(deleted=LONG_AGO, location=f"s3://{bucket.name}/theirs")
    run = on_file.run(number, uri=f"s3://{bucket.name}/theirs/RUN/artifacts")
    put(bucket, f"theirs/{run}/artifacts/a")
    fields = on_file.collect()
    assert (fields["exit_code"], fields["experiments"]["removed"], keys(bucket)) == (0, 1, set())


@pytest.mark.parametrize("data", ["sqlite"], indirect=True)
def test_markers_go_with_their_folder_and_odd_names_with_their_run(data: Data, bucket: Any) -> None:
    due, empty = data.run(file=False), data.run(file=False)
    kept = data.run(deleted=None, file=False)
    files = [f"root/0/{run}/artifacts/{name}" for run in (due, kept) for name in ("a", "./x", "b//y", "full/")]
    put(bucket, *files)
    folders = [
        "root/",
        "root/0/",
        *(f"root/0/{run}/{name}" for run in (due, kept, empty) for name in ("", "artifacts/")),
    ]
    for name in folders:
        bucket.put_object(Key=name, Body=b"")
    destination = {"MLFLOW_ARTIFACTS_DESTINATION": f"s3://{bucket.name}/root"}

    assert data.collect(dry_run=True, **destination)["bytes"] == 4 * 5
    fields = data.collect(**destination)

    assert (fields["exit_code"], fields["runs"]["removed"], fields["bytes"]) == (0, 2, 20)
    assert {name for name in keys(bucket) if due in name} == set()
    assert {name for name in keys(bucket) if kept in name and not name.endswith("/artifacts/")} >= {
        name for name in files if kept in name
    }
