"""One server with one of everything, taken through all that happens to a server in its life. In order.

From SQLite to PostgreSQL, and from there to MariaDB, or to SQLite where there is none. What each feature's API answers
is compared after every step. The features are the rows of `filling.py`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow_ae5_server.server.variables import REPLICA

from tests.project_template import filling, mariadb
from tests.project_template.conftest import ENCODED, Ended, Project, Server, eventually
from tests.project_template.standby import Standby, following
from tests.project_template.stub_server import Answer, answering
from tools.reference import features

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SWITCHED_ON = {
    "MLFLOW_ENABLE_WORKSPACES": "true",
    "MLFLOW_SQL_TRACE_ROLLUPS_ENABLED": "true",
    "MLFLOW_TRACE_ROLLUPS_SCHEDULE": "* * * * *",
    "MLFLOW_ONLINE_SCORING_DEFAULT_TRACE_COMPLETION_BUFFER_SECONDS": "0",
    "MLFLOW_SERVER_JOB_ENABLE_PERIODIC_TASKS": "false",  # but where they are tested
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_GATEWAY_API_BASE_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_GATEWAY_API_BASE_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "9",
    "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "4",
    "MLFLOW_CRYPTO_KEK_PASSPHRASE": "a passphrase of the administrator's own",
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": "ZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY=",
}
JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true"}
PERIODIC = {**JOBS, "MLFLOW_SERVER_JOB_ENABLE_PERIODIC_TASKS": "true"}
ARCHIVED = "mlflow.trace.archiveLocation"
ROLLUPS = {f"sql_{kind}_daily_rollups" for kind in ("trace_metric", "span_cost", "assessment")}
ARCHIVAL = (
    "trace_archival: {{enabled: true, location: 'file://{artifacts}/archive', retention: 30d, interval_seconds: 60}}\n"
)
LLM_SAYS = '{"result": "yes", "rationale": "It is polite."}'
Answers = dict[str, list[Any]]


def receive(request: Any) -> Answer:
    """Answer a webhook with how it is signed, and a chat if it has the key."""
    if request.path.startswith("/v1/"):
        if request.headers["Authorization"] != f"Bearer {filling.LLM_KEY}":
            return 401, {}, b"{}"
        choice = {"index": 0, "message": {"role": "assistant", "content": LLM_SAYS}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        chat = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        return 200, {"Content-Type": "application/json"}, json.dumps(chat).encode()
    signature = request.headers["X-MLflow-Signature"]
    if signature is None:
        return 200, {}, b"not signed"
    signed = f"{request.headers['X-MLflow-Delivery-Id']}.{request.headers['X-MLflow-Timestamp']}.".encode()
    digest = hmac.new(filling.SECRET.encode(), signed + request.body, hashlib.sha256).digest()
    return 200, {}, b"signed" if signature == f"v1,{base64.b64encode(digest).decode()}" else b"signed with another key"


@dataclass
class Walk:
    project: Project
    reads: dict[str, list[filling.Read]] = field(default_factory=dict)
    first: Answers = field(default_factory=dict)
    restarted: set[str] = field(default_factory=set)  # what differs in the answers since the first restart

    @contextlib.contextmanager
    def server(self, **variables: str) -> Iterator[Server]:
        with self.project.server(MLFLOW_WORKERS="1", **variables) as server:
            yield server

    def answers(self, server: Server) -> Answers:
        return {feature: [ask(server.uri, read) for read in reads] for feature, reads in self.reads.items()}

    def changes(self) -> str:
        """What a new server on the data answers otherwise than the first one did."""
        with self.server() as server:
            return self.changes_at(server)

    def changes_at(self, server: Server) -> str:
        return "\n".join(differences(self.first, self.answers(server)))

    def run(self, command: str, *options: str, **variables: str) -> dict[str, Any]:
        ended = self.project.run(command, *options, timeout=240, **variables)
        assert ended.code == 0, ended.output
        return ended.last

    def lose_and_restore(self, uri: str) -> None:
        """Lose all data, and restore the newest snapshot into another database."""
        for lost in ("artifacts", "store"):
            shutil.rmtree(self.data / lost, ignore_errors=True)
        self.project.secret("MLFLOW_BACKEND_STORE_URI", uri)
        restored = self.run("Restore", "--snapshot", "latest")
        assert (restored["database_identical"], restored["artifacts_identical"]) == (True, True)
        assert [key["at_hand"] for key in restored["keys"]] == ["same", "same"]

    def is_worked_on(self) -> bool:
        """The job backend has archived a trace, scored another, and made rollups.

        As the database has it: requests would take its processors.
        """
        scored = f"assessments WHERE trace_id = '{self.reads['job backend'][1]['params']['trace_id']}'"
        return self.empty({f"trace_tags WHERE key = '{ARCHIVED}'", scored, *ROLLUPS}) == set()

    def empty(self, tables: set[str]) -> set[str]:
        """Those without a row in the SQLite database."""
        with contextlib.closing(sqlite3.connect(self.data / "store" / "mydb.sqlite")) as connection:
            return {table for table in tables if not connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()}  # noqa: S608

    @property
    def data(self) -> Path:
        return self.project.folder / "data/mlflow/standalone"


def differences(before: Any, after: Any, where: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before.keys() | after.keys():
            yield from differences(before.get(key), after.get(key), f"{where}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from differences(*pair, f"{where}/{number}")
    elif before != after:
        yield f"{where}: {before!r} is now {after!r}"


def ask(uri: str, read: filling.Read) -> Any:
    answer = requests.request(url=uri + read["path"], timeout=30, **{k: v for k, v in read.items() if k != "path"})
    assert answer.status_code == 200, (read, answer.text)
    return ordered(answer.json()) if "json" in answer.headers.get("content-type", "") else answer.text


def ordered(value: Any) -> Any:
    """With tags, parameters and keys of JSON in an order: databases have orders of their own."""
    if isinstance(value, str) and value.startswith('{"'):
        return ordered(json.loads(value))
    if isinstance(value, dict):
        return {key: ordered(inner) for key, inner in value.items()}
    if isinstance(value, list):
        inner = [ordered(item) for item in value]
        return (
            sorted(inner, key=json.dumps) if all(isinstance(item, dict) and "key" in item for item in inner) else inner
        )
    return value


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """On SQLite, filled."""
    walk = Walk(Project(tmp_path_factory.mktemp("walk")))
    for name, value in SWITCHED_ON.items():
        walk.project.secret(name, value)
    walk.project.secret("MLFLOW_TRACE_ARCHIVAL_CONFIG", ARCHIVAL.format(artifacts=walk.data / "artifacts"))
    with answering(receive) as receiver:
        with walk.server(**JOBS) as server:
            home = str(walk.project.folder)
            environment = {"PATH": os.environ["PATH"], "HOME": home, "MLFLOW_DISABLE_TELEMETRY": "true"}
            walk.reads = json.loads(
                program(walk.project.folder, environment, filling.__file__, server.uri, receiver).splitlines()[-1]
            )
            filled = walk.answers(server)
        with walk.server(**PERIODIC) as server:  # they run when the job backend starts, then every minute
            assert eventually(walk.is_worked_on, 200), server.log()[-5000:]
            walk.first = walk.answers(server)
        walk.restarted = {difference.partition(": ")[0] for difference in differences(filled, walk.first)}
        yield walk


def program(folder: Path, environment: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_on(walk: Walk) -> None:
    assert [feature for feature, answers in walk.first.items() if not all(answers)] == []
    tested = [answer["result"]["response_body"] for answer in walk.first["webhooks, with and without a secret"][-2:]]
    assert tested == ["not signed", "signed"]
    scored = walk.first["job backend"][0]["result"].values()
    assert [found["feedback"]["value"] for trace in scored for found in trace["assessments"]] == ["yes"]
    scored = walk.first["job backend"][1]["trace"]["trace_info"]["assessments"]
    assert [found["feedback"]["value"] for found in scored] == ["yes"]
    assert [answer["errors"] for answer in walk.first["GraphQL"]] == [None]
    assert list((walk.data / "artifacts" / "archive").rglob("*.pb"))


def test_every_table_of_a_feature_has_rows(walk: Walk) -> None:
    tables = {table for feature in features().features if feature["name"] in walk.reads for table in feature["tables"]}
    assert walk.empty(tables) == {
        *("sql_trace_rollup_rebuild_queue", "span_metrics", "trace_metrics"),  # MLflow fills these no more
        *("job_locks", "scheduler_leases"),  # only while such a job runs
    }


def test_restart(walk: Walk) -> None:
    """Its job backend has done its periodic tasks; nothing else is changed."""
    archived, scored = "/trace archival/0/trace/trace_info/tags", "/job backend/1/trace/trace_info/assessments"
    assert walk.restarted == {f"{archived}/{ARCHIVED}", f"{archived}/mlflow.trace.spansLocation", scored}


def test_backup_and_drill(walk: Walk) -> None:
    assert walk.run("Backup")["outcome"] == "done"
    assert walk.run("Drill")["outcome"] == "done"


@pytest.fixture(scope="module")
def standby(tmp_path_factory: pytest.TempPathFactory, postgres: Any) -> Iterator[Standby]:
    with following(postgres, tmp_path_factory.mktemp("standby")) as standby:
        yield standby


def test_restore_and_gc(walk: Walk, postgres: Any, standby: Standby) -> None:
    """From here on the server reads from a standby, which the jobs do not."""
    uri = postgres.create("walk")
    walk.project.secret(REPLICA, standby.uri("walk"))
    standby.hold_back()
    walk.lose_and_restore(uri)
    early = refused(walk, MLFLOW_TRACKING_DATABASE_WAIT="0")
    assert early.code == 33, early.output
    assert "/walk does not match the database: its schema is empty, and this MLflow needs " in early.stderr
    standby.catch_up()
    with walk.server() as server:
        assert "on at most 13 connections (as MLFLOW_SQLALCHEMYSTORE_POOL_SIZE says)" in server.log()
        assert "read replica: postgresql" in server.log()
        assert ENCODED not in server.log()
        assert walk.changes_at(server) == ""
        standby.hold_back()
        run = server.new_run()
        assert (asked_for(server, run), collected(walk, server)) == (404, [1, 1])
        standby.catch_up()
        assert asked_for(server, run) == 200
        standby.hold_back()
        server.api("runs/delete", run_id=run)
        assert (asked_for(server, run), collected(walk, server)) == (200, [1, 0])
        standby.catch_up()
        assert asked_for(server, run) == 404
        assert walk.changes_at(server) == ""


def asked_for(server: Server, run: str) -> int:
    return server.call("GET", "/api/2.0/mlflow/runs/get", params={"run_id": run}).status_code


def collected(walk: Walk, server: Server) -> list[int]:
    """The runs and the experiments that a collection removes."""
    done = walk.run(
        "GarbageCollection", MLFLOW_TRACKING_GC_TTL="0d0h0m0s", MLFLOW_TRACKING_GC_ORPHANS="remove",
        MLFLOW_TRACKING_URI=server.uri,
    )  # fmt: skip
    return [done[kind]["removed"] for kind in ("runs", "experiments")]


def test_a_standby_of_another_database_is_refused(walk: Walk, standby: Standby) -> None:
    """As it is after a restore into a new database."""
    ended = refused(walk, **{REPLICA: standby.uri("mlflow")})
    assert ended.code == 3, ended.output
    assert re.search(r"/mlflow is a standby of another database than \S+/walk\n", ended.stderr)


def refused(walk: Walk, **variables: str) -> Ended:
    return walk.project.run(
        "TrackingServer", "--anaconda-project-address=127.0.0.1", "--anaconda-project-port=0", **variables
    )


def test_upgrade(walk: Walk) -> None:
    assert walk.run("DatabaseUpgrade")["outcome"] == "unchanged"
    assert walk.changes() == ""


def test_backup_and_drill_from_there(walk: Walk) -> None:
    test_backup_and_drill(walk)


def test_restore_into_a_third_database(walk: Walk, request: pytest.FixtureRequest) -> None:
    other = f"sqlite:///{walk.data}/other.sqlite"
    walk.lose_and_restore(request.getfixturevalue("mariadb").create("walk") if mariadb.program() else other)
    (walk.project.secrets / REPLICA).unlink()
    assert walk.changes() == ""
