"""A release whose server and collection do as little as possible: they are started a thousand times."""

from __future__ import annotations

from pathlib import Path

from tests.cli.rotating import COLLECTION
from tests.sandbox.support import PROJECT_FILE, make_project_archive

APP = r"""
import socketserver, sys

words = " ".join(sys.argv[1:]).replace("=", " ").split()
address, port = (words[words.index(f"--anaconda-project-{name}") + 1] for name in ("address", "port"))


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline():
            length = 0
            while header := self.rfile.readline().strip().lower():
                if header.startswith(b"content-length:"):
                    length = int(header.partition(b":")[2])
            self.rfile.read(length)
            known = b"/experiments/search" in line
            body = b'{"experiments": []}' if known else b'{"error": "no such page"}'
            self.wfile.write(b"HTTP/1.1 %s\r\n" % (b"200 OK" if known else b"404 Not Found"))
            self.wfile.write(b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


Server((address, int(port)), Handler).serve_forever()
"""


def make_tiny_release(target: Path, *, rehearses: bool = True) -> Path:
    """rehearses: its collection can be asked for a dry run, which is what proves the job when a token is rotated."""
    before = """'echo "collecting older than $MLFLOW_TRACKING_GC_TTL"'"""
    assert before in PROJECT_FILE
    project_file = PROJECT_FILE.replace(before, "exec python -IS collection.py")
    project_file = project_file.replace("unix: python app.py", "unix: exec python -IS app.py")
    if rehearses:
        project_file = project_file.replace("variables:\n", "variables:\n  MLFLOW_TRACKING_GC_DRY_RUN: 'false'\n", 1)
    return make_project_archive(target, project_file=project_file, files={"app.py": APP, "collection.py": COLLECTION})
