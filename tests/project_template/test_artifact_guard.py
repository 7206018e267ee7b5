"""The restore journal and saved copies in an artifact folder are out of reach for every client of the server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.server import artifact_guard

from tests.project_template.restore.conftest import tree

pytestmark = pytest.mark.slow

JOURNAL, COPY = ".mlflow-ae5-restore.json", ".mlflow-ae5-kept_20260101_000000_abcdef"
ARTIFACTS, UPLOADS = "mlflow-artifacts/artifacts", "mlflow-artifacts/mpu"
SPELLINGS = [
    JOURNAL,
    f"./{JOURNAL}",
    f".//{JOURNAL}",
    f"%2e/{JOURNAL}",
    "%2Emlflow-ae5-restore.json",
    "%252Emlflow-ae5-restore.json",
    "%25252emlflow%252dae5-restore.json",
    f"{JOURNAL}/",
    f"{COPY}/1/a",
    f"./{COPY}//1/./a",
    f"{COPY}/new",
    ".mlflow-ae5-another",
    ".mlflow-ae5-gc2",
]


@pytest.fixture(scope="module")
def folder(on_sqlite: Any) -> Iterator[Path]:
    """The artifact destination with what a restore keeps in one that is a mounted volume."""
    found: Path = on_sqlite.project.folder / "data/mlflow/standalone/artifacts"
    assert found.is_dir()
    (found / JOURNAL).write_text("{}")
    (found / COPY / "1").mkdir(parents=True)
    (found / COPY / "1" / "a").write_text("precious")
    yield found
    (found / JOURNAL).unlink()
    (found / COPY / "1" / "a").unlink()
    (found / COPY / "1").rmdir()
    (found / COPY).rmdir()


@pytest.fixture(autouse=True)
def untouched(folder: Path) -> Iterator[None]:
    before = reserved(folder)
    yield
    assert reserved(folder) == before


def reserved(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in tree(folder).items() if name.startswith((JOURNAL, COPY))}


def call(on_sqlite: Any, method: str, path: str, **arguments: Any) -> tuple[int, str]:
    """The status and the answer to exactly this path."""
    import requests

    server = on_sqlite.server
    request = requests.Request(method, server.uri, headers=server.headers, **arguments).prepare()
    query = request.url.partition("?")[2] if request.url else ""
    request.url = f"{server.uri}{path}" + (f"?{query}" if query else "")
    with requests.Session() as session:
        answer = session.send(request, timeout=20)
    return answer.status_code, answer.text


@pytest.mark.parametrize("api", ["api", "ajax-api"])
@pytest.mark.parametrize("path", SPELLINGS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_no_method_reaches_them(on_sqlite: Any, method: str, path: str, api: str) -> None:
    status, text = call(on_sqlite, method, f"/{api}/2.0/{ARTIFACTS}/{path}", data=b"x" if method == "PUT" else None)
    assert status in {403, 405} or (status == 400 and "filename" in text), text
    assert "precious" not in text


@pytest.mark.parametrize("path", SPELLINGS)
@pytest.mark.parametrize("how", ["create", "complete", "abort"])
def test_no_upload_in_parts_reaches_them(on_sqlite: Any, how: str, path: str) -> None:
    body = {"path": JOURNAL, "num_parts": 1, "upload_id": "x", "parts": [{"part_number": 1, "etag": "x"}]}
    status, _text = call(on_sqlite, "POST", f"/api/2.0/{UPLOADS}/{how}/{path}", json=body)
    assert status in {403, 501}  # a folder takes none


@pytest.mark.parametrize("path", ["", ".", "./", "%2e"])
def test_the_list_of_the_top_does_not_show_them(on_sqlite: Any, path: str) -> None:
    on_sqlite.server.new_run()
    status, text = call(on_sqlite, "GET", f"/api/2.0/{ARTIFACTS}", params={"path": path} if path else {})
    assert status == 200
    assert "0" in [entry["path"] for entry in json.loads(text)["files"]]
    assert "mlflow-ae5" not in text


@pytest.mark.parametrize("path", [COPY, f"./{COPY}", f"{COPY}/1", "%2Emlflow-ae5-kept_20260101_000000_abcdef"])
def test_they_cannot_be_listed(on_sqlite: Any, path: str) -> None:
    status, text = call(on_sqlite, "GET", f"/api/2.0/{ARTIFACTS}", params={"path": path})
    assert (status, "files" in text) == (403, False)


@pytest.mark.parametrize("path", [".", "./", "x/..", "%2e"])
def test_nobody_deletes_the_top(on_sqlite: Any, path: str) -> None:
    run = on_sqlite.server.new_run()
    status, _text = call(on_sqlite, "DELETE", f"/api/2.0/{ARTIFACTS}/{path}")
    assert status in {400, 403}
    assert on_sqlite.server.artifacts(run) == 1


@pytest.mark.parametrize("location", ["mlflow-artifacts:/{copy}", "{folder}/{copy}", "file://{folder}/./{copy}"])
def test_no_experiment_leads_into_them(on_sqlite: Any, folder: Path, location: str) -> None:
    """A run's artifacts are in the folder that its experiment names."""
    server, location = on_sqlite.server, location.format(copy=COPY, folder=folder)
    experiment = server.api("experiments/create", name=location, artifact_location=location)["experiment_id"]
    run = server.api("runs/create", experiment_id=experiment)["run"]["info"]
    for method, path in (
        ("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run['run_id']}&path=a"),
        ("GET", f"/get-artifact?run_uuid={run['run_id']}&path=a"),
        ("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run['run_id']}&path=a"),
    ):
        status, _text = call(on_sqlite, method, path, data=b"x" if method == "POST" else None)
        assert status == 403 or (method == "POST" and location.startswith("mlflow-artifacts:"))


