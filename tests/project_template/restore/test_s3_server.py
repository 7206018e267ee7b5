"""A server whose artifacts are on S3: large files go there in parts and come back by presigned addresses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.project_template.conftest import Project, Server

pytestmark = pytest.mark.slow

MEGABYTE = 1024 * 1024
CLIENT = """
import hashlib, os, sys
import mlflow
file, experiment = sys.argv[1:]
client = mlflow.MlflowClient()
run = client.create_run(experiment).info.run_id
client.log_artifact(run, file)
back = client.download_artifacts(run, os.path.basename(file), os.getcwd())
assert hashlib.sha256(open(back, "rb").read()).digest() == hashlib.sha256(open(file, "rb").read()).digest()
print(run)
"""
IN_PARTS = {
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "true",
    "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": str(6 * MEGABYTE),
    "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": str(5 * MEGABYTE),
    "MLFLOW_MULTIPART_DOWNLOAD_MINIMUM_FILE_SIZE": str(6 * MEGABYTE),
    "MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE": str(5 * MEGABYTE),
}


def test_large_files_go_to_s3_in_parts_and_come_back_from_backups(
    bucket: Callable[[str], str], s3_server: str, postgres: Any, tmp_path: Path
) -> None:
    import boto3

    project = Project(tmp_path)
    project.secret("MLFLOW_ARTIFACTS_DESTINATION", bucket("in-parts") + "/artifacts")
    for name in ("MLFLOW_S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        project.secret(name, os.environ[name])
    file = tmp_path / "large.bin"
    file.write_bytes(os.urandom(11 * MEGABYTE))
    (tmp_path / "down").mkdir()

    with project.server(MLFLOW_WORKERS="1") as server:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MLFLOW_TRACKING_URI": server.uri, **IN_PARTS}
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, str(file), "0"],
            env=environment,
            cwd=tmp_path / "down",
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        run = done.stdout.split()[-1]
        assert report(project, "Backup")["artifacts"] == 1
        log = server.log()

    s3: Any = boto3.client("s3", endpoint_url=s3_server)
    path = f"0/{run}/artifacts/large.bin"
    head = s3.head_object(Bucket="in-parts", Key=f"artifacts/{path}")
    assert (head["ContentLength"], head["ETag"].strip('"').rpartition("-")[2]) == (11 * MEGABYTE, "3")
    assert f"GET /api/2.0/mlflow-artifacts/presigned/{path}" in log
    assert f"PUT /api/2.0/mlflow-artifacts/artifacts/{path}" not in log
    assert f"GET /api/2.0/mlflow-artifacts/artifacts/{path}" not in log

    assert report(project, "Drill")["outcome"] == "done"
    s3.delete_object(Bucket="in-parts", Key=f"artifacts/{path}")
    shutil.rmtree(project.folder / "data/mlflow/standalone/store")
    project.secret("MLFLOW_BACKEND_STORE_URI", postgres.create("in_parts"))
    assert report(project, "Restore", "--snapshot", "latest")["artifacts_identical"] is True
    assert report(project, "DatabaseUpgrade")["outcome"] == "unchanged"
    with project.server(MLFLOW_WORKERS="1") as server:
        assert presigned(server, path) == file.read_bytes()
        doomed = server.new_run()
        server.call("PUT", f"/api/2.0/mlflow-artifacts/artifacts/0/{doomed}/artifacts/a", data=b"a")
        server.api("runs/delete", run_id=doomed)
        collected = report(
            project, "GarbageCollection", MLFLOW_TRACKING_GC_TTL="0d0h0m0s", MLFLOW_TRACKING_URI=server.uri
        )
        assert collected["runs"]["removed"] == 1
        assert [found["Key"] for found in s3.list_objects_v2(Bucket="in-parts")["Contents"]] == [f"artifacts/{path}"]
        assert presigned(server, path) == file.read_bytes()


def report(project: Project, command: str, *options: str, **variables: str) -> dict[str, Any]:
    ended = project.run(command, *options, timeout=240, **variables)
    assert ended.code == 0, ended.output
    return ended.last


def presigned(server: Server, path: str) -> bytes:
    signed = server.call("GET", f"/api/2.0/mlflow-artifacts/presigned/{path}").json()
    return requests.get(signed["url"], headers=signed["headers"], timeout=30).content
