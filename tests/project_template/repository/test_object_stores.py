"""Snapshots in S3 and of S3, on moto; the same through the client for Google's store, on the same moto."""

import os
import re
import socket
import threading

import pytest
from mlflow_ae5_server import notify
from mlflow_ae5_server.backup import artifacts
from mlflow_ae5_server.backup.open_artifacts import open_artifacts
from mlflow_ae5_server.common import object_store
from mlflow_ae5_server.common.errors import Configuration, Locked, NoSnapshot, RepositoryFailed, SnapshotDamaged
from mlflow_ae5_server.common.settings import NOTIFY_URLS, resolve
from mlflow_ae5_server.repository.blobs import blob_name
from mlflow_ae5_server.repository.object_store_backend import ObjectStoreBackend
from mlflow_ae5_server.repository.repository import create_repository, open_backend, open_repository
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.project_template.repository.conftest import new_server

boto3 = pytest.importorskip("boto3")

FILES = {
    "0/r/artifacts/a": b"hello",
    "0/r/artifacts/empty": b"",
    "0/r/artifacts/space and ünï 100% #?&+": b"x" * 1000,
    "0/r/artifacts/large": os.urandom(artifacts.CHUNK + 5),
    "0/r-1/a": b"sorted before its neighbour",
}


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    moto = pytest.importorskip("moto.server")
    store = moto.DomainDispatcherApplication(moto.create_backend_app)

    def answer(environ, start):
        """Google's lists and objects are as S3's. Its client says in its own way who it is, and "only if it is new"."""
        if not environ.get("HTTP_AUTHORIZATION", "").startswith("AWS4"):
            environ["HTTP_AUTHORIZATION"] = "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request"
        if environ.get("HTTP_X_GOOG_IF_GENERATION_MATCH") == "0":
            environ["HTTP_IF_NONE_MATCH"] = "*"
        return store(environ, start)

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    port = server.port
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "secret-testing-key",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        yield boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
    server.shutdown()
    thread.join()
    server.server_close()


class Silent(WSGIRequestHandler):
    def log(self, *_what):
        """Not to the tests' output."""


@pytest.fixture
def on_s3(s3, tmp_path, request):
    """A server that keeps its artifacts in one bucket, and its backups in another. Its parameter is the scheme."""
    for letter in "ab":
        s3.create_bucket(Bucket=bucket_of(tmp_path, letter))
    server = new_server(tmp_path)
    server.backend = f"{getattr(request, 'param', 's3')}://{bucket_of(tmp_path, 'b')}/prefix/backups"
    return server


def bucket_of(folder, letter):
    """Without hyphens: Google's client encodes them in a path, and moto would have it otherwise."""
    return re.sub(r"[^a-z0-9]", "", folder.name.lower())[-40:] + letter


def source_of(server):
    return f"{server.backend.partition(':')[0]}://{bucket_of(server.folder, 'a')}/store"


def put(s3, server, files):
    for name, data in files.items():
        s3.put_object(Bucket=source_of(server).split("/")[2], Key=f"store/{name}", Body=data)


def back_up(server):
    return server.back_up(source=open_artifacts(source_of(server)), destination=source_of(server))


BOTH = pytest.mark.parametrize("on_s3", ["s3", "gs"], indirect=True)


@BOTH
def test_from_a_bucket_to_a_bucket_and_a_second_time_nothing(s3, on_s3):
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


@BOTH
def test_all_verbs_work_as_in_a_folder(s3, on_s3):
    on_s3.write("local", os.urandom(300_000))
    first = on_s3.back_up()
    on_s3.write("local", os.urandom(300_000))
    second = on_s3.back_up()
    assert on_s3.job("verify")[0] == 0
    bucket, _, prefix = on_s3.backend.partition("://")[2].partition("/")
    (part,) = on_s3.entries(second)["local"].parts
    key = f"{prefix}/{blob_name(part.sha256)}"
    s3.put_object(Bucket=bucket, Key=key, Body=b"rsomething else")
    code, report = on_s3.job("verify")
    assert (code, report["damaged"][0]["object"]) == (SnapshotDamaged.exit_code, part.sha256)
    third = on_s3.back_up()
    assert on_s3.damage_of(third) == []
    s3.put_object(Bucket=bucket, Key=f"{prefix}/unfinished/00000009-20200101T000000Z-abcdef.json", Body=b"{}")
    code, done = on_s3.job("prune --keep-last 1 --yes")
    assert (code, done["kept"], done["removed"]) == (0, [third.id], [first.id, second.id])
    code, listed = on_s3.job("list")
    assert ([one["snapshot"] for one in listed["snapshots"]], listed["unfinished"]) == ([third.id], [])
    assert on_s3.damage_of(third) == []


@BOTH
def test_one_writer_at_a_time(s3, on_s3):
    repository = on_s3.repository()
    with repository.lock("backup") as held, pytest.raises(Locked), on_s3.repository().lock("prune"):
        pass
    with repository.lock("prune") as again:
        again.check()
    assert again.number > held.number
    backend = open_backend(on_s3.backend)
    assert [backend.create("x", data) for data in (b"1", b"2", b"1")] == [True, False, True]
    assert backend.read("x") == b"1"


