from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 on loopback; its address."""
    server_module = pytest.importorskip("moto.server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a bucket and returns its url; the object store's settings are those of this server."""
    import boto3

    for name, value in {
        "MLFLOW_S3_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)

    def make(name: str) -> str:
        boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1").create_bucket(Bucket=name)
        return f"s3://{name}"

    return make
