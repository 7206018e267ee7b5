"""The control plane: faults before and after the effect, slow states, the call log."""

from __future__ import annotations

import contextlib
import threading

import pytest
import requests

from mlflow_ae5_deploy.sandbox.control_plane.client import RemoteControl
from mlflow_ae5_deploy.sandbox.settings import SandboxSettings
from tests.sandbox.support import Client, new_session, wait_for


@pytest.fixture(autouse=True)
def _clean(sandbox):
    sandbox.control.clear()
    yield
    sandbox.control.clear()
    sandbox.control.change_settings(**SandboxSettings(stop_grace_seconds=3).as_dict())


def put(client: Client, name: str) -> requests.Response:
    return client.call("POST", "credentials/user", json={"key": name, "value": "v"})


def names(client: Client) -> list[str]:
    found: list[str] = client.get("credentials/user")["data"]
    return found


@pytest.mark.parametrize(
    ("fault", "status", "done"),
    [
        ({"status": 503}, 503, False),
        ({"status": 504, "reason": "Gateway Timeout", "after": True}, 504, True),
        ({"status": 302, "headers": {"Location": "https://localhost/login"}}, 302, False),
        ({"drop": "before"}, None, False),
        ({"drop": "after"}, None, True),
        ({"delay": 0.01}, 200, True),
    ],
    ids=["refused", "acted and failed", "redirected", "dropped before", "dropped after", "slow"],
)
def test_each_fault_hits_before_or_after_the_effect(sandbox, client, fault, status, done):
    name = f"S{abs(hash(str(fault)))}"
    sandbox.control.add_fault(method="POST", path="credentials/user$", **fault)
    if status is None:
        with pytest.raises(requests.ConnectionError):
            put(client, name)
    else:
        assert put(client, name).status_code == status
    assert (name in names(client)) is done
    assert sandbox.control.faults() == []
    assert put(client, name).status_code == 200


def test_a_fault_waits_for_its_turn(sandbox, client):
    sandbox.control.add_fault(path="/projects$", skip=1, times=2, status=500, reason="Out of order")
    codes = [client.call("GET", "projects").status_code for _ in range(5)]
    assert codes == [200, 500, 500, 200, 200]
    sandbox.control.add_fault(method="GET", path="/projects$", times=None, status=503)
    assert {client.call("GET", "projects").status_code for _ in range(3)} == {503}
    assert client.call("GET", "jobs").status_code == 200


@pytest.mark.parametrize(
    ("more", "meanwhile", "done"),
    [({}, False, True), ({"drop": "before"}, False, False), ({"after": True}, True, True)],
    ids=["released", "dropped", "held after it acted"],
)
def test_a_held_request_waits_until_it_is_released(sandbox, client, more, meanwhile, done):
    name = f"HELD_{meanwhile}_{done}"
    sandbox.control.add_fault(method="POST", path="credentials/user$", hold=True, **more)

    def ask():
        with contextlib.suppress(requests.ConnectionError):
            put(client, name)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_for(lambda: sandbox.control.held() == 1, "the request to arrive")
    assert (name in names(Client(sandbox.info, "dev-user"))) is meanwhile
    sandbox.control.clear_faults()
    asking.join()
    assert sandbox.control.held() == 0
    assert (name in names(client)) is done


def test_requests_are_released_one_by_one_and_unharmed(sandbox, client):
    sandbox.control.add_fault(method="POST", path="credentials/user$", hold=True, drop="before", times=None)

    def ask():
        for name in ("FIRST", "SECOND"):
            put(client, name)

    asking = threading.Thread(target=ask)
    asking.start()
    for released in ([], ["FIRST"]):
        wait_for(lambda: sandbox.control.held() == 1, "the request to arrive")
        assert [name for name in names(Client(sandbox.info, "dev-user")) if name in ("FIRST", "SECOND")] == released
        sandbox.control.release()
    asking.join()
    assert {"FIRST", "SECOND"} <= set(names(client))
    sandbox.control.clear_faults()