@pytest.mark.parametrize("location", ["{folder}.restore.json", "file://{folder}/../elsewhere", "{folder}/../../../x"])
def test_nothing_is_written_outside_of_the_destination(on_sqlite: Any, folder: Path, location: str) -> None:
    """Such as where the restore journal belongs, or among the backups."""
    server, location = on_sqlite.server, location.format(folder=folder)
    experiment = server.api("experiments/create", name=location, artifact_location=location)["experiment_id"]
    run = server.api("runs/create", experiment_id=experiment)["run"]["info"]
    path = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run['run_id']}&path=a"
    status, text = call(on_sqlite, "POST", path, data=b"x")
    assert (status, "outside of the server's artifact destination" in text) == (403, True)
    assert not Path(location.removeprefix("file://")).exists()
    status, _text = call(on_sqlite, "GET", f"/api/2.0/mlflow/artifacts/list?run_id={run['run_id']}")
    assert status == 200, "what is there from before can be seen"


def test_a_garbage_collection_keeps_its_sealed_journal_through_the_server(on_sqlite: Any) -> None:
    path = f"/api/2.0/{ARTIFACTS}/.mlflow-ae5-gc/1.json"
    assert on_sqlite.server.call("PUT", path, data=b"x").status_code == 200
    assert "1.json" in call(on_sqlite, "GET", f"/api/2.0/{ARTIFACTS}", params={"path": ".mlflow-ae5-gc"})[1]
    assert on_sqlite.server.call("DELETE", path).status_code == 200


def test_a_name_like_theirs_further_down_is_anybodys(on_sqlite: Any) -> None:
    path = f"/api/2.0/{ARTIFACTS}/0/{JOURNAL}"
    assert on_sqlite.server.call("PUT", path, data=b"x").status_code == 200
    assert on_sqlite.server.call("GET", path).text == "x"


class PartsStore:
    """An object store as MLflow opens one, which takes uploads in parts. It notes what it was asked for."""

    def __init__(self) -> None:
        self.requests: list[str] = []

    def create_multipart_upload(self, local_file: str, num_parts: int, artifact_path: str | None = None) -> None:
        self.requests.append(f"{artifact_path}/{local_file}/{num_parts}")

    def get_download_presigned_url(self, artifact_path: str, expiration: int = 300) -> None:
        self.requests.append(f"{artifact_path}/{expiration}")


@pytest.mark.parametrize(
    ("uri", "file", "within", "allowed"),
    [
        ("s3://bucket", JOURNAL, None, False),
        ("s3://bucket/", JOURNAL, ".", False),
        ("s3://bucket", f"x/{JOURNAL}", "", False),
        ("s3://bucket", "a", COPY, False),
        ("s3://bucket", "a", f"./{COPY}/1", False),
        (f"s3://bucket/{COPY}", "a", "1", False),
        (f"s3://bucket/1/{COPY}", "a", "1", True),
        ("s3://bucket", JOURNAL, "1/x/artifacts", True),
        ("s3://another", JOURNAL, None, True),
        ("s3://bucket2", JOURNAL, None, True),
    ],
)
def test_a_bucket_gives_no_address_for_them(uri: str, file: str, within: str | None, allowed: bool) -> None:
    from mlflow.exceptions import MlflowException

    store = PartsStore()
    guarded = artifact_guard.guard(store, uri, "s3://bucket/")
    for call_it in (
        lambda: guarded.create_multipart_upload(file, 2, within),
        lambda: guarded.create_multipart_upload(local_file=file, num_parts=2, artifact_path=within),
        lambda: guarded.get_download_presigned_url(f"{within or '.'}/{file.rpartition('/')[2]}"),
    ):
        store.requests.clear()
        with contextlib.nullcontext() if allowed else pytest.raises(MlflowException, match="reserved"):
            call_it()
        assert bool(store.requests) is allowed
