"""Requests that no HTTP library would send: how they are answered, and that no log repeats a token in them."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl

import pytest

from mlflow_ae5_deploy.sandbox.sandbox import Sandbox
from tests.sandbox.support import Client

TOKEN = "tok-3f1c8e55a7d94b10"
LIST = b"GET /api/v2/projects HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


def send(sandbox: Sandbox, request: bytes) -> bytes:
    """The answer's first line to exactly these bytes."""
    host, port = sandbox.info.hostname.split(":")
    trust = ssl.create_default_context(cafile=str(sandbox.info.ca_file))
    with (
        socket.create_connection(("127.0.0.1", int(port)), timeout=30) as plain,
        trust.wrap_socket(plain, server_hostname=host) as connection,
    ):
        connection.sendall(request)
        return connection.makefile("rb").readline()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (LIST + f"Authorization: Bearer {TOKEN}\0\r\n\r\n".encode(), 400),
        (LIST + f"Authorization: Bearer\r\n {TOKEN}\r\n\r\n".encode(), 400),
        (LIST + f"Cookie: a={TOKEN}\x01\r\n\r\n".encode(), 400),
        (LIST + f"{TOKEN}\r\n\r\n".encode(), 400),
        (f"GET /{TOKEN * 500} HTTP/1.1\r\n\r\n".encode(), 400),
        (f"GET https://{TOKEN}@localhost/api/v2/projects HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), 400),
        (f"CONNECT {TOKEN}:443 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (LIST + f"Cookie: \xff{TOKEN}=1\r\n\r\n".encode("latin-1"), 401),
        (
            f"GET /auth/admin/realms/AnacondaPlatform/users HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer \xff{TOKEN}\r\n\r\n".encode("latin-1"),
            401,
        ),
    ],
)
def test_odd_request_is_refused_and_its_token_is_not_logged(sandbox, caplog, request_bytes, status):
    with caplog.at_level(logging.INFO):
        line = send(sandbox, request_bytes)
    assert line.split()[1] == str(status).encode()
    assert caplog.records, "the refusal stands in the log"
    assert TOKEN not in caplog.text


def test_the_log_shows_a_path_as_it_was_sent(sandbox, caplog):
    with caplog.at_level(logging.INFO):
        send(sandbox, LIST.replace(b"/projects", b"/projects/%1b%00%0a?secret=" + TOKEN.encode()) + b"\r\n")
    assert "/api/v2/projects/%1b%00%0a refused" in caplog.text
    assert TOKEN not in caplog.text


def test_a_handler_that_breaks_answers_500_with_a_line_in_the_log(sandbox, project_archive, caplog):
    client = Client(sandbox.info, "dev-user")
    shutil.rmtree(sandbox.info.state_dir / "archives", ignore_errors=True)
    (sandbox.info.state_dir / "archives").write_text("in the way")
    with caplog.at_level(logging.INFO):
        answer = client.upload(project_archive, "broken")
    (sandbox.info.state_dir / "archives").unlink()
    assert answer.status_code == 500
    assert "POST /api/v2/projects/upload failed: internal error" in caplog.text
