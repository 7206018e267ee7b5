"""A release whose server and collection do as little as possible: they are started a thousand times."""

from __future__ import annotations

from pathlib import Path

from tests.cli.rotating import COLLECTION
from tests.sandbox.support import make_project_archive

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
    """rehearses: its collection accepts a dry run, which tests the job when a token is rotated."""
    return make_project_archive(target, files={"app.py": APP}, collection=COLLECTION, dry_run=rehearses)
