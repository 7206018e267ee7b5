"""Deployments: what they are given, who is let in, what ends them and what does not."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import aiohttp
import psutil
import pytest
import requests

from tests.sandbox.support import (
    PROJECT_FILE,
    Admin,
    Client,
    credentials,
    make_project_archive,
    new_session,
    wait_for,
)


@pytest.fixture(scope="module")
def colleague(sandbox):
    Admin(sandbox.info).create("colleague", "pw", groups=["everyone"])
    return Client(sandbox.info, "colleague", "pw")


@pytest.fixture(scope="module")
def project(client, project_archive):
    client.call("POST", "credentials/user", json={"key": "A_SECRET", "value": "of mine"})
    return client.upload(project_archive, "served").json()


@pytest.fixture(scope="module")
def deployment(client, project):
    changes = {"variables": {"GREETING": "from the deployment", "EXTRA": "1"}}
    return client.deploy(project["id"], name="main", static_endpoint="main-end", **changes)


@pytest.fixture(scope="module")
def token(client, deployment):
    return client.token(deployment["id"])


class Visitor:
    """Somebody outside, at the door of a deployment."""

    def __init__(self, info: Any, url: str, session: requests.Session | None = None, token: str = "") -> None:
        self.url = url
        self.session = session or new_session(info)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(self, path: str = "health", method: str = "GET", **kwargs: Any) -> requests.Response:
        headers = self.headers | kwargs.pop("headers", {})
        return self.session.request(method, self.url + path, headers=headers, allow_redirects=False, **kwargs)


# -- what the command gets --------------------------------------------------------------------


def test_what_the_command_is_given(sandbox, deployment, token):
    about = Visitor(sandbox.info, deployment["url"], token=token).ask("about").json()
    host = deployment["url"].split("/")[2]
    assert about["options"] == {
        "--anaconda-project-host": host,
        "--anaconda-project-port": about["options"]["--anaconda-project-port"],
        "--anaconda-project-address": "127.0.0.1",
        "--anaconda-project-iframe-hosts": sandbox.info.hostname,
        "--anaconda-project-use-xheaders": "",
        "--anaconda-project-no-browser": "",
    }
    env = about["environment"]
    assert (env["GREETING"], env["EXTRA"]) == ("from the deployment", "1")
    assert env["MLFLOW_TRACKING_GC_TTL"] == "30d0h0m0s"
    assert env["PROJECT_DIR"] == about["cwd"]
    assert env["MLFLOW_AE5_SANDBOX"] == "1"
    assert "A_SECRET" not in env
    assert about["secrets"]["A_SECRET"] == "of mine"


def test_what_the_application_hears(sandbox, client, deployment, token):
    visitor = Visitor(sandbox.info, deployment["url"], token=token)
    heard = visitor.ask("about", headers={"X-Mine": "1", "Cookie": "app=1"}).json()["headers"]
    host = deployment["url"].split("/")[2]
    assert (heard["Host"], heard["X-Forwarded-Host"], heard["X-Forwarded-Proto"]) == (host, host, "https")
    assert (heard["X-Mine"], heard["Anaconda-User"], heard["Cookie"]) == ("1", "dev-user", "app=1")
    assert "Authorization" not in heard

    browser = Visitor(sandbox.info, deployment["url"], session=client.session)
    heard = browser.ask("about", headers={"Anaconda-User": "somebody else"}).json()["headers"]
    assert heard["Anaconda-User"] == "dev-user"
    assert "Cookie" not in heard


def test_bodies_pass_through_in_both_directions(sandbox, deployment, token):
    visitor = Visitor(sandbox.info, deployment["url"], token=token)
    text = "äöü" * 100_000
    answer = visitor.ask("echo", "POST", data=text.encode(), headers={"Content-Type": "text/strange"})
    assert answer.content.decode() == text
    assert answer.headers["Content-Type"] == "text/strange"
    assert visitor.ask("stream").content == b"one,two"
    head = visitor.ask("health", "HEAD")
    assert (head.status_code, head.headers["Content-Length"]) == (200, "2")
    missing = visitor.ask("missing?a=%2Fb")
    assert (missing.status_code, missing.text) == (404, "no such page")


ECHO = """
import sys
from aiohttp import WSMsgType, web

options = dict(zip(sys.argv[1::1], sys.argv[2::1]))

