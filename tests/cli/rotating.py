"""A release for the bench whose server can be told not to come up, and whose collection calls it with its token."""

from __future__ import annotations

from pathlib import Path

import requests

from mlflow_ae5_deploy.engine.lease import PREFIX as LEASE
from tests.cli.bench import ACCOUNT
from tests.sandbox.support import APP, make_project_archive

PROBE = "/api/2.0/mlflow/experiments/search"
PLATFORM = "platform:\n  lost_answer_deadline: 0.5\n  deployment_deadline: 5\n"
CONSUMER = "consumers:\n  - username: dev-user\n"

# It runs hundreds of times: without urllib and json, and without the hundred authorities before the sandbox's own.
COLLECTION = r"""
import hashlib, os, socket, ssl, sys

secrets = {}
for name in os.listdir(os.environ["MLFLOW_AE5_SECRETS_DIR"]):
    with open(os.path.join(os.environ["MLFLOW_AE5_SECRETS_DIR"], name)) as file:
        secrets[name] = file.read()
token, url = secrets.get("MLFLOW_TRACKING_TOKEN", ""), secrets["MLFLOW_TRACKING_URI"]


def status():
    with open(os.environ["SSL_CERT_FILE"]) as file:
        begin, authority = file.read().rpartition("-----BEGIN CERTIFICATE")[1:]
    host, _, port = url.removeprefix("https://").rstrip("/").partition(":")
    question = [
        "GET /api/2.0/mlflow/experiments/search?max_results=1 HTTP/1.1",
        "Host: %s:%s" % (host, port),
        "Connection: close",
        "Authorization: Bearer " + token,
    ]
    with socket.create_connection((host, int(port))) as plain:
        context = ssl.create_default_context(cadata=begin + authority)
        with context.wrap_socket(plain, server_hostname=host) as connection:
            connection.sendall(("\r\n".join(question) + "\r\n\r\n").encode())
            return connection.makefile().readline().split()[1]


def end(code, **facts):
    dry = "true" if os.environ.get("MLFLOW_TRACKING_GC_DRY_RUN") == "true" else "false"
    if not os.path.exists("data/silent"):
        facts["token_sha256"] = hashlib.sha256(token.encode()).hexdigest()[:12]
    told = "".join(', "%s": "%s"' % fact for fact in facts.items())
    print('{"command": "GarbageCollection", "dry_run": %s, "runs": {"due": 0}, "exit_code": %d%s}' % (dry, code, told))
    sys.exit(code)


found = status()
server = "ok" if found == "200" else url + " did not accept the token (HTTP " + found + ")"
if os.path.exists("data/broken-collection"):
    end(14, server=server, outcome="failed", error="the database is of another version")
end(0, server=server, outcome="dry-run")
"""

# Fails to start as often as the number in data/failures says.
GATE = r"""
import pathlib, sys
left = pathlib.Path("data/failures")
if left.exists() and int(left.read_text()) > 0:
    left.write_text(str(int(left.read_text()) - 1))
    sys.exit("the database refuses the connection")
"""


def make_rotating_release(target: Path, *, dry_run: bool = True) -> Path:
    return make_project_archive(target, files={"app.py": GATE + APP}, collection=COLLECTION, dry_run=dry_run)


def rotation(bench, capsys, *argv):
    """Agreed to, also where it restarts."""
    return bench.run(capsys, "rotate-token", "--sandbox", "--json", "--yes", *argv)


def volume(bench) -> Path:
    return bench.folder / "state" / "sandbox" / "volumes" / ACCOUNT / "data"


def stored(bench, account=ACCOUNT) -> str:
    return (bench.folder / "state" / "sandbox" / "secrets" / account / "MLFLOW_TRACKING_TOKEN").read_text()


def state_file(bench) -> Path:
    (file,) = (bench.folder / "state").glob("localhost*/state.json")
    return file


def running(bench):
    (deployment,) = bench.owner().get("deployments")
    return deployment


def opens(bench, token: str, url: str | None = None) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    url = (url or running(bench)["url"]).rstrip("/")
    return requests.get(
        url + PROBE, headers=headers, verify=str(bench.info.ca_file), allow_redirects=False, timeout=10
    ).status_code


def outcomes(outcome):
    return {item["account"]: item["outcome"] for item in outcome.data["accounts"]}


def token_writes(bench) -> list[str]:
    """Accounts whose secrets were written."""
    written = [c for c in bench.calls() if c["method"] == "POST" and c["secret"]]
    return [c["account"] for c in written if not c["secret"].startswith(LEASE)]


def tokens_issued(bench) -> int:
    return sum(
        1 for c in bench.calls() if c["method"] == "POST" and c["path"].endswith("/token") and "deploy" in c["path"]
    )


def jobs_made(bench) -> int:
    return sum(1 for c in bench.calls() if c["method"] == "POST" and c["path"].endswith("/jobs"))


def make_rotatable(bench, capsys):
    """An installation as the configuration wants it, with nothing of an earlier test in the way."""
    if bench.release.name != "rotating.tar.gz":
        bench.release = make_rotating_release(bench.folder / "rotating.tar.gz")
        (bench.folder / "mlflow-ae5-deploy.yaml").write_text(PLATFORM + CONSUMER)
    bench.control("DELETE", "/faults")
    for file in volume(bench).iterdir() if volume(bench).exists() else ():
        file.unlink()
    rotation(bench, capsys, "--if-needed")  # finishes an interrupted rotation; before the first install there is none
    done = bench.install(capsys, "--yes")
    assert done.code == 0, done.err
    assert rotation(bench, capsys, "--if-needed").code == 0
    bench.forget_calls()
    return bench
