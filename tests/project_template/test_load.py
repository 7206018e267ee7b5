"""Many clients at once: sizes that cannot block each other, and an answer that clients repeat for what does not fit."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow_ae5_server.database.connection import Database, check_uri, connect_engine
from mlflow_ae5_server.server import admission, capacity

from tests.project_template import mariadb as mariadbs
from tests.project_template.stub_server import Answer, answering

LOG_BATCH = "/api/2.0/mlflow/runs/log-batch"


# Sizes


SIZES = [
    # workers, dialect, limit, databases, pool -> workers, working, connections
    (2, "postgresql", 97, 1, None, 2, 6, 22),
    (4, "postgresql", 97, 1, None, 4, 2, 10),
    (2, "postgresql", None, 1, None, 2, 7, 25),
    (4, "postgresql", 500, 1, None, 4, 8, 28),
    (4, "postgresql", 20, 1, None, 1, 2, 10),
    (4, "postgresql", 5, 1, None, 1, 1, 7),
    (2, "postgresql", 97, 2, None, 2, 2, 10),
    (2, "mysql", 151, 1, None, 2, 8, 28),
    (2, "mssql", None, 1, None, 2, 7, 25),
    (2, "postgresql", 97, 1, 40, 2, 8, 40),
    (2, "postgresql", 97, 1, 15, 2, 3, 15),
    (2, "postgresql", 97, 1, 3, 2, 1, 7),
    (1, "sqlite", None, 1, None, 1, 4, 16),
    (2, "sqlite", None, 1, None, 2, 2, 10),
    (4, "sqlite", None, 1, None, 4, 2, 10),
]


@pytest.mark.parametrize("row", SIZES)
def test_sizes_follow_from_the_limit_of_the_database_server(row: tuple[Any, ...]) -> None:
    workers, dialect, limit, databases, pool, *expected = row
    found = capacity.choose(workers, dialect, limit, databases, pool)
    assert [found.workers, found.working, found.connections] == expected
    if limit is not None and limit >= 2 * capacity.needed(1) and pool is None:
        assert found.workers * found.connections * databases <= limit / 2
    environ: dict[str, str] = {}
    found.apply(environ)
    assert capacity.configured_pool(environ) == found.connections


@pytest.mark.parametrize(
    ("environ", "pool"),
    [
        ({}, None),
        ({"MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "5"}, 15),
        ({"MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "5", "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "0"}, 15),
        ({"MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "5", "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "3"}, 8),
        ({"MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "many"}, None),
    ],
)
def test_a_pool_that_was_configured_is_the_limit(environ: dict[str, str], pool: int | None) -> None:
    assert capacity.configured_pool(environ) == pool


@pytest.mark.parametrize("working", sorted({row[6] for row in SIZES}))
def test_requests_that_hold_connections_and_ask_for_more_all_end(working: int) -> None:
    pool = sqlalchemy.QueuePool(_Connection, pool_size=capacity.needed(working) - 1, max_overflow=1, timeout=5)
    threads = working + 1  # and the event loop's
    everybody_holds_all_but_one = threading.Barrier(threads, timeout=30)

    def request(depth: int = capacity.DEPTH) -> None:
        with closing(pool.connect()):
            if depth == 2:
                everybody_holds_all_but_one.wait()
            if depth > 1:
                request(depth - 1)

    with ThreadPoolExecutor(threads) as executor:
        for done in [executor.submit(request) for _ in range(threads)]:
            done.result()


class _Connection:
    def rollback(self) -> None: ...

    def close(self) -> None: ...


@pytest.mark.slow
def test_no_request_holds_more_connections_than_assumed(tmp_path: Path, empty_file: Path) -> None:
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    (tmp_path / "x.sqlite").write_bytes(empty_file.read_bytes())
    store = SqlAlchemyStore(f"sqlite:///{tmp_path}/x.sqlite", "mlflow-artifacts:/")
    run = store.create_run("0", "me", 1, [], "name").info.run_id
    held, most = 0, 0

    def count(change: int) -> None:
        nonlocal held, most
        held += change
        most = max(most, held)

    sqlalchemy.event.listen(store.engine, "checkout", lambda *_: count(1))
    sqlalchemy.event.listen(store.engine, "checkin", lambda *_: count(-1))
    tags = [RunTag("mlflow.runName", "another"), RunTag("t", "v")]
    store.log_batch(run, [Metric("m", 1.0, 1, 1)], [Param("p", "v")], tags)
    store.engine.dispose()
    assert most == capacity.DEPTH


# Admission


class Held:
    """An application whose requests wait for `go`."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        self.inside.append(scope["path"])
        if scope["path"] != "/api/ready":
            await self.go.wait()
        await send({"type": "http.response.start", "status": int(body or 200), "headers": []})
        if scope["path"] == "/api/ready":
            await self.go.wait()  # a client that takes its time to read
        await send({"type": "http.response.body", "body": b""})


