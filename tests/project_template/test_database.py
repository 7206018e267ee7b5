"""Database URIs and probes of the server: every way they can be wrong, and the answer to it."""

from __future__ import annotations

import gzip
import importlib.util
import json
import sqlite3
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import (
    Configuration,
    Locked,
    LoginFailed,
    ProjectError,
    SchemaMismatch,
    Unreachable,
)
from mlflow_ae5_server.common.server_probe import Experiment, Prober
from mlflow_ae5_server.database import connection, locks
from mlflow_ae5_server.database.connection import DRIVERS, _installed_driver, check_uri, wait_until_ready
from mlflow_ae5_server.database.schema import SchemaState, require_current, schema_of

from tests.project_template.stub_server import Answer, answering


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        (None, "is not set"),
        ("not a uri", "is not a database URI"),
        ("postgresql://u:p@h:port/d", "is not a database URI"),
        ("oracle+oracledb://u:p4ss@h/d", "which MLflow does not know"),
        ("postgres://u:p4ss@h/d", "write postgresql://"),
        ("mysql+mysqlconnector://u:p4ss@h/d", "mysql-connector-python"),
        ("postgresql+asyncpg://u:p4ss@h/d", "write postgresql+psycopg://"),
        ("sqlite://", "names no file"),
        ("s3://bucket/db", "which MLflow does not know"),
    ],
)
def test_uris_that_cannot_work(uri: str | None, words: str) -> None:
    with pytest.raises(Configuration) as caught:
        check_uri(uri)
    assert words in str(caught.value)
    assert "p4ss" not in str(caught.value)


def test_a_missing_driver_is_named() -> None:
    if importlib.util.find_spec("pymssql"):
        pytest.skip("the driver is installed here")
    with pytest.raises(Configuration, match="pymssql"):
        check_uri("mssql+pymssql://u:p@h/d")


def test_the_driver_is_written_into_the_uri_and_nothing_else_is_touched() -> None:
    checked = check_uri("postgresql://u:p%40%2F@/d?host=/tmp/x&sslmode=disable")
    assert checked.uri == "postgresql+psycopg://u:p%40%2F@/d?host=/tmp/x&sslmode=disable"
    assert "p%40" not in repr(checked)


def test_waiting_ends_at_the_deadline_with_the_drivers_reason() -> None:
    time, message = Time(), []
    store = check_uri("postgresql://u:p4ssword@127.0.0.1:1/d")
    with pytest.raises(Unreachable, match=r"within 30 s.*refused") as caught:
        wait_until_ready(store, 30, clock=time.clock, sleep=time.sleep, say=message.append)
    assert 20 < time.now <= 30
    assert len(message) == 1
    assert "p4ssword" not in str(caught.value) + message[0]


def test_a_file_that_is_no_database_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to have a header " * 40)
    time = Time()
    for uri in (f"sqlite:///{tmp_path}/text", f"sqlite:///{tmp_path}/absent/folder/x.sqlite"):
        with pytest.raises(Configuration, match="cannot be used"):
            wait_until_ready(check_uri(uri), 30, clock=time.clock, sleep=time.sleep)
    assert time.now == 0


@pytest.mark.parametrize(
    ("state", "error", "words"),
    [
        ("outdated", SchemaMismatch, "DatabaseUpgrade"),
        ("unknown", SchemaMismatch, "newer MLflow"),
        ("empty", Configuration, "no MLflow tables"),
    ],
)
def test_schemas_that_do_not_fit(state: str, error: type[ProjectError], words: str) -> None:
    store = check_uri("sqlite:///x.sqlite")
    with pytest.raises(error, match=words):
        require_current(SchemaState(state, "abc", "def"), store)


def test_tables_that_are_missing_are_named_and_not_called_another_revision(tmp_path: Path) -> None:
    packed = Path(__file__).parent / "fixtures/mlflow-2.22.0.sqlite.gz"
    file = tmp_path / "x.sqlite"
    file.write_bytes(gzip.decompress(packed.read_bytes()))
    store = check_uri(f"sqlite:///{file}")
    expected = schema_of(store).expected
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (expected,))
        connection.execute("DROP TABLE metrics")
    schema = schema_of(store)
    assert (schema.state, schema.found, "metrics" in schema.missing) == ("outdated", expected, True)
    with pytest.raises(SchemaMismatch, match=r"tables are missing in .*x.sqlite: .* and \d+ more") as failed:
        require_current(schema, store)
    assert "restore a snapshot" in failed.value.hint
    assert "DatabaseUpgrade" not in str(failed.value)


def test_the_lock_is_waited_for_and_then_given_up(tmp_path: Path) -> None:
    store, time = check_uri(f"sqlite:///{tmp_path}/x.sqlite"), Time()
    second = locks.maintenance(store, 60, clock=time.clock, sleep=time.sleep)
    with locks.maintenance(store), pytest.raises(Locked), second:
        raise AssertionError("two at once")
    assert time.now == 60
    with locks.maintenance(store):
        pass  # free again


