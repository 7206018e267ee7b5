"""TrackingServer for real: who gets in, who may frame it, how it ends, what it does not say."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import sqlite3
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow_ae5_server.commands import tracking_server as server
from mlflow_ae5_server.database import locks
from mlflow_ae5_server.database.connection import check_uri
from mlflow_ae5_server.restore import journal
from mlflow_ae5_server.restore.open import open_saved_copies

from tests.project_template.conftest import eventually, open_to_others

pytestmark = pytest.mark.slow

SEARCH = "/api/2.0/mlflow/experiments/search"
ENDPOINT = "dev-mlflow-tracking-server.ae5.example.com"
SECRETS = ("pa55-w@rd/%secret", "pa55-w%40rd%2F%25secret")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Host": ENDPOINT}, 200),
        ({"Host": ENDPOINT + ":443"}, 200),
        ({"Host": "localhost:8086"}, 200),
        ({"Host": "10.1.2.3:8086"}, 200),
        ({"Host": "evil.example.net"}, 403),
        ({"Host": ENDPOINT + ".evil.example.net"}, 403),
        ({"Host": "10.evil.example"}, 403),
        ({"Host": "192.168.evil.example"}, 403),
        ({"Origin": f"https://{ENDPOINT}"}, 200),
        ({"Origin": "https://evil.example.net"}, 403),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "http://127.0.0.1:8888"}, 403),
    ],
)
def test_the_api_answers_the_endpoint_and_nobody_else(on_sqlite: Any, headers: dict[str, str], expected: int) -> None:
    answer = on_sqlite.server.call("POST", SEARCH, json={"max_results": 1}, headers=headers)
    assert answer.status_code == expected


def test_nobody_else_may_read_or_change_what_the_server_keeps(on_sqlite: Any) -> None:
    on_sqlite.server.new_run()
    assert open_to_others(on_sqlite.project.folder / "data") == []


@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (f"https://{ENDPOINT}", True),
        ("http://localhost:3000", False),
        ("http://127.0.0.1:8888", False),
        ("http://[::1]:8888", False),
        ("https://evil.example.net", False),
    ],
)
def test_credentials_are_for_the_endpoints_own_pages(on_sqlite: Any, method: str, origin: str, allowed: bool) -> None:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x"}
    for path in ("/api/2.0/mlflow/experiments/get?experiment_id=0", "/graphql", "/health"):
        answer = on_sqlite.server.call(method, path, headers=headers)
        assert (answer.headers.get("Access-Control-Allow-Origin") == origin) is allowed
        assert ("Access-Control-Allow-Credentials" in answer.headers) is allowed


@pytest.mark.parametrize("path", ["/", "/static-files/manifest.json", "/version"])
def test_only_the_platform_may_frame_the_ui(on_sqlite: Any, path: str) -> None:
    headers = on_sqlite.server.call("GET", path).headers
    assert headers["Content-Security-Policy"] == "frame-ancestors 'self' https://ae5.example.com:8443"
    assert "X-Frame-Options" not in headers


def test_nobody_is_local_to_the_assistant(on_sqlite: Any) -> None:
    answer = on_sqlite.server.call("POST", "/ajax-api/3.0/mlflow/assistant/message", json={"message": "ls"})
    assert answer.status_code == 403


def test_the_parent_shares_no_connection_and_no_thread_with_its_workers(deployed: Any) -> None:
    parent, *workers = deployed.server.processes()
    assert len(workers) == 2
    assert parent.num_threads() == 1
    assert [name for name in open_files(parent) if name.endswith(("mydb.sqlite", "-wal", "-journal"))] == []
    sockets = {name for name in open_files(parent) if name.startswith("socket:")}
    assert len(sockets) <= 2  # the one it listens on, and the connection that marks the database as in use
    for worker in workers:
        assert len(sockets & open_files(worker)) == 1


def open_files(process: psutil.Process) -> set[str]:
    return {str(entry.readlink()) for entry in Path(f"/proc/{process.pid}/fd").iterdir()}


def test_a_running_server_marks_its_database(deployed: Any) -> None:
    assert "tracking server" in str(locks.in_use(check_uri(deployed.database)))


def test_no_password_in_any_command_line_or_log(on_postgres: Any) -> None:
    command_lines = [" ".join(process.cmdline()) for process in on_postgres.server.processes()]
    for secret in SECRETS:
        assert not [line for line in command_lines if secret in line]
        assert secret not in on_postgres.server.log()
    assert re.search(r"MLFLOW_BACKEND_STORE_URI +secret +\(not shown\)", on_postgres.server.log())


def test_a_worker_that_dies_is_replaced_and_sigterm_ends_all_with_code_0(on_sqlite: Any) -> None:
    with on_sqlite.project.server() as server:  # a second server on the same database
        first = server.processes()[1]
        first.kill()
        assert eventually(lambda: len(server.processes()) == 3 and first not in server.processes())
        assert server.call("POST", SEARCH, json={"max_results": 1}).status_code == 200
        everybody = server.processes()
        assert server.stop() == 0
        assert psutil.wait_procs(everybody, timeout=5)[1] == []
        assert "Application shutdown complete" in server.log()


def job_runners(server: Any) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.Error):  # a zombie, or gone
            found += [child] if "mlflow.server.jobs._job_runner" in child.cmdline() else []
    return found


def test_a_job_runner_that_dies_is_replaced_and_ends_with_the_server(project: Any) -> None:
    with project.server(MLFLOW_WORKERS="1", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="true") as server:
        (first,) = job_runners(server)
        first.kill()
        assert eventually(lambda: [runner for runner in job_runners(server) if runner != first] != [])
        assert server.call("POST", SEARCH, json={"max_results": 1}).status_code == 200
        everybody = server.processes()
        assert server.stop() == 0
        assert psutil.wait_procs(everybody, timeout=20)[1] == []
        assert "the job runner exited with code -9; starting another" in server.log()


def test_a_port_in_use_is_reported_at_once(project: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = project.run("TrackingServer", "--anaconda-project-address=127.0.0.1", f"--anaconda-project-port={port}")
    assert ended.code == 3
    assert f"port {port} on 127.0.0.1 is in use" in ended.stderr


def test_answers_are_sent_at_once() -> None:
    async def options_of_a_connection(listener: socket.socket) -> int:
        met: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
        async with await asyncio.start_server(lambda _reader, writer: met.set_result(writer), sock=listener):
            _reader, client = await asyncio.open_connection(*listener.getsockname())
            answering = await met
            value: int = answering.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for writer in (client, answering):
                writer.close()
                await writer.wait_closed()
        return value

    assert asyncio.run(options_of_a_connection(server.bind(server.HttpOptions("127.0.0.1", 0)))) != 0


def test_another_schema_is_refused_and_left_alone(project: Any) -> None:
    file = project.folder / "old.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.execute("INSERT INTO alembic_version VALUES ('451aebb31d03')")
    before = file.read_bytes()
    ended = project.run(
        "TrackingServer", "--anaconda-project-address=127.0.0.1", "--anaconda-project-port=0",
        MLFLOW_BACKEND_STORE_URI="sqlite:///old.sqlite",
    )  # fmt: skip
    assert ended.code == 33
    assert "run the command DatabaseUpgrade" in ended.stderr
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("uri", "code", "words"),
    [
        ("{wrong}", 11, "refused the login"),
        ("{absent}", 3, "does not exist"),
        ("postgresql://mlflow:pa55-w%40rd%2F%25secret@127.0.0.1:1/x", 10, "did not answer within 1 s"),
    ],
)
def test_a_database_that_cannot_be_used(project: Any, postgres: Any, uri: str, code: int, words: str) -> None:
    uri = uri.format(wrong=postgres.uri("postgres", "wr0ng-password"), absent=postgres.uri("absent"))
    ended = project.run(
        "TrackingServer", "--anaconda-project-address=127.0.0.1", "--anaconda-project-port=0",
        MLFLOW_BACKEND_STORE_URI=uri, MLFLOW_TRACKING_DATABASE_WAIT="1",
    )  # fmt: skip
    assert ended.code == code, ended.output
    assert words in ended.stderr
    for secret in (*SECRETS, "wr0ng-password"):
        assert secret not in ended.output


@pytest.mark.parametrize("command", ["TrackingServer", "DatabaseUpgrade"])
def test_what_a_restore_has_left_half_done_is_refused_and_no_database_is_made(project: Any, command: str) -> None:
    data = project.folder / "data/mlflow/standalone"
    (data / "store").mkdir(parents=True)
    running = journal.RestoreInProgress(
        "restore-artifacts", "20260102T030405Z-abcdef", "2026-01-02T03:04:05+00:00", "elsewhere:1"
    )
    journal.RestoreJournalFile(open_saved_copies(str(data / "artifacts"))).begin(running)
    ended = project.run(command, "--anaconda-project-address=127.0.0.1", "--anaconda-project-port=0")
    assert ended.code == 22, ended.output
    assert "a restore of the snapshot 20260102T030405Z-abcdef" in ended.stderr
    assert [file.name for file in (data / "store").iterdir() if file.suffix != ".lock"] == []


def test_folders_are_made_for_local_stores_only(project: Any, tmp_path: Path) -> None:
    ended = project.run(
        "TrackingServer", "--anaconda-project-address=127.0.0.1", "--anaconda-project-port=0",
        MLFLOW_ARTIFACTS_DESTINATION="s3://bucket/artifacts",
        MLFLOW_BACKEND_STORE_URI="postgresql://u:pppp@127.0.0.1:1/x", MLFLOW_TRACKING_DATABASE_WAIT="0",
    )  # fmt: skip
    assert ended.code == 10
    assert not list(project.folder.rglob("*s3*"))
    assert not (project.folder / "data").exists()