async def ask(application: Any, path: str, *chunks: bytes) -> dict[str, Any]:
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await application({"type": "http", "method": "POST", "path": path, "headers": []}, receive, send)
    return {"status": sent[0]["status"], "body": sent[1]["body"], **{n.decode(): v for n, v in sent[0]["headers"]}}


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def bounded(held: Held, waiting: int = 3, seconds: float = 3600) -> Any:
    return admission.bound(held, admission.Bounds(2, waiting, seconds), "/prefix", retry_after=lambda: 7)


def test_requests_that_do_not_fit_get_503_at_once() -> None:
    async def scenario() -> None:
        held = Held()
        application = bounded(held)
        requests = [asyncio.create_task(ask(application, LOG_BATCH)) for _ in range(5)]
        await settle()
        assert len(held.inside) == 2
        refused = await ask(application, LOG_BATCH)
        assert (refused["status"], refused["retry-after"]) == (503, b"7")
        assert json.loads(refused["body"])["error_code"] == "TEMPORARILY_UNAVAILABLE"
        held.go.set()
        assert [answer["status"] for answer in await asyncio.gather(*requests)] == [200] * 5
        assert (await ask(application, LOG_BATCH))["status"] == 200

    asyncio.run(scenario())


def test_nobody_waits_for_longer_than_the_bound() -> None:
    async def scenario() -> None:
        held = Held()
        application = bounded(held, seconds=0)
        requests = [asyncio.create_task(ask(application, LOG_BATCH)) for _ in range(2)]
        await settle()
        assert [(await ask(application, LOG_BATCH))["status"] for _ in range(4)] == [503] * 4
        held.go.set()
        assert [answer["status"] for answer in await asyncio.gather(*requests)] == [200] * 2
        assert (await ask(application, LOG_BATCH))["status"] == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/health",
        "/version",
        "/static-files/main.js",
        "/get-artifact",
        "/model-versions/get-artifact",
        "/gateway/mine/mlflow/invocations",
        "/api/2.0/mlflow-artifacts/artifacts/0/r/artifacts/big.bin",
        "/ajax-api/2.0/mlflow-artifacts/mpu/create/x",
        "/ajax-api/2.0/mlflow/upload-artifact",
        "/ajax-api/3.0/mlflow/get-trace-artifact",
        "/prefix/ajax-api/2.0/mlflow/artifacts/list",
        "/api/3.0/mlflow/server-info",
    ],
)
def test_pages_probes_and_files_neither_wait_nor_hold_a_slot(path: str) -> None:
    async def scenario() -> None:
        held = Held()
        application = bounded(held, waiting=0)
        requests = [asyncio.create_task(ask(application, path)) for _ in range(3)]
        requests += [asyncio.create_task(ask(application, LOG_BATCH)) for _ in range(2)]
        await settle()
        assert (await ask(application, LOG_BATCH))["status"] == 503
        requests += [asyncio.create_task(ask(application, path)) for _ in range(3)]
        await settle()
        assert Counter(held.inside) == {path: 6, LOG_BATCH: 2}
        held.go.set()
        assert {answer["status"] for answer in await asyncio.gather(*requests)} == {200}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "path", ["/prefix/api/2.0/mlflow/runs/search", "/ajax-api/2.0/mlflow/runs/search", "/graphql", "/v1/traces"]
)
def test_what_works_on_the_database_waits(path: str) -> None:
    assert admission.uses_database(path.removeprefix("/prefix"))


def test_a_slow_client_holds_no_slot() -> None:
    async def scenario() -> None:
        held = Held()
        application = bounded(held, waiting=0)
        reading = [asyncio.create_task(ask(application, "/api/ready")) for _ in range(5)]
        sending = asyncio.create_task(application({"type": "http", "path": LOG_BATCH}, held.go.wait, None))
        await settle()
        requests = [asyncio.create_task(ask(application, LOG_BATCH, b"2", b"01")) for _ in range(2)]
        await settle()
        assert Counter(held.inside) == {"/api/ready": 5, LOG_BATCH: 2}
        sending.cancel()
        held.go.set()
        assert {answer["status"] for answer in await asyncio.gather(*reading)} == {200}
        assert [answer["status"] for answer in await asyncio.gather(*requests)] == [201, 201]  # its body was whole

    asyncio.run(scenario())