# The probe before garbage collection

FOUND = {"experiments": [{"experiment_id": "3", "creation_time": 17}]}


@pytest.fixture
def answers() -> Iterator[tuple[str, dict[str, tuple[int, str, str]], list[tuple[str, str | None]]]]:
    """A server that answers by path prefix: (status, content type, body); and its requests, with their tokens."""
    table: dict[str, tuple[int, str, str]] = {}
    requests: list[tuple[str, str | None]] = []

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        requests.append((request.path, request.headers.get("Authorization")))
        status, content_type, body = next(v for k, v in table.items() if request.path.startswith(k))
        return status, {"Content-Type": content_type}, body.encode()

    with answering(answer) as uri:
        yield uri, table, requests


def test_a_working_server_gets_requests_for_data_and_artifacts_with_the_token(answers: Any) -> None:
    uri, table, requests = answers
    table["/api/2.0/mlflow/"] = (200, "application/json", json.dumps(FOUND))
    table["/api/2.0/mlflow-artifacts/"] = (200, "application/json", "{}")
    assert Prober(uri + "/", {"MLFLOW_TRACKING_TOKEN": "abc"}).check() == Experiment("3", 17)
    assert [path.split("?")[0] for path, _ in requests] == [
        "/api/2.0/mlflow/experiments/search",
        "/api/2.0/mlflow-artifacts/artifacts",
    ]
    assert {token for _, token in requests} == {"Bearer abc"}


@pytest.mark.parametrize(
    ("data", "artifacts", "error", "waited"),
    [
        ((401, "text/plain", ""), None, LoginFailed, False),
        ((302, "text/html", ""), None, LoginFailed, False),
        ((403, "text/plain", "denied"), None, LoginFailed, False),
        ((403, "text/plain", "Invalid Host header - possible"), None, Configuration, False),
        ((200, "text/html", "<html>log in</html>"), None, LoginFailed, False),
        ((404, "text/html", "not here"), None, Configuration, False),
        ((503, "text/plain", "the database is gone"), None, Unreachable, True),
        ((200, "application/json", json.dumps(FOUND)), (500, "text/plain", "no bucket"), Unreachable, True),
        ((200, "application/json", json.dumps(FOUND)), (401, "text/plain", ""), LoginFailed, False),
    ],
)
def test_a_server_that_does_not_work(answers: Any, data: Any, artifacts: Any, error: Any, waited: bool) -> None:
    uri, table, _requests = answers
    table["/api/2.0/mlflow/"] = data
    table["/api/2.0/mlflow-artifacts/"] = artifacts or (200, "application/json", "{}")
    time = Time()
    with pytest.raises(error):
        Prober(uri, {}, clock=time.clock, sleep=time.sleep).check()
    assert (time.now > 0) is waited
    assert time.now < 30


@pytest.mark.parametrize(
    ("uri", "environment", "words"),
    [
        (None, {}, "MLFLOW_TRACKING_URI is not set"),
        ("sqlite:///x", {}, "not an http"),
        ("https://h", {"REQUESTS_CA_BUNDLE": "/nowhere/ca.pem"}, "no certificate file"),
    ],
)
def test_settings_the_probe_cannot_use(uri: str | None, environment: dict[str, str], words: str) -> None:
    with pytest.raises(Configuration, match=words):
        Prober(uri, environment)


def test_a_private_authority_is_trusted_when_named(tmp_path: Path) -> None:
    import ssl

    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    with answering(lambda _request: (200, {"Content-Type": "application/json"}, b"{}"), context) as uri:
        trusting = {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(tmp_path / "ca.pem")}
        assert Prober(uri, trusting).check() is None  # a server without experiments
        with pytest.raises(Configuration, match="is not trusted"):
            Prober(uri, {}).check()


def test_the_drivers_called_shipped_are_those_of_the_environment_default() -> None:
    import yaml

    project = yaml.safe_load((Path(connection.__file__).parents[2] / "anaconda-project.yml").read_text())
    packages = str(project["env_specs"]["default"]["packages"]).lower()
    for dialect, driver in connection._IN_DEFAULT.items():
        package = next(entry[2] for entry in DRIVERS[dialect] if entry[0] == driver)
        assert f"'{package}==" in packages


def test_a_driver_that_no_environment_has_is_not_looked_for_in_default() -> None:
    with pytest.raises(Configuration) as caught:
        _installed_driver("mssql", "pymssql", "X")
    assert "write mssql+pyodbc://" in caught.value.hint
    assert "add pymssql" in caught.value.hint
    assert "use the environment" not in caught.value.hint


def test_one_database_in_two_spellings_is_one() -> None:
    assert check_uri("postgresql://u:p@h/d") == check_uri("postgresql+psycopg://u:p@h/d")