async def handle(request):
    if request.headers.get("Upgrade", "").lower() != "websocket":
        return web.Response(text="plain")
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type == WSMsgType.TEXT:
            await socket.send_str(request.headers["Anaconda-User"] + ": " + message.data)
        else:
            await socket.send_bytes(message.data[::-1])
    return socket

app = web.Application()
app.router.add_get("/{path:.*}", handle)
web.run_app(app, host="127.0.0.1", port=int(options["--anaconda-project-port"]), print=None)
"""


def test_web_sockets_pass_through(sandbox, client, tmp_path):
    with_packages = PROJECT_FILE.replace("python -IS", "python")
    archive = make_project_archive(tmp_path / "ws.tar.gz", project_file=with_packages, files={"app.py": ECHO})
    project = client.upload(archive, "sockets").json()
    record = client.deploy(project["id"], name="sockets")
    headers = {"Authorization": f"Bearer {client.token(record['id'])}"}

    async def talk():
        tls = ssl.create_default_context(cafile=str(sandbox.info.ca_file))
        url = record["url"] + "ws?a=1"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, headers=headers, ssl=tls) as socket:
            await socket.send_str("hello")
            await socket.send_bytes(b"abc")
            return await socket.receive_str(), await socket.receive_bytes()

    assert asyncio.run(talk()) == ("dev-user: hello", b"cba")
    client.call("DELETE", f"deployments/{record['id']}")


# -- the door ---------------------------------------------------------------------------------


def test_the_door_of_a_private_deployment(sandbox, client, colleague, deployment, token):
    info, url = sandbox.info, deployment["url"]
    outside = Visitor(info, url)
    redirected = outside.ask()
    assert redirected.status_code == 302
    assert "/auth/realms/AnacondaPlatform/" in redirected.headers["Location"]
    assert outside.ask("x", "POST", data=b"").status_code == 401
    assert Visitor(info, url, token="wrong").ask().status_code == 401
    assert Visitor(info, url, token=token[:-2] + "xx").ask().status_code == 401
    assert Visitor(info, url, token=token).ask().text == "OK"
    assert Visitor(info, url, session=client.session).ask().text == "OK"

    stranger = Visitor(info, url, session=colleague.session)
    assert stranger.ask().status_code == 403
    path = f"deployments/{deployment['id']}"
    everyone = [{"id": "everyone", "type": "group", "permission": "r", "_record_type": "collaborator"}]
    assert client.call("PUT", f"{path}/collaborators", json=everyone).status_code == 200
    assert stranger.ask().text == "OK"
    assert path.rpartition("/")[2] in {d["id"] for d in colleague.get("deployments")}
    for method, what in [("DELETE", ""), ("POST", "/token"), ("PATCH", "")]:
        assert colleague.call(method, path + what, json={} if method == "PATCH" else None).status_code == 403
    client.call("PUT", f"{path}/collaborators", json=[])
    assert stranger.ask().status_code == 403


def test_a_browser_is_led_through_the_login_and_back(sandbox, deployment):
    fresh = Client(sandbox.info)
    page = fresh.session.get(deployment["url"] + "health")
    action = page.text.partition('action="')[2].partition('"')[0].replace("&amp;", "&")
    form = {"username": "dev-user", "password": credentials(sandbox.info)["users"]["dev-user"]}
    arrived = fresh.session.post(action, data=form)
    assert (arrived.url, arrived.text) == (deployment["url"] + "health", "OK")


def test_a_public_deployment_lets_everybody_in(sandbox, client, deployment):
    path = f"deployments/{deployment['id']}"
    assert client.call("PATCH", path, json={"public": True}).json()["public"] is True
    visitor = Visitor(sandbox.info, deployment["url"], token="the application's own business")
    heard = visitor.ask("about").json()["headers"]
    assert heard["Authorization"] == "Bearer the application's own business"
    assert "Anaconda-User" not in heard
    client.call("PATCH", path, json={"public": False})


def test_each_token_is_new_and_expires(sandbox, client, deployment, token):
    assert client.token(deployment["id"]) != token
    sandbox.control.change_settings(deployment_token_seconds=0)
    expired = client.token(deployment["id"])
    sandbox.control.change_settings(deployment_token_seconds=3600)
    assert Visitor(sandbox.info, deployment["url"], token=expired).ask().status_code == 401
    assert Visitor(sandbox.info, deployment["url"], token=token).ask().status_code == 200


def test_the_probe_for_a_used_endpoint(sandbox, deployment, token):
    """ae5-tools takes anything below 400 as `in use`."""
    path = "_errors/404.html"
    private = Visitor(sandbox.info, deployment["url"]).ask(path, "HEAD")
    assert private.status_code == 302
    inside = Visitor(sandbox.info, deployment["url"], token=token).ask(path, "HEAD")
    assert (inside.status_code, inside.headers["Content-Type"].split(";")[0]) == (200, "text/html")


# -- endings ----------------------------------------------------------------------------------


def test_a_crashed_server_comes_back_with_the_same_token(sandbox, client, project):
    record = client.deploy(project["id"], name="crashing")
    visitor = Visitor(sandbox.info, record["url"], token=client.token(record["id"]))
    first = visitor.ask("about").json()["pid"]
    assert visitor.ask("crash").status_code == 502
    wait_for(lambda: visitor.ask().status_code == 200, "the restart")
    assert visitor.ask("about").json()["pid"] != first
    logs = client.get(f"deployments/{record['id']}/logs")
    events = logs["events"]
    assert logs["name"].startswith(f"anaconda-app-{record['id'][3:]}-")
    assert logs["name"] in events
    assert "BackOff: the command ended with exit code 3" in events
    assert client.get(f"deployments/{record['id']}")["state"] == "started"
    client.call("DELETE", f"deployments/{record['id']}")


def test_stopping_ends_processes_tokens_and_the_record(sandbox, client, project):
    record = client.deploy(project["id"], name="ending", static_endpoint="ending")
    visitor = Visitor(sandbox.info, record["url"], token=client.token(record["id"]))
    pid = visitor.ask("about").json()["pid"]
    assert client.call("DELETE", f"deployments/{record['id']}").status_code == 200
    assert not psutil.pid_exists(pid)
    assert client.call("GET", f"deployments/{record['id']}").status_code == 404
    assert visitor.ask().status_code == 404

    again = client.deploy(project["id"], name="ending", static_endpoint="ending")
    assert (again["url"], again["id"] == record["id"]) == (record["url"], False)
    assert visitor.ask().status_code == 401
    client.call("DELETE", f"deployments/{again['id']}")


@pytest.mark.parametrize(
    ("project_file", "log"),
    [
        (PROJECT_FILE.replace("unix: exec python -IS app.py", "unix: exit 7"), ""),
        (
            PROJECT_FILE.replace("unix: exec python -IS app.py", "unix: no-such-program"),
            "no-such-program: ",
        ),  # not found, or a folder of PATH is closed
        (PROJECT_FILE.replace("unix: exec python -IS app.py", "windows: app.exe"), "has no `unix` line"),
        (
            PROJECT_FILE.replace("app.py\n    env_spec: default", "app.py\n    env_spec: gone"),
            "not defined",
        ),
        (PROJECT_FILE + "  NEEDED: null\n", "missing requirement to run this project: NEEDED"),
        (PROJECT_FILE + "  NEEDED: ''\n", "missing requirement to run this project: NEEDED"),
    ],
    ids=["exits", "no program", "not for unix", "no env_spec", "unset variable", "empty variable"],
)
def test_commands_that_fail_to_run(client, tmp_path, request, project_file, log):
    if "NEEDED" in project_file:  # among the variables, not after the env_specs
        line = project_file.splitlines()[-1]
        project_file = PROJECT_FILE.replace("variables:\n", f"variables:\n{line}\n")
    archive = make_project_archive(tmp_path / "p.tar.gz", project_file=project_file)
    project = client.upload(archive, f"failing {request.node.callspec.id}").json()
    record = client.deploy(project["id"], name=f"failing {request.node.callspec.id}")
    assert (record["state"], record["status_text"]) == ("failed", "App failed to run")
    assert log in client.get(f"deployments/{record['id']}/logs")["app"]
    assert client.call("DELETE", f"deployments/{record['id']}").status_code == 200
    assert client.call("DELETE", f"projects/{project['id']}").status_code == 200


def test_a_command_that_never_listens_fails_at_the_deadline(sandbox, client, project):
    sandbox.control.change_settings(start_deadline_seconds=0.3)
    try:
        record = client.deploy(project["id"], name="deaf", command="Sleep")
    finally:
        sandbox.control.change_settings(start_deadline_seconds=300)
    assert record["state"] == "failed"
    assert "timed out after" in client.get(f"deployments/{record['id']}/logs")["events"]
    client.call("DELETE", f"deployments/{record['id']}")


# -- names, endpoints, fields -----------------------------------------------------------------


def test_conflicts_name_the_other_side(client, project, deployment, project_archive):
    other = client.upload(project_archive, "other project").json()

    def reason(**changes):
        body = client.deployment_body(changes.pop("project", other["id"]), **changes)
        owner = body["source"].split("/")[4]
        answer = client.call("POST", f"projects/a0-{owner}/deployments", json=body)
        assert answer.status_code == 400
        return answer.reason

    claimed = 'Static endpoint "main-end" is already claimed by project dev-user/served'
    assert reason(name="new", static_endpoint="MAIN-end") == claimed
    in_use = 'Static endpoint "main-end" is already in use by deployment dev-user/main'
    assert reason(project=project["id"], name="new", static_endpoint="main-end") == in_use
    assert reason(name="main", static_endpoint="free-one") == "Deployment name is not unique: main"
    assert reason(name="new", static_endpoint="a_b.c") == "Invalid static endpoint: a_b.c"
    client.call("DELETE", f"projects/{other['id']}")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"command": "Nothing"}, "Unknown command Nothing"),
        ({"revision": "9.9"}, "Unknown revision 9.9"),
        ({"resource_profile": "huge"}, "Unknown resource profile huge"),
        ({"target": "moon"}, "Unknown target moon"),
        ({"source": "http://anaconda-enterprise-ap-storage/projects/x/archive/latest"}, "Source does not belong"),
        ({"public": "no"}, "Field public must be a boolean"),
        ({"replicas": 2}, "Sandbox: unknown field replicas"),
        ({"variables": {"A": 1}}, "Variable A must be a string"),
    ],
)
def test_deployments_that_are_refused(client, project, change, reason):
    body = client.deployment_body(project["id"], name="refused") | change
    answer = client.call("POST", f"projects/{project['id']}/deployments", json=body)
    assert answer.status_code == 400
    assert answer.reason.startswith(reason)


def test_an_endpoint_is_released_late(sandbox, client, project):
    record = client.deploy(project["id"], name="slow to go", static_endpoint="slow-to-go")
    sandbox.control.change_settings(endpoint_release_seconds=3600)
    client.call("DELETE", f"deployments/{record['id']}")
    visitor = Visitor(sandbox.info, record["url"])
    assert visitor.ask("_errors/404.html", "HEAD").status_code == 302
    body = client.deployment_body(project["id"], static_endpoint="slow-to-go", name="too early")
    answer = client.call("POST", f"projects/{project['id']}/deployments", json=body)
    assert answer.reason == 'Static endpoint "slow-to-go" is already in use: it is still being released'
    sandbox.control.change_settings(endpoint_release_seconds=0)
    assert visitor.ask("_errors/404.html", "HEAD").status_code == 404


def test_patching_the_profile_restarts_with_the_same_id(sandbox, client, project):
    record = client.deploy(project["id"], name="patched")
    visitor = Visitor(sandbox.info, record["url"], token=client.token(record["id"]))
    first = visitor.ask("about").json()["pid"]
    path = f"deployments/{record['id']}"
    assert client.call("PATCH", path, json={"resource_profile": "large"}).json()["resource_profile"] == "large"
    assert client.settled(record["id"])["state"] == "started"
    assert visitor.ask("about").json()["pid"] != first
    assert client.call("PATCH", path, json={"revision": "9.9"}).status_code == 400
    client.call("DELETE", path)


def test_the_volume_outlives_the_deployment(sandbox, client, project):
    counts = []
    for _ in range(2):
        record = client.deploy(project["id"], name="counting")
        counts.append(Visitor(sandbox.info, record["url"], token=client.token(record["id"])).ask("count").json())
        client.call("DELETE", f"deployments/{record['id']}")
    assert counts == [1, 2]


def test_the_platforms_page_frames_the_deployment(client, deployment):
    page = client.call("GET", f"/deployments/detail/{deployment['id']}/view")
    assert f'src="{deployment["url"]}"' in page.text