def test_what_mlflow_cannot_do_now_says_when_to_come_back_too() -> None:
    async def scenario() -> None:
        held = Held()
        held.go.set()
        answer = await ask(bounded(held), LOG_BATCH, b"503")
        assert (answer["status"], answer["retry-after"]) == (503, b"7")

    asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize(("status", "repeated"), [(503, True), (400, False)])
def test_mlflows_client_repeats_503_and_no_error_of_its_own(status: int, repeated: bool) -> None:
    import mlflow

    requests: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        requests.append(request.path)
        if len(requests) > 1:
            return 200, {}, b"{}"
        return status, {"Retry-After": "0"}, b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "busy"}'

    with answering(answer) as uri, nullcontext() if repeated else pytest.raises(mlflow.MlflowException):
        mlflow.MlflowClient(uri).log_batch("r" * 32, params=[mlflow.entities.Param("a", "b")])
    assert requests == [LOG_BATCH] * (2 if repeated else 1)


# For real


@pytest.mark.slow
def test_forty_clients_lose_nothing_that_was_acknowledged(deployed: Any) -> None:
    server = deployed.server
    runs = [server.api("runs/create", experiment_id="0")["run"]["info"]["run_id"] for _ in range(40)]
    answers: Counter[int] = Counter()

    def client(run: str) -> int:
        acknowledged = 0
        for step in range(3):
            metrics = [{"key": "m", "value": 1.0, "timestamp": 1, "step": step}]
            tags = [{"key": "mlflow.runName", "value": f"name {step}"}]  # which takes all connections that one can
            answer = server.call("POST", LOG_BATCH, json={"run_id": run, "metrics": metrics, "tags": tags})
            answers[answer.status_code] += 1
            acknowledged += answer.status_code == 200
            assert answer.status_code == 200 or (answer.status_code, "Retry-After" in answer.headers) == (503, True)
            assert server.call("GET", "/health").text == "OK"
        return acknowledged

    with ThreadPoolExecutor(len(runs)) as executor:
        acknowledged = list(executor.map(client, runs))
    assert answers[200] > 0
    engine = connect_engine(check_uri(deployed.database))
    with engine.connect() as connection:
        kept = dict(
            connection.execute(sqlalchemy.text("SELECT run_uuid, count(*) FROM metrics GROUP BY run_uuid")).all()
        )
    assert all(kept.get(run, 0) >= count for run, count in zip(runs, acknowledged, strict=True))


@pytest.mark.slow
def test_a_server_stays_below_its_share_of_connections(on_postgres: Any, postgres: Any) -> None:
    allowed = capacity.read_limit(check_uri(on_postgres.database))
    assert allowed is not None
    with ThreadPoolExecutor(40) as executor:
        body = {"experiment_id": "0"}
        list(
            executor.map(lambda _: on_postgres.server.call("POST", "/api/2.0/mlflow/runs/create", json=body), range(80))
        )
    engine = connect_engine(check_uri(on_postgres.database))
    with engine.connect() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'mlflow-ae5-server%'"
        query += " AND datname = current_database()"
        assert 1 < connection.execute(sqlalchemy.text(query)).scalar_one() <= allowed // 2 + 1


@pytest.mark.slow
def test_the_limit_of_postgresql_is_the_least_of_its_limits(postgres: Any) -> None:
    found = check_uri(postgres.create("limits"))
    whole = capacity.read_limit(found)
    assert whole is not None
    postgres.sql(f"ALTER ROLE mlflow_test CONNECTION LIMIT {whole - 1}")
    try:
        assert capacity.read_limit(found) == whole - 1
        postgres.sql('ALTER DATABASE "limits" CONNECTION LIMIT 11')
        assert capacity.read_limit(found) == 11
    finally:
        postgres.sql("ALTER ROLE mlflow_test CONNECTION LIMIT -1")


@mariadbs.needed
@pytest.mark.slow
def test_the_limit_of_mysql(mariadb: Any) -> None:
    limit = capacity.read_limit(check_uri(mariadb.create("limits")))
    assert limit is not None
    assert limit > 1


def test_a_limit_that_is_not_reported_is_unknown() -> None:
    assert (
        capacity.read_limit(Database("postgresql+psycopg://u@127.0.0.1:1/x", "postgresql", "psycopg", "", None)) is None
    )
    assert capacity.read_limit(Database("sqlite://", "sqlite", "pysqlite", "", None)) is None
