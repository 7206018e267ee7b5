"""A release that is not what it should be is refused by name, before anything is uploaded."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import socket
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.answers import assert_error
from tests.sandbox.support import PROJECT_FILE, make_project_archive


def tar(*members: tuple[str, bytes, str]) -> bytes:
    """(name, tarfile's type byte, target of a link or content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            content = text.encode() if kind == tarfile.REGTYPE else b""
            info.size, info.linkname = len(content), "" if content else text
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


ZEROS = "\0" * (20 << 20)  # packs well; 60 of it are more than AE5 takes
COPIES = [(f"project/{number}", tarfile.LNKTYPE, "project/zeros") for number in range(60)]

FILE = ("project/anaconda-project.yml", tarfile.REGTYPE, PROJECT_FILE)
ARCHIVES = {
    "a web page": (b"<!DOCTYPE html><html><body>Sign in</body></html>", ["The release is", "page"]),
    "nothing": (b"", ["The release is", "empty"]),
    "text": (b"not an archive at all\n" * 100, ["The release is"]),
    "gzip of something else": (gzip.compress(b"just text\n" * 100), ["bad.tar.gz is truncated or damaged"]),
    "absolute path": (tar(FILE, ("/etc/passwd", tarfile.REGTYPE, "x")), ["/etc/passwd", "absolute"]),
    "parent folder": (tar(FILE, ("project/../../x", tarfile.REGTYPE, "x")), ["project/../../x", ".."]),
    "link that leaves": (
        tar(FILE, ("project/key", tarfile.SYMTYPE, "/etc/shadow")),
        ["Link 'key'", "leaves", "/etc/shadow"],
    ),
    "device": (tar(FILE, ("project/null", tarfile.CHRTYPE, "")), ["project/null", "device"]),
    "copies": (tar(FILE, ("project/zeros", tarfile.REGTYPE, ZEROS), *COPIES), ["unpacks to more than 1.1 GB"]),
    "two top folders": (tar(FILE, ("other/x", tarfile.REGTYPE, "x")), ["two top folders", "'other'"]),
    "no project file": (tar(("project/app.py", tarfile.REGTYPE, "x")), ["anaconda-project.yml"]),
    "no TrackingServer": (
        tar((FILE[0], FILE[1], PROJECT_FILE.replace("TrackingServer", "Server"))),
        ["no command TrackingServer", "it has: Server, GarbageCollection"],
    ),
    "broken project file": (tar((FILE[0], FILE[1], "commands: [")), ["anaconda-project.yml", "YAML"]),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_what_is_no_release_is_refused(bench, capsys, case):
    content, words = ARCHIVES[case]
    path = bench.folder / "bad.tar.gz"
    path.write_bytes(content)
    bench.forget_calls()

    refused = bench.run(capsys, "install", "--sandbox", "--json", "--release", str(path))

    assert_error(refused, 3, *words)
    assert not [write for write in bench.writes() if "/users" not in write]


def test_a_truncated_archive_is_refused(bench, capsys):
    path = bench.folder / "cut.tar.gz"
    path.write_bytes(bench.release.read_bytes()[:-200])

    refused = bench.run(capsys, "install", "--sandbox", "--json", "--release", str(path))

    assert_error(refused, 3, "cut.tar.gz")
    assert bench.owner().get("deployments") == []


@pytest.mark.parametrize(
    ("release", "code", "words"),
    [
        ("nowhere.tar.gz", 3, ["does not exist", "nowhere.tar.gz"]),
        (".", 3, ["release"]),
        ("ftp://example.com/x.tar.gz", 3, ["release", "https"]),
        ("http://example.com/x.tar.gz", 3, ["https"]),
        ("1.2", 3, ["bundled", "X.Y.Z"]),
        ("newest", 3, ["bundled", "latest"]),
    ],
)
def test_an_invalid_release_source_is_refused(bench, capsys, release, code, words):
    refused = bench.run(capsys, "install", "--sandbox", "--json", "--release", release)

    assert_error(refused, code, *words)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def without_end(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"\x1f\x8b")
        file.truncate(1 << 40)  # a hole


@pytest.mark.parametrize("verb", ["plan", "install", "upgrade"])
@pytest.mark.parametrize(
    ("make", "says"),
    [(a_pipe, "not a regular file"), (a_device, "not a regular file"), (without_end, "larger than 1.1 GB")],
)
def test_what_cannot_be_read_to_its_end_is_refused_at_once(bench, capsys, tmp_path, verb, make, says):
    make(tmp_path / "release.tar.gz")

    refused = bench.run(capsys, verb, "--sandbox", "--json", "--release", str(tmp_path / "release.tar.gz"))

    assert_error(refused, 3, says, "release.tar.gz")


@pytest.mark.parametrize("right", [False, True])
def test_a_checksum_is_compared(bench, capsys, right):
    digest = hashlib.sha256(bench.release.read_bytes()).hexdigest() if right else "0" * 64
    path = bench.configure(f"release: {{source: '{bench.release}', sha256: '{digest}'}}\n")

    done = bench.run(capsys, "plan", "--sandbox", "--json", "--config", str(path))

    if right:
        assert done.code == 0, done.err
        assert "SHA-256 as configured" in done.data["stages"][3]["reason"]
    else:
        assert_error(done, 3, "stage 4 (release)", "SHA-256", "0" * 64, digest)


class Mirror(ThreadingHTTPServer):
    """Serves one file on loopback; `cut` is after how many bytes each answer breaks off."""

    def __init__(self, body: bytes) -> None:
        self.body, self.cut, self.status, self.requests = body, len(body), 200, 0
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/release.tar.gz"


class _Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(self.server.status)
        body = self.server.body if self.server.status == 200 else b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(bench, tmp_path) -> Iterator[Mirror]:
    archive = make_project_archive(tmp_path / "served.tar.gz", files={"note.txt": "served"})
    with Mirror(archive.read_bytes()) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class TestDownload:
    """In order: the same address, first truncated, then wrong, then complete, then removed."""

    def test_a_truncated_download_is_not_taken_for_a_release(self, bench, capsys, mirror):
        mirror.cut = len(mirror.body) // 2
        bench.forget_calls()

        refused = bench.run(capsys, "install", "--sandbox", "--json", "--release", mirror.url)

        assert refused.code in (3, 10), refused.err
        assert_error(refused, refused.code, "stage 4 (release)", mirror.url)
        assert not [write for write in bench.writes() if "/users" not in write]

    def test_a_wrong_checksum_of_a_download_is_refused(self, bench, capsys, mirror):
        path = bench.configure(f"release: {{source: '{mirror.url}', sha256: '{'0' * 64}'}}\n")

        refused = bench.run(capsys, "install", "--sandbox", "--json", "--config", str(path))

        assert_error(refused, 3, "stage 4 (release)", "SHA-256", "0" * 64)

    def test_a_plan_does_not_download(self, bench, capsys, mirror):
        planned = bench.run(capsys, "plan", "--sandbox", "--json", "--release", mirror.url)

        assert planned.code == 0, planned.err
        assert planned.data["stages"][3]["outcome"] == "planned"
        assert mirror.requests == 0

    def test_a_whole_one_is_installed_and_needs_the_server_no_more(self, bench, capsys, mirror):
        first = bench.run(capsys, "install", "--sandbox", "--json", "--release", mirror.url)
        mirror.status = 503
        second = bench.run(capsys, "install", "--sandbox", "--json", "--release", mirror.url)

        assert first.code == 0, first.err
        assert second.code == 0, second.err
        assert second.data["outcome"] == "unchanged"

    def test_an_address_where_nobody_listens(self, bench, capsys):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/release.tar.gz"

            refused = bench.run(capsys, "install", "--sandbox", "--json", "--release", url)

        assert_error(refused, 10, "stage 4 (release)", "--release bundled")