def test_a_bucket_with_other_objects_and_a_missing_one_are_refused(s3, on_s3):
    bucket, _, prefix = on_s3.backend.partition("://")[2].partition("/")
    s3.put_object(Bucket=bucket, Key=f"{prefix}/thesis.tex", Body=b"mine")
    with pytest.raises(RepositoryFailed, match=r"contains something else: thesis\.tex"):
        on_s3.back_up()
    with pytest.raises(RepositoryFailed, match="is not a backup repository"):
        open_repository(on_s3.backend)
    with pytest.raises(NoSnapshot, match=r"no backups in .*/elsewhere yet"):
        open_repository(f"s3://{bucket}/elsewhere")
    on_s3.backend = "s3://no-such-bucket/x"
    with pytest.raises(RepositoryFailed) as failed:
        on_s3.back_up()
    assert "secret-testing-key" not in str(failed.value)
    with pytest.raises(RepositoryFailed) as failed:
        list(open_backend(on_s3.backend).items("x"))
    assert ("(NoSuchBucket)" in failed.value.message, failed.value.hint) == (
        True,
        "does the bucket or container exist?",
    )


def test_an_endpoint_that_does_not_answer(s3, on_s3, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{probe.getsockname()[1]}")
        with pytest.raises(RepositoryFailed, match="cannot read s3://"):
            on_s3.back_up()


PUBLIC = "https://account.blob.core.windows.net"
KEY = "DefaultEndpointsProtocol=https;AccountName=account;AccountKey=c2VjcmV0"


@pytest.mark.parametrize(
    ("url", "connection", "endpoint"),
    [
        ("wasbs://box@account.blob.core.windows.net/a/b", "", PUBLIC),
        ("abfss://box@account.dfs.core.windows.net/a/b", "", PUBLIC),
        ("abfss://box@account.dfs.core.chinacloudapi.cn/a/b", "", "https://account.blob.core.chinacloudapi.cn"),
        ("az://box/a/b", KEY, None),
        ("wasbs://box@another.blob.core.windows.net/a/b", KEY, None),
        ("az://box/a/b", f"{KEY};EndpointSuffix=core.usgovcloudapi.net", "https://account.blob.core.usgovcloudapi.net"),
        ("az://box/a/b", f"BlobEndpoint={PUBLIC}/;SharedAccessSignature=sv=1&sig=c2VjcmV0", PUBLIC),
        (
            "az://box/a/b",
            "BlobEndpoint=http://127.0.0.1:1/account/;SharedAccessSignature=sig=x",
            "http://127.0.0.1:1/account",
        ),
    ],
)
def test_azure_addresses_as_mlflow_writes_them(url, connection, endpoint, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
    monkeypatch.setenv("AZURE_STORAGE_ACCESS_KEY", "" if connection else "c2VjcmV0")
    store = object_store.open_store(url)
    assert store.config["container_name"] == "box"
    assert store.config["account_name"] == "account"
    assert store.config.get("endpoint") == endpoint
    assert store.prefix == "a/b"


def test_the_prefix_of_a_url_is_taken_literally_as_mlflow_does():
    store = object_store.open_store("s3://bucket/a%20b/ünï/")
    assert store.prefix == "a%20b/ünï"


def test_a_deleted_name_does_not_stop_the_deletion_of_others(tmp_path):
    """A store of files stops at such a name, as Google's does."""
    obstore = pytest.importorskip("obstore.store")
    backend = ObjectStoreBackend(obstore.LocalStore(tmp_path), "files")
    for name in "abc":
        backend.write(name, b"x")
    backend.delete(["absent", "a", "absent, too", "b"])
    assert [item.name for item in backend.items("")] == ["c"]


@pytest.mark.parametrize(
    "url",
    [
        "s3://PLANTED-USER:planted-password@bucket/prefix",
        "s3://PLANTED-USER:planted/pass@word@bucket/prefix",
        "S3://planted-password@bucket",
        "gs://:planted-password@bucket",
        "abfss://box:planted-password@account.dfs.core.windows.net/a",
    ],
)
def test_an_address_with_a_login_is_refused_and_never_repeated(url):
    with pytest.raises(Configuration, match="contains a user name or password") as refused:
        object_store.open_store(url)
    assert "planted" not in str(refused.value).lower()


@pytest.mark.parametrize("url", ["s3://", "ftp://x/y", "s3:/x", "dbfs:/x"])
def test_other_addresses_are_no_object_store(url):
    with pytest.raises(Configuration):
        object_store.open_store(url)


def test_where_no_store_is_on_this_machine_the_repository_knows_which_failures_were_notified(on_s3, s3, tmp_path):
    environ = {
        "MLFLOW_BACKEND_STORE_URI": "postgresql://u@h/d",
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{bucket_of(tmp_path, 'a')}/artifacts",
        "MLFLOW_TRACKING_BACKUP_DESTINATION": on_s3.backend,
        NOTIFY_URLS: "json://127.0.0.1",
    }
    failed = {"command": "GarbageCollection", "outcome": "failed", "exit_code": 1, "error": "no", "seconds": 1.0}
    create_repository(open_backend(on_s3.backend))
    sent = []
    for report in (failed, failed, {**failed, "outcome": "done", "exit_code": 0}, failed):
        notify.about(resolve(environ, {}, {}), report, lambda _urls, title, _text: sent.append(title) or [""])

    assert sent == [f"MLflow: garbage collection {word}" for word in ("failed", "works again", "failed")]
    assert on_s3.repository().snapshots() == []
