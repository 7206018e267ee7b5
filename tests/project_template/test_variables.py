"""Variables of MLflow that the server does not start with, and a read replica that cannot be used."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import Configuration, SchemaMismatch
from mlflow_ae5_server.common.settings import DEFAULTS, resolve
from mlflow_ae5_server.database.connection import Database, Databases, check_uri
from mlflow_ae5_server.database.schema import SchemaState
from mlflow_ae5_server.server import variables
from mlflow_ae5_server.server.worker_count import Limits, choose

from mlflow_ae5_deploy.config import mlflow_variables, server_variables

JOBS = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"
ROLLUPS = "MLFLOW_SQL_TRACE_ROLLUPS_ENABLED"


def test_the_tool_has_the_same_rules() -> None:
    from mlflow import environment_variables

    rules = json.loads(Path(variables.__file__).with_suffix(".json").read_text())

    assert (rules["refused"], rules["needs"]) == (server_variables.REFUSED, server_variables.NEEDS)
    assert (rules["needed"], rules["unless_off"]) == (server_variables.JOBS, server_variables.PERIODIC)
    known = vars(environment_variables).values()
    kinds = {v.name: v.type for v in known if isinstance(v, environment_variables._EnvironmentVariable)}
    for names, kind in (
        (mlflow_variables.BOOLEAN, bool),
        (mlflow_variables.INTEGER, int),
        (mlflow_variables.NUMBER, float),
    ):
        assert names == {name for name, read in kinds.items() if read is kind and name.startswith("MLFLOW_")}
    others = {name for name in kinds if name.startswith("MLFLOW_")} | set(DEFAULTS)
    assert (
        others <= mlflow_variables.TEXT | mlflow_variables.BOOLEAN | mlflow_variables.INTEGER | mlflow_variables.NUMBER
    )


VALUES = ("auto", "lots", "0", "1", "64", "65", "1.5", "-1", "true", "yes", "off", "2", "unset", "show", "all", "60s")


def read_by_the_server(name: str, value: str) -> object:
    settings = resolve({name: value}, {}, {})
    if name == "MLFLOW_WORKERS":
        return choose(settings.value(name) or "auto", Limits(4.0, None))
    if name.endswith("_WAIT"):
        return settings.seconds(name)
    return settings.flag(name)


@pytest.mark.parametrize("name", [name for name in server_variables.OWN if not name.endswith("_ORPHANS")])
def test_the_tool_refuses_the_values_that_the_server_refuses(name: str) -> None:
    for value in VALUES:
        refused = ""
        try:
            read_by_the_server(name, value)
        except Configuration as error:
            refused = str(error)
        assert bool(server_variables.problem_of(name, value)) == bool(refused), value


# (in server.variables, in slipstream.variables)
SET: list[tuple[str | None, str | None]] = [
    (None, None), *((value, None) for value in ("true", "false", "unset")),
    *((None, value) for value in ("true", "false", "unset")), ("unset", "true"), ("true", "unset"), ("false", "true"),
]  # fmt: skip


@pytest.mark.parametrize("name", variables.RULES["needs"])
def test_the_tool_refuses_what_the_server_refuses(name: str) -> None:
    """server.variables are stored as secrets; slipstream.variables are defaults of the project."""
    names = (name, JOBS, variables.RULES["unless_off"])
    decisions = {}
    for chosen in itertools.product(SET, repeat=len(names)):
        secrets = {name: secret for name, (secret, _) in zip(names, chosen, strict=True) if secret is not None}
        defaults = {name: default for name, (_, default) in zip(names, chosen, strict=True) if default is not None}
        environ = dict(defaults)
        resolve(environ, defaults, secrets).apply(environ)
        found = [variable for variable, _ in server_variables.contradictions(secrets, defaults, ())]
        decisions[chosen] = (found, refused_by_the_server(environ))

    assert {chosen: both for chosen, both in decisions.items() if both[0] != both[1]} == {}
    assert {tuple(found) for found, _ in decisions.values()} == {(), (name,)}


def refused_by_the_server(environ: Mapping[str, str]) -> list[str]:
    try:
        variables.require_supported(environ)
    except Configuration as error:
        return [str(error).partition(" ")[0]]
    return []


@pytest.mark.parametrize("name", variables.RULES["refused"])
def test_a_variable_that_cannot_work_here_is_refused(name: str) -> None:
    for value in ("", "false", "0"):
        variables.require_supported({name: value})
    with pytest.raises(Configuration, match=f"{name} is not supported: "):
        variables.require_supported({name: "true"})


@pytest.mark.parametrize("name", variables.RULES["needs"])
def test_what_only_jobs_do_is_refused_without_them(name: str) -> None:
    variables.require_supported({name: "true", JOBS: "true"})
    variables.require_supported({name: "true", JOBS: "false", variables.RULES["unless_off"]: "false"})  # elsewhere
    with pytest.raises(Configuration, match=f"{name} has no effect without {JOBS}"):
        variables.require_supported({name: "true", JOBS: "false"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MLFLOW_ENABLE_WORKSPACES", "yes", "is not true or false"),
        ("MLFLOW_WEBHOOK_REQUEST_TIMEOUT", "soon", "is not a value of type int"),
        ("MLFLOW_TRACE_ARCHIVAL_CONFIG", "/nowhere/archival.yaml", "cannot be used: .*Failed to read config file"),
        ("MLFLOW_ENABLE_WORKSPACES", "TRUE", ""),
    ],
)
def test_a_value_that_mlflow_reads_only_at_a_request_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    if not message:
        variables.require_readable()
        return
    with pytest.raises(Configuration, match=f"{name} {message}"):
        variables.require_readable()


PG, OTHER = "postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/other"


@pytest.mark.parametrize(
    ("replica", "store", "registry", "message"),
    [
        ("postgresql+psycopg://u@replica/d", PG, PG, ""),
        ("sqlite:///replica.sqlite", "sqlite:///d.sqlite", "sqlite:///d.sqlite", "is a sqlite database"),
        ("mysql+pymysql://u@h/d", PG, PG, "is a mysql database, and MLFLOW_BACKEND_STORE_URI a postgresql one"),
        ("postgresql+psycopg://u@replica/d", PG, OTHER, "exclude each other"),
    ],
)
def test_a_replica_that_mlflow_cannot_use_is_refused(replica: str, store: str, registry: str, message: str) -> None:
    databases = Databases(check_uri(store), check_uri(registry), check_uri(replica))
    if not message:
        variables.require_replica(databases)
        return
    with pytest.raises(Configuration, match=message):
        variables.require_replica(databases)


EMPTY, OLD = SchemaState("empty", None, "new"), SchemaState("outdated", "old", "new")
NEWER, BARE = SchemaState("unknown", "newer", "new"), SchemaState("outdated", "new", "new", ("runs", "tags"))
NEW = SchemaState("current", "new", "new")


def test_a_replica_without_the_schema_is_awaited_and_then_refused() -> None:
    states, now = iter((EMPTY, OLD, NEW)), [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def wait(observe: Callable[[Database], SchemaState]) -> None:
        variables.await_replica(check_uri(PG), 5, observe=observe, clock=lambda: now[0], sleep=sleep)

    wait(lambda _replica: next(states))
    assert now == [2.0]
    for state, why in (
        (EMPTY, "its schema is empty, and this MLflow needs new"),
        (OLD, "its schema is old, and this MLflow needs new"),
        (NEWER, "its schema is newer, and this MLflow needs new"),
        (BARE, "it lacks tables: runs, tags"),
    ):
        with pytest.raises(SchemaMismatch, match=f"^the read replica .* does not match the database: {why}\n"):
            wait(lambda _replica, state=state: state)  # type: ignore[misc]


def test_the_server_ends_with_the_message(project: Any) -> None:
    ended = project.run(
        "TrackingServer", "--anaconda-project-address=127.0.0.1", "--anaconda-project-port=0",
        MLFLOW_ENABLE_REMOTE_ASSISTANT="true",
    )  # fmt: skip
    assert ended.code == 3, ended.output
    assert "MLFLOW_ENABLE_REMOTE_ASSISTANT is not supported" in ended.output
    assert not (project.folder / "data").exists()
