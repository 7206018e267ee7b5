"""A server whose artifacts are on S3: large files go there in parts and come back by presigned addresses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.project_template.conftest import Project

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


def test_large_files_go_to_s3_in_parts_and_into_backups(
    bucket: Callable[[str], str], s3_server: str, tmp_path: Path
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
        made: Any = project.run("Backup", timeout=240)
        log = server.log()

    key = f"artifacts/0/{run}/artifacts/large.bin"
    head = boto3.client("s3", endpoint_url=s3_server).head_object(Bucket="in-parts", Key=key)
    assert (head["ContentLength"], head["ETag"].strip('"').rpartition("-")[2]) == (11 * MEGABYTE, "3")
    path = f"0/{run}/artifacts/large.bin"
    assert f"GET /api/2.0/mlflow-artifacts/presigned/{path}" in log
    assert f"PUT /api/2.0/mlflow-artifacts/artifacts/{path}" not in log
    assert f"GET /api/2.0/mlflow-artifacts/artifacts/{path}" not in log
    assert (made.code, made.last["artifacts"]) == (0, 1), made.output
