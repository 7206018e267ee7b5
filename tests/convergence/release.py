"""A release whose server and collection do as little as possible: they are started a thousand times."""

from __future__ import annotations

from pathlib import Path

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


# What tests.cli.rotating.COLLECTION does, without urllib and without the hundred authorities before the sandbox's own.
COLLECTION = r"""
import hashlib, os, socket, ssl

secrets = {}
for name in os.listdir(os.environ["MLFLOW_AE5_SECRETS_DIR"]):
    with open(os.path.join(os.environ["MLFLOW_AE5_SECRETS_DIR"], name)) as file:
        secrets[name] = file.read()
token, url = secrets.get("MLFLOW_TRACKING_TOKEN", ""), secrets["MLFLOW_TRACKING_URI"]
with open(os.environ["SSL_CERT_FILE"]) as file:
    begin, authority = file.read().rpartition("-----BEGIN CERTIFICATE")[1:]
host, _, port = url.removeprefix("https://").rstrip("/").partition(":")
question = "GET /api/2.0/mlflow/experiments/search?max_results=1 HTTP/1.1", f"Host: {host}:{port}", "Connection: close"
with ssl.create_default_context(cadata=begin + authority).wrap_socket(
    socket.create_connection((host, int(port))), server_hostname=host
) as connection:
    connection.sendall("\r\n".join([*question, f"Authorization: Bearer {token}", "\r\n"]).encode())
    status = connection.makefile().readline().split()[1]
server = "ok" if status == "200" else f"{url} did not accept the token (HTTP {status})"
known = hashlib.sha256(token.encode()).hexdigest()[:12]
dry = "true" if os.environ.get("MLFLOW_TRACKING_GC_DRY_RUN") == "true" else "false"
print(
    f'{{"command": "GarbageCollection", "dry_run": {dry}, "token_sha256": "{known}", "server": "{server}",'
    ' "outcome": "dry-run", "runs": {"due": 0}, "exit_code": 0}'
)
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
