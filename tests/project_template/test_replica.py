"""A read replica of the database: a copy that refuses writes, and is as far behind as the test wants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from mlflow_ae5_server.server.variables import REPLICA

from tests.project_template.conftest import ENCODED, Project

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Replicated:
    project: Project
    postgres: Any
    old: str  # a run that the replica has

    def catch_up(self) -> str:
        """Copy the database, which nobody may use now; the URI of the copy."""
        self.postgres.sql("DROP DATABASE IF EXISTS replica")
        uri: str = self.postgres.create("replica", "replicated")
        self.postgres.sql("ALTER DATABASE replica SET default_transaction_read_only = on")
        return uri


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory, postgres: Any) -> Iterator[Replicated]:
    project = Project(tmp_path_factory.mktemp("replica"))
    project.secret("MLFLOW_BACKEND_STORE_URI", postgres.create("replicated"))
    with project.server(MLFLOW_WORKERS="1") as server:
        old = server.new_run()
    made = Replicated(project, postgres, old)
    project.secret(REPLICA, made.catch_up())
    yield made
    for name in ("replica", "replicated"):
        postgres.sql(f"DROP DATABASE {name} WITH (FORCE)")


def test_reads_come_from_the_replica_and_writes_go_to_the_database(replicated: Replicated) -> None:
    with replicated.project.server(MLFLOW_WORKERS="1") as server:
        found = server.call("GET", "/api/2.0/mlflow/runs/get", params={"run_id": replicated.old})
        new = server.api("runs/create", experiment_id="0")["run"]["info"]["run_id"]
        server.api("runs/log-metric", run_id=new, key="loss", value=0.5, timestamp=1, step=1)
        behind = server.call("GET", "/api/2.0/mlflow/runs/get", params={"run_id": new})
        made = replicated.project.run("Backup")
        log = server.log()

    assert found.status_code == 200, found.text
    assert (behind.status_code, behind.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert made.code == 0, made.output
    assert made.last["runs"] == 2, "a job reads the database itself"
    assert "read replica: postgresql" in log
    assert ENCODED not in log
    replicated.catch_up()
    with replicated.project.server(MLFLOW_WORKERS="1") as server:
        found = server.call("GET", "/api/2.0/mlflow/runs/get", params={"run_id": new})
    assert found.json()["run"]["data"]["metrics"][0]["value"] == 0.5


def test_a_replica_with_an_older_schema_is_refused(replicated: Replicated) -> None:
    import psycopg

    uri = replicated.postgres.admin_uri.rpartition("/")[0] + "/replica"
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")

    ended = replicated.project.run(
        "TrackingServer", "--anaconda-project-address=127.0.0.1", "--anaconda-project-port=0",
        MLFLOW_TRACKING_DATABASE_WAIT="1",
    )  # fmt: skip

    assert ended.code == 33, ended.output
    assert "/replica does not match the database: its schema is 451aebb31d03, and this MLflow needs " in ended.stderr
    assert f"delete {REPLICA} to read from the database itself" in ended.stderr
