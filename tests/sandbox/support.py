"""What tests around the sandbox share: a project that takes no time to start, and a small client.

The project is a stdlib HTTP server that understands the `--anaconda-project-*` options like a real web command, and
answers the few paths of MLflow that health checks look at.
"""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests

from mlflow_ae5_deploy.sandbox.info import SandboxInfo

APP = r"""
import json, os, pathlib, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

arguments = sys.argv[1:]
options = {}
while arguments:
    name, _, value = arguments.pop(0).partition("=")
    if not value and arguments and not arguments[0].startswith("--"):
        value = arguments.pop(0)
    options[name] = value

SECRETS = pathlib.Path(os.environ["MLFLOW_AE5_SECRETS_DIR"])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == "/health":
            self.answer("OK", "text/plain")
        elif path == "/version":
            self.answer("3.17.2", "text/plain")
        elif path == "/api/2.0/mlflow/experiments/search":
            self.answer(json.dumps({"experiments": []}))
        elif path == "/about":
            self.answer(json.dumps({
                "pid": os.getpid(), "options": options, "environment": dict(os.environ), "cwd": os.getcwd(),
                "headers": dict(self.headers), "secrets": {p.name: p.read_text() for p in SECRETS.iterdir()},
            }))
        elif path == "/count":
            file = pathlib.Path("data/count")
            count = int(file.read_text()) + 1 if file.exists() else 1
            file.write_text(str(count))
            self.answer(json.dumps(count))
        elif path == "/crash":
            os._exit(3)
        elif path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (b"one,", b"two"):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.answer("no such page", "text/plain", 404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/api/2.0/mlflow/experiments/search"):
            return self.answer(json.dumps({"experiments": []}))
        self.answer(body.decode(), self.headers.get("Content-Type", "text/plain"))

    do_PUT = do_POST
    do_HEAD = do_GET

    def answer(self, text, kind="application/json", status=200):
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, text, *values):
        print("app:", text % values, flush=True)


class Server(ThreadingHTTPServer):
    def server_bind(self):  # without the name look-up of the original, which can take long
        self.socket.setsockopt(1, 2, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.server_address


print("serving with", sorted(options), flush=True)
Server((options["--anaconda-project-address"], int(options["--anaconda-project-port"])), Handler).serve_forever()
"""

PROJECT_FILE = """\
name: test-project
commands:
  TrackingServer:
    unix: exec python -IS app.py
    env_spec: default
    supports_http_options: true
  GarbageCollection:
    unix: 'echo "collecting older than $MLFLOW_TRACKING_GC_TTL"'
    env_spec: default
    supports_http_options: false
  Crash:
    unix: 'echo "something is broken" >&2; exit 7'
    env_spec: default
    supports_http_options: true
  Fail:
    unix: 'echo "this run fails" >&2; exit 4'
    env_spec: default
  Sleep:
    unix: 'echo sleeping; sleep 300 & sleep 300'
    env_spec: default
variables:
  MLFLOW_TRACKING_GC_TTL: 30d0h0m0s
  GREETING:
    default: hello
    description: what to say
env_specs:
  default:
    packages: [python]
"""

COLLECT = """'echo "collecting older than $MLFLOW_TRACKING_GC_TTL"'"""


def make_project_archive(
    target: Path,
    *,
    top: str = "project",
    project_file: str = PROJECT_FILE,
    files: Mapping[str, str] | None = None,
    collection: str | None = None,
    dry_run: bool = False,
) -> Path:
    """Write a fake release to `target` (`.tar.gz`); the same arguments give the same bytes. Returns `target`.

    files: further files, and replacements for app.py, the server. collection: the script of its garbage collection;
    dry_run: whether that accepts a dry run.
    """
    contents = {"app.py": APP, **(files or {})}
    if collection is not None:
        assert COLLECT in project_file
        project_file = project_file.replace(COLLECT, "exec python -IS collection.py")
        contents["collection.py"] = collection
    if dry_run:
        project_file = project_file.replace("variables:\n", "variables:\n  MLFLOW_TRACKING_GC_DRY_RUN: 'false'\n", 1)
    contents["anaconda-project.yml"] = project_file
    with tarfile.open(target, "w:gz") as tar:
        for name, text in sorted(contents.items()):
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size, member.mode = len(text.encode()), 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
    return target


_Value = TypeVar("_Value")


def wait_for(probe: Callable[[], _Value], what: str, seconds: float = 120.0) -> _Value:
    """Ask until the answer is truthy. For things that only real processes can make true."""
    deadline = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.02)


def credentials(info: SandboxInfo) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(info.credentials_file.read_text())
    return found


def password_of(info: SandboxInfo, username: str) -> str:
    """Of an account, or reserved for one that is still to be created."""
    accounts = credentials(info)
    found: str = {**accounts["reserved"], **accounts["users"]}[username]
    return found


def new_session(info: SandboxInfo) -> requests.Session:
    """Verifies the sandbox's certificate; ignores proxies and certificate bundles of the environment."""
    session = requests.Session()
    session.trust_env = False
    session.verify = str(info.ca_file)
    return session


