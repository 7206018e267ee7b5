"""What a location in the database means, and which ones are refused. Rows of data."""

from __future__ import annotations

import pytest
from mlflow_ae5_server.gc.locations import LOCAL, SERVER, BadLocationError, artifact_folder, parse

RUN = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32

OWN = [
    (f"mlflow-artifacts:/0/{RUN}/artifacts", SERVER, f"0/{RUN}/artifacts"),
    (f"mlflow-artifacts:///0/{RUN}/artifacts/", SERVER, f"0/{RUN}/artifacts"),
    (f"mlflow-artifacts:/{RUN}/artifacts", SERVER, f"{RUN}/artifacts"),
    (f"mlflow-artifacts://Host:80/0/{RUN}/artifacts", f"{SERVER}//host:80", f"0/{RUN}/artifacts"),
    (f"https://h/api/2.0/mlflow-artifacts/artifacts/0/{RUN}/artifacts", f"{SERVER}//h", f"0/{RUN}/artifacts"),
    (f"/data/a b/{RUN}/artifacts", LOCAL, f"data/a b/{RUN}/artifacts"),
    (f"file:///data/a%20b/{RUN}/artifacts", LOCAL, f"data/a b/{RUN}/artifacts"),
    (f"s3://bucket/p/0/{RUN}/artifacts", "s3://bucket", f"p/0/{RUN}/artifacts"),
    (f"s3://bucket/100%/{RUN}/artifacts", "s3://bucket", f"100%/{RUN}/artifacts"),
    (f"abfss://c@a.dfs.core.windows.net/{RUN}/artifacts", "abfss://c@a.dfs.core.windows.net", f"{RUN}/artifacts"),
]


@pytest.mark.parametrize(("uri", "root", "path"), OWN)
def test_the_artifact_folder_of_a_run(uri: str, root: str, path: str) -> None:
    location = artifact_folder(uri, RUN)
    assert (location.root, location.path) == (root, path)


REFUSED = [
    None,
    "",
    "mlflow-artifacts:/",
    "mlflow-artifacts:/0",
    f"mlflow-artifacts:/0/{RUN}",
    f"mlflow-artifacts:/0/{OTHER}/artifacts",
    f"mlflow-artifacts:/0/{RUN}/artifacts/model",
    f"mlflow-artifacts:/0/../{RUN}/artifacts",
    f"mlflow-artifacts:/0/{OTHER}/artifacts/../../{RUN}/artifacts",
    f"mlflow-artifacts:/0/%2e%2e/{RUN}/artifacts",
    f"mlflow-artifacts:/0/%252e%252E/{RUN}/artifacts",
    f"mlflow-artifacts:/0/a%2fb/{RUN}/artifacts",
    f"mlflow-artifacts:/0/a%20b/{RUN}/artifacts",
    f"mlflow-artifacts:/0//{RUN}/artifacts",
    f"mlflow-artifacts:/0/./{RUN}/artifacts",
    f"mlflow-artifacts:/0/..\\x/{RUN}/artifacts",
    f"mlflow-artifacts:/0/a\nb/{RUN}/artifacts",
    f"mlflow-artifacts:/0/{RUN}/artifacts?x=../..",
    f"mlflow-artifacts:/0/{RUN}/artifacts#x",
    f"/data/../etc/{RUN}/artifacts",
    f"/data/%2e%2e/{RUN}/artifacts",
    f"/data/a%2520b/{RUN}/artifacts",
    f"file://elsewhere/data/{RUN}/artifacts",
    f"s3:///0/{RUN}/artifacts",
    f"s3://bucket/%2e%2e/{RUN}/artifacts",
    f"https://h/somewhere/{RUN}/artifacts",
    "/",
    "file:///",
]


@pytest.mark.parametrize("uri", REFUSED)
def test_what_could_lead_elsewhere_is_refused(uri: str | None) -> None:
    with pytest.raises(BadLocationError):
        artifact_folder(uri, RUN)


def test_the_folders_above_a_location() -> None:
    assert [item.path for item in parse("s3://b/x/y/z").ancestors()] == ["x/y/z", "x/y", "x"]