@pytest.mark.parametrize(
    "fault", [{"drop": "sideways"}, {"drop": "before", "status": 500}, {"path": "("}, {"colour": "red"}]
)
def test_faults_that_make_no_sense(sandbox, fault):
    with pytest.raises((ValueError, TypeError)):
        sandbox.control.add_fault(**fault)
    assert sandbox.control.faults() == []


def test_the_call_log_holds_account_and_path_but_no_secret(sandbox, client):
    sandbox.control.clear_calls()
    put(client, "SEEN")
    client.call("GET", "projects/actions?q=create_action")
    Client(sandbox.info, "dev-user")
    calls = sandbox.control.calls("platform")
    listed = [(c.method, c.path, c.status, c.account) for c in calls]
    assert listed[:2] == [
        ("POST", "/api/v2/credentials/user", 200, "dev-user"),
        ("GET", "/api/v2/projects/actions", 200, "dev-user"),
    ]
    assert ("GET", "/login", 302, "") in listed
    assert [c for c in calls if "code=" in str(c) or "?" in c.path] == []


def test_a_state_shows_after_polls(sandbox, client, project_archive):
    project = client.upload(project_archive, "polled").json()
    sandbox.control.change_settings(state_polls=3)
    record = client.deploy(project["id"], wait=False)
    states = []
    while not states or states[-1] != "started":
        states.append(client.get(f"deployments/{record['id']}")["state"])
    assert record["state"] == "initial"
    assert len(states) >= 3
    assert set(states[:2]) <= {"initial", "starting"}
    client.call("DELETE", f"deployments/{record['id']}")


def test_a_state_shows_after_a_while(sandbox, client, project_archive):
    sandbox.control.change_settings(state_seconds=3600)
    project = client.upload(project_archive, "slow").json()
    assert project["action"]["done"] is False
    activity = client.get(f"projects/{project['id']}/activity?sort=-updated&page[size]=1")["data"]
    assert [(a["id"], a["done"]) for a in activity] == [(project["action"]["id"], False)]


def test_a_record_is_listed_late_but_there(sandbox, client, project_archive):
    sandbox.control.change_settings(list_visibility_polls=2)
    project = client.upload(project_archive, "late").json()
    seen = [project["id"] in {p["id"] for p in client.get("projects")} for _ in range(4)]
    assert seen == [False, False, True, True]
    assert client.get(f"projects/{project['id']}/revisions")


@pytest.mark.parametrize(
    "change", [{"colour": "red"}, {"state_polls": -1}, {"state_polls": "x"}, {"unauthenticated": "500"}]
)
def test_settings_that_make_no_sense(sandbox, change):
    before = sandbox.control.settings
    with pytest.raises(ValueError, match="setting"):
        sandbox.control.change_settings(**change)
    assert sandbox.control.settings == before


# -- from another process ---------------------------------------------------------------------


def test_the_control_port_wants_its_token(sandbox):
    answer = new_session(sandbox.info).get(sandbox.info.control_url + "/calls")
    assert answer.status_code == 401
    assert sandbox.info.control_token_file.stat().st_mode & 0o777 == 0o600


def test_the_same_knobs_over_the_control_port(sandbox, client):
    remote = RemoteControl(sandbox.info)
    remote.add_fault(path="/projects$", status=500)
    assert client.call("GET", "projects").status_code == 500
    assert [c.path for c in remote.calls("platform")] == ["/api/v2/projects"]
    assert remote.change_settings(state_polls=1)["state_polls"] == 1
    assert sandbox.control.settings.state_polls == 1
    assert remote.advance_clock(60) >= sandbox.control.now() - 1
    remote.add_fault(path="/x", status=500)
    remote.clear()
    assert (remote.calls(), sandbox.control.faults()) == ([], [])
    with pytest.raises(RuntimeError, match="unknown setting 'colour'"):
        remote.change_settings(colour="red")