class Client:
    """One signed-in person, over plain `requests`. Answers are returned as they are, errors included."""

    def __init__(self, info: SandboxInfo, username: str | None = None, password: str = "") -> None:
        self.info = info
        self.session = new_session(info)
        self.username = username
        if username is not None:
            answer = self.sign_in(username, password or password_of(info, username))
            if "_xsrf" not in self.session.cookies:
                raise AssertionError(f"login failed: {answer.status_code} {answer.text[:300]}")

    def url(self, path: str) -> str:
        return f"https://{self.info.hostname}{path if path.startswith('/') else '/api/v2/' + path}"

    def open_login(self) -> requests.Response:
        query = {"client_id": "anaconda-platform", "scope": "openid", "response_type": "code"}
        query["redirect_uri"] = self.url("/login")
        return self.session.get(self.url("/auth/realms/AnacondaPlatform/protocol/openid-connect/auth"), params=query)

    def sign_in(self, username: str, password: str) -> requests.Response:
        page = self.open_login().text
        action = page.partition('action="')[2].partition('"')[0].replace("&amp;", "&")
        return self.session.post(action, data={"username": username, "password": password})

    def call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        xsrf = self.session.cookies.get("_xsrf", "")
        headers = {"x-xsrftoken": xsrf, **kwargs.pop("headers", {})}
        return self.session.request(method, self.url(path), headers=headers, allow_redirects=False, **kwargs)

    def get(self, path: str, **kwargs: Any) -> Any:
        """The JSON answer of a call that must succeed."""
        return self._good(self.call("GET", path, **kwargs))

    def post(self, path: str, body: Any = None, **kwargs: Any) -> Any:
        return self._good(self.call("POST", path, json=body, **kwargs))

    @staticmethod
    def _good(answer: requests.Response) -> Any:
        assert answer.status_code == 200, f"{answer.status_code} {answer.reason}"
        assert "Content-Type" in answer.headers
        return answer.json() if answer.content else None

    # -- what most tests need -------------------------------------------------------------

    def upload(self, archive: Path, name: str, tag: str | None = None) -> requests.Response:
        data = {"name": name} | ({"tag": tag} if tag else {})
        with archive.open("rb") as file:
            return self.call("POST", "projects/upload", data=data, files={"project_file": (str(archive), file)})

    def deployment_body(self, project_id: str, **changes: Any) -> dict[str, Any]:
        body = {
            "source": f"http://anaconda-enterprise-ap-storage/projects/{project_id[3:]}/archive/latest",
            "revision": "latest",
            "resource_profile": "default",
            "command": "TrackingServer",
            "public": False,
            "target": "deploy",
        }
        return body | changes

    def deploy(self, project_id: str, *, wait: bool = True, **changes: Any) -> Any:
        record = self.post(f"projects/{project_id}/deployments", self.deployment_body(project_id, **changes))
        return self.settled(record["id"]) if wait else record

    def settled(self, deployment_id: str) -> Any:
        """The deployment, once it no longer is starting."""

        def probe() -> Any:
            record = self.get(f"deployments/{deployment_id}")
            return None if record["state"] in ("initial", "starting") else record

        return wait_for(probe, f"deployment {deployment_id}")

    def token(self, deployment_id: str) -> str:
        found: str = self.post(f"deployments/{deployment_id}/token")["token"]
        return found

    def job_body(self, project_id: str, name: str, **changes: Any) -> dict[str, Any]:
        body = self.deployment_body(project_id, command="GarbageCollection")
        del body["public"]
        return body | {"schedule": None, "autorun": False, "name": name} | changes

    def finished(self, run_id: str) -> Any:
        def probe() -> Any:
            record = self.get(f"runs/{run_id}")
            return None if record["state"] in ("initial", "running") else record

        return wait_for(probe, f"run {run_id}")


class Admin:
    """The administrator, through Keycloak's admin API."""

    def __init__(self, info: SandboxInfo) -> None:
        self.info = info
        self.session = new_session(info)
        admin = credentials(info)["admin"]
        form = {**admin, "grant_type": "password", "client_id": "admin-cli"}
        base = f"https://{info.hostname}/auth/realms/master/protocol/openid-connect"
        self.tokens = self.session.post(f"{base}/token", data=form).json()
        self.session.headers["Authorization"] = f"Bearer {self.tokens['access_token']}"

    def call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        base = f"https://{self.info.hostname}/auth/admin/realms/AnacondaPlatform/"
        return self.session.request(method, base + path, **kwargs)

    def create(self, username: str, password: str, **changes: Any) -> str:
        """Returns the new account's id."""
        body: dict[str, Any] = {"username": username, "email": f"{username}@example.invalid"}
        body |= {"firstName": "A", "lastName": "B", "enabled": True, "emailVerified": True, "groups": ["everyone"]}
        body["credentials"] = [{"type": "password", "temporary": False, "value": password}]
        answer = self.call("POST", "users", json=body | changes)
        assert answer.status_code == 201, answer.reason
        return answer.headers["Location"].rpartition("/")[2]

    def impersonate(self, user_id: str) -> Client:
        client = Client(self.info)
        answer = self.call("POST", f"users/{user_id}/impersonation")
        client.session.cookies.update(self.session.cookies)
        self.session.cookies.clear()
        assert answer.status_code == 200, answer.reason
        client.open_login()
        return client


def endpoint_name(record: dict[str, Any]) -> str:
    """The static endpoint of a deployment record, in either way of addressing."""
    return record.get("static_endpoint") or (urlsplit(record["url"]).hostname or "").partition(".")[0]
