"""A small project, archives made entry by entry, and a web server that misbehaves on demand."""

from __future__ import annotations

import io
import ssl
import tarfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from mlflow_ae5_deploy.release.models import Release

PROJECT = b"""\
# heading of the file
name: demo  # the name

variables:
  # where runs are kept
  MLFLOW_BACKEND_STORE_URI: sqlite:///data/mydb.sqlite
  MLFLOW_TRACKING_GC_TTL: 30d0h0m0s  # how long
  DESCRIBED:
    # inner comment
    default: old
    description: a described one
  QUOTED: '60'

# all commands
commands:
  # the server
  TrackingServer:
    unix: python -m server
    env_spec: default
    supports_http_options: true
  GarbageCollection:
    unix: python -m gc  # end of line
    env_spec: minimum

channels:
  - defaults  # the usual one

# environments
env_specs:
  default:
    packages:
      - python=3.11
      # databases
      - conda-forge::psycopg2=2.9.3
      - pip:
          # exactly
          - MLflow[extras] == 3.17.2 ; python_version > "3.8"
          - azure_identity>=1
  # the small one
  minimum:
    packages:
      - python=3.11
      - mlflow=2.9
"""


@dataclass
class Entry:
    """One entry of a made-up archive; kind is tarfile's type byte."""

    name: str
    content: bytes = b""
    kind: bytes = tarfile.REGTYPE
    target: str = ""
    mode: int = 0o644


def make_tar(path: Path, entries: list[Entry], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.type = entry.kind
            info.linkname = entry.target
            info.mode = entry.mode
            info.size = len(entry.content)
            tar.addfile(info, io.BytesIO(entry.content))
    return path


def make_zip(path: Path, entries: list[Entry]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in entries:
            info = zipfile.ZipInfo(entry.name)
            kinds = {tarfile.SYMTYPE: 0o120000, tarfile.DIRTYPE: 0o040000, tarfile.FIFOTYPE: 0o010000}
            info.external_attr = (kinds.get(entry.kind, 0o100000) | entry.mode) << 16
            archive.writestr(info, entry.target.encode() if entry.kind == tarfile.SYMTYPE else entry.content)
    return path


def good_entries() -> list[Entry]:
    return [
        Entry("project/", kind=tarfile.DIRTYPE, mode=0o755),
        Entry("project/anaconda-project.yml", PROJECT),
        Entry("project/server/__init__.py", b'__version__ = "0.1.0"\n'),
        Entry("project/run.sh", b"#!/bin/sh\n", mode=0o775),
    ]


@dataclass
class Make:
    """The helpers above, for tests that get this as a fixture."""

    entry: type[Entry] = Entry
    tar: Callable[..., Path] = make_tar
    zip: Callable[..., Path] = make_zip
    good: Callable[[], list[Entry]] = good_entries
    project: bytes = PROJECT


@pytest.fixture
def make():
    return Make()


@pytest.fixture
def template(tmp_path):
    folder = tmp_path / "template"
    (folder / "server").mkdir(parents=True)
    (folder / "anaconda-project.yml").write_bytes(PROJECT)
    (folder / "server" / "__init__.py").write_text('__version__ = "0.1.0"\n')
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    return Release("bundled", "0.1.0", "bundled", folder, None, "none")


@dataclass
class Reply:
    """cuts: for each request in turn, after how many bytes the connection is dropped; then whole answers.

    statuses: for each request in turn, a status to answer instead; then 200. honest: Range and If-Range are obeyed.
    """

    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    etag: str | None = '"one"'
    redirect: str | None = None
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    announce_length: bool = True
    honest: bool = True


class Server:
    """Serves `replies` by path (with query) on loopback, and keeps the headers of what was asked."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.replies: dict[str, Reply] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append((self.path, dict(self.headers)))
                reply = outer.replies.get(self.path)
                if reply is None:
                    self._plain(404)
                elif reply.statuses:
                    self._plain(reply.statuses.pop(0), reply.headers)
                elif reply.redirect:
                    self._plain(302, {"Location": reply.redirect})
                else:
                    self._answer(reply)

            def _plain(self, status: int, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in {**(headers or {}), "Content-Length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

            def _answer(self, reply: Reply) -> None:
                start = 0
                desired = self.headers.get("Range")
                same = not reply.honest or self.headers.get("If-Range") == reply.etag
                if desired and reply.etag and same:
                    start = int(desired.removeprefix("bytes=").rstrip("-"))
                if start >= len(reply.body) > 0:
                    self._plain(416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(reply.body) - 1}/{len(reply.body)}")
                if reply.etag:
                    self.send_header("ETag", reply.etag)
                if reply.announce_length:
                    self.send_header("Content-Length", str(len(reply.body) - start))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                body = reply.body[start:]
                self.wfile.write(body[: reply.cuts.pop(0)] if reply.cuts else body)
                self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def clear(self) -> None:
        self.replies.clear()
        self.requests.clear()

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(scope="session")
def _https(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = Server(context)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _http():
    server = Server(None)
    yield server
    server.stop()


@pytest.fixture
def https(_https):
    _https.clear()
    return _https


@pytest.fixture
def http(_http):
    _http.clear()
    return _http


@pytest.fixture
def reply():
    return Reply


@pytest.fixture
def ca_file(authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path
