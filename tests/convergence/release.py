"""A release whose server and collection do as little as possible: they are started a thousand times."""

from __future__ import annotations

from pathlib import Path

from tests.cli.rotating import COLLECTION
from tests.sandbox.support import PROJECT_FILE, make_project_archive

# `_socket` and `_thread` are in Python itself: nothing has to be imported.
APP = r"""
import _socket, _thread, os, sys

words = " ".join(sys.argv[1:]).replace("=", " ").split()
address, port = (words[words.index(f"--anaconda-project-{name}") + 1] for name in ("address", "port"))


def serve(connection):
    with open(connection, "rb") as stream:
        while line := stream.readline():
            length = 0
            while header := stream.readline().strip().lower():
                if header.startswith(b"content-length:"):
                    length = int(header.partition(b":")[2])
            stream.read(length)
            known = b"/experiments/search" in line
            body = b'{"experiments": []}' if known else b'{"error": "no such page"}'
            head = b"HTTP/1.1 %s\r\n" % (b"200 OK" if known else b"404 Not Found")
            head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            os.write(connection, head + body)


listening = _socket.socket()
listening.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
listening.bind((address, int(port)))
listening.listen()
while True:
    _thread.start_new_thread(serve, (listening._accept()[0],))
"""


def make_tiny_release(target: Path, *, rehearses: bool = True) -> Path:
    """rehearses: its collection can be asked for a dry run, which is what proves the job when a token is rotated."""
    before = """'echo "collecting older than $MLFLOW_TRACKING_GC_TTL"'"""
    assert before in PROJECT_FILE
    project_file = PROJECT_FILE.replace(before, "exec python -IS collection.py")
    if rehearses:
        project_file = project_file.replace("variables:\n", "variables:\n  MLFLOW_TRACKING_GC_DRY_RUN: 'false'\n", 1)
    return make_project_archive(target, project_file=project_file, files={"app.py": APP, "collection.py": COLLECTION})
