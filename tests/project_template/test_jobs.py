"""GarbageCollection and DatabaseUpgrade for real, on both databases: what they do, and what they say they did."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from mlflow_ae5_server.database import locks
from mlflow_ae5_server.database.connection import check_uri, connect_engine

from tests.project_template.restore.conftest import Home, take_snapshot
from tests.project_template.stub_server import Answer, answering
from tests.project_template.test_progress import phases

pytestmark = pytest.mark.slow

_JOB = "garbage-collection"
AT_ONCE = {"MLFLOW_TRACKING_GC_TTL": "0d0h0m0s"}
OLDER_REVISION = "451aebb31d03"  # the first migration after MLflow's initial tables


def lifecycle(deployed: Any, *ids: str) -> dict[str, str]:
    """Lifecycle stage by id, of the runs that still exist."""
    from sqlalchemy import text

    with closing(connect_engine(check_uri(deployed.database)).connect()) as connection:
        rows = connection.execute(text("SELECT run_uuid, lifecycle_stage FROM runs")).all()
    return {run: stage for run, stage in rows if run in ids}


def delete(deployed: Any, run: str) -> str:
    deployed.server.api("runs/delete", run_id=run)
    return run


def test_collection_removes_what_is_due_and_says_so(deployed: Any) -> None:
    server = deployed.server
    kept, first, second = (server.new_run() for _ in range(3))
    delete(deployed, first)
    delete(deployed, second)
    experiment = server.api("experiments/create", name="gone")["experiment_id"]
    inside = server.new_run(experiment)
    server.api("experiments/delete", experiment_id=experiment)

    if deployed.password is None:  # on one database
        rehearsal = deployed.job("GarbageCollection", MLFLOW_TRACKING_GC_DRY_RUN="true", **AT_ONCE)
        assert rehearsal.code == 0, rehearsal.output
        assert rehearsal.last["outcome"] == "dry-run"
        assert (rehearsal.last["runs"], rehearsal.last["experiments"]) == ({"due": 3}, {"due": 1})
        assert all(run in rehearsal.stdout for run in (first, second, inside))
        assert set(lifecycle(deployed, kept, first, second, inside).values()) == {"active", "deleted"}
        assert server.artifacts(first) == 1

        too_young = deployed.job("GarbageCollection")  # 30 days
        assert too_young.last["outcome"] == "done"
        assert too_young.last["runs"] == {"due": 0, "removed": 0, "remaining": 0}
        assert len(lifecycle(deployed, kept, first, second, inside)) == 4

    ended = deployed.job("GarbageCollection", **AT_ONCE)
    assert ended.code == 0, ended.output
    assert ended.last["outcome"] == "done"
    assert ended.last["runs"] == {"due": 3, "removed": 3, "remaining": 0}
    assert phases(ended.stderr) == [("find-expired", None, None), ("measure", 3, 3), ("delete-expired", 4, 4)]
    assert ended.last["experiments"] == {"due": 1, "removed": 1, "remaining": 0}
    assert lifecycle(deployed, kept, first, second, inside) == {kept: "active"}
    assert [server.artifacts(run) for run in (kept, first, second)] == [1, 0, 0]
    assert server.artifacts(inside, experiment) == 0
    assert deployed.password is None or deployed.password not in ended.output


def test_a_second_run_is_skipped(deployed: Any) -> None:
    run = delete(deployed, deployed.server.new_run())
    with locks.maintenance(check_uri(deployed.database)):
        ended = deployed.job("GarbageCollection", **AT_ONCE)
    assert (ended.code, ended.last["outcome"]) == (0, "skipped")
    assert "another job (backup, restore, garbage collection, upgrade) or a starting server uses" in ended.stderr
    assert lifecycle(deployed, run) == {run: "deleted"}


def test_a_dead_server_does_not_hinder_what_can_be_done_without_it(on_sqlite: Any) -> None:
    run = delete(on_sqlite, on_sqlite.server.new_run())
    dead = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1", **AT_ONCE}
    ended = on_sqlite.project.run("GarbageCollection", timeout=30, **dead)
    assert (ended.code, ended.last["outcome"]) == (0, "done"), ended.output
    assert "Connection refused" in ended.last["server"]
    assert lifecycle(on_sqlite, run) == {}
    assert on_sqlite.server.artifacts(run) == 0


def test_a_dead_server_ends_collection_soon_where_only_it_has_the_artifacts(on_sqlite: Any) -> None:
    run = delete(on_sqlite, on_sqlite.server.new_run())
    dead = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1", "MLFLOW_ARTIFACTS_DESTINATION": "elsewhere", **AT_ONCE}
    ended = on_sqlite.project.run("GarbageCollection", timeout=30, **dead)
    assert (ended.code, ended.last["outcome"]) == (10, "failed"), ended.output
    assert "Connection refused" in ended.last["error"]
    assert lifecycle(on_sqlite, run) == {run: "deleted"}
    assert on_sqlite.server.artifacts(run) == 1


@pytest.mark.parametrize(
    ("deployed", "elsewhere"), [("sqlite", "not-there"), ("postgresql", "another-store")], indirect=["deployed"]
)
def test_artifacts_that_only_the_server_reaches_go_through_it(deployed: Any, elsewhere: str) -> None:
    """A job whose MLFLOW_ARTIFACTS_DESTINATION is not the server's must not leave artifacts behind."""
    if elsewhere == "another-store":
        (deployed.project.folder / elsewhere / "0").mkdir(parents=True, exist_ok=True)
        (deployed.project.folder / elsewhere / "77").mkdir(exist_ok=True)
    run = delete(deployed, deployed.server.new_run())
    ended = deployed.job("GarbageCollection", MLFLOW_ARTIFACTS_DESTINATION=elsewhere, **AT_ONCE)
    assert (ended.code, ended.last["outcome"]) == (0, "done"), ended.output
    assert "through the server" in ended.stderr
    assert (ended.last["runs"]["removed"] >= 1, ended.last["bytes"] >= 5) == (True, True)
    assert lifecycle(deployed, run) == {}
    assert deployed.server.artifacts(run) == 0
    listed = deployed.server.call("GET", "/api/2.0/mlflow-artifacts/artifacts", params={"path": ".mlflow-ae5-gc"})
    assert listed.json().get("files", []) == []


def test_a_running_server_is_in_the_way_of_a_restore(on_sqlite: Any, tmp_path: Path) -> None:
    artifacts = on_sqlite.project.folder / "data/mlflow/standalone/artifacts"
    run = on_sqlite.server.new_run()
    take_snapshot(Home(tmp_path, str(tmp_path), on_sqlite.database, str(artifacts)))
    variables = {"MLFLOW_TRACKING_BACKUP_DESTINATION": str(tmp_path)}
    ended = on_sqlite.job("Restore", MLFLOW_TRACKING_RESTORE_ARGUMENTS="--replace", **variables)
    assert (ended.code, ended.last["outcome"]) == (27, "failed"), ended.output
    assert "a tracking server" in ended.last["error"]
    assert on_sqlite.server.artifacts(run) == 1


class Gate(NamedTuple):
    """An endpoint, and the niceness of the jobs that sent it requests."""

    uri: str
    niceness: list[int]


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Answers like a private endpoint to an unknown token."""
    seen: list[int] = []

    def login_page(_request: Any) -> Answer:
        jobs = [item for item in psutil.Process().children(recursive=True) if _JOB in " ".join(item.cmdline())]
        seen.extend(item.nice() for item in jobs if "python" in item.name())
        return 302, {"Location": "/auth/realms/AnacondaPlatform/login"}, b""

    with answering(login_page) as uri:
        yield Gate(uri, seen)


def test_a_stale_token_ends_collection_where_only_the_server_has_the_artifacts(on_sqlite: Any, gate: Gate) -> None:
    run = delete(on_sqlite, on_sqlite.server.new_run())
    token = "stale-token-0123456789"
    stale = {
        "MLFLOW_TRACKING_URI": gate.uri,
        "MLFLOW_TRACKING_TOKEN": token,
        "MLFLOW_ARTIFACTS_DESTINATION": "elsewhere",
    }
    ended = on_sqlite.job("GarbageCollection", **stale, **AT_ONCE)
    assert (ended.code, ended.last["outcome"]) == (11, "failed")
    assert "did not accept the token" in ended.last["error"]
    assert ended.last["token_sha256"] == hashlib.sha256(token.encode()).hexdigest()[:12]
    assert token not in ended.output
    assert lifecycle(on_sqlite, run) == {run: "deleted"}
    assert set(gate.niceness) == {min(psutil.Process().nice() + 10, 19)}, "the server goes first"


def test_collection_refuses_a_database_that_is_not_the_servers(on_sqlite: Any, project: Any) -> None:
    missing = project.run("GarbageCollection", MLFLOW_TRACKING_URI=on_sqlite.server.uri)
    assert (missing.code, missing.last["outcome"]) == (3, "failed")
    assert not (project.folder / "data").exists()

    copy = project.folder / "data/mlflow/standalone/store/mydb.sqlite"
    copy.parent.mkdir(parents=True)
    with (
        closing(sqlite3.connect(on_sqlite.database.removeprefix("sqlite:///"))) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        target.execute("UPDATE experiments SET creation_time = creation_time - 1")
        target.commit()
    other = project.run("GarbageCollection", MLFLOW_TRACKING_URI=on_sqlite.server.uri)
    assert (other.code, other.last["outcome"]) == (3, "failed")
    assert "does not use" in other.last["error"]


def old_database(uri: str) -> None:
    """Tables as an early MLflow made them, by MLflow's own migrations, with one experiment in them."""
    from alembic import command
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import text

    engine = connect_engine(check_uri(uri))
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config = utils._get_alembic_config("")
        config.attributes["connection"] = connection
        command.upgrade(config, OLDER_REVISION)
        connection.execute(
            text("INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'before', 'active')")
        )


def test_an_upgrade_is_foretold_then_done_then_not_needed(project: Any) -> None:
    from sqlalchemy import text

    uri = f"sqlite:///{project.folder}/old.sqlite"
    old_database(uri)
    project.secret("MLFLOW_BACKEND_STORE_URI", uri)

    rehearsal = project.run("DatabaseUpgrade", "--dry-run")
    assert (rehearsal.code, rehearsal.last["outcome"]) == (0, "dry-run"), rehearsal.output
    assert (rehearsal.last["revision"], rehearsal.last["pending"] > 20) == (OLDER_REVISION, True)
    assert rehearsal.stdout.count("would apply") == rehearsal.last["pending"]

    done = project.run("DatabaseUpgrade")
    assert (done.code, done.last["outcome"], done.last["touched"]) == (0, "upgraded", True), done.output
    assert phases(done.stderr) == [("migrate", done.last["pending"], done.last["pending"])]
    assert done.last["revision"] == OLDER_REVISION  # so the rehearsal changed nothing
    assert done.last["new_revision"] == done.last["expected_revision"]
    with connect_engine(check_uri(uri)).connect() as connection:
        assert connection.execute(text("SELECT name FROM experiments WHERE experiment_id = 7")).scalar() == "before"

    again = project.run("DatabaseUpgrade")
    assert (again.code, again.last["outcome"]) == (0, "unchanged")


@pytest.mark.parametrize(("name", "outcome"), [("fresh", "initialised"), ("old", "upgraded")])
def test_an_upgrade_on_postgresql(name: str, outcome: str, postgres: Any, project: Any) -> None:
    uri = postgres.create(name)
    if name == "old":
        old_database(uri)
    project.secret("MLFLOW_BACKEND_STORE_URI", uri)
    ended = project.run("DatabaseUpgrade")
    assert (ended.code, ended.last["outcome"]) == (0, outcome), ended.output
    assert ended.last["new_revision"] == ended.last["expected_revision"]
    assert "pa55" not in ended.output


def test_a_job_that_is_stopped_still_says_so(on_sqlite: Any) -> None:
    project = on_sqlite.project
    # It waits for a server that is not there; AE5 stops it meanwhile.
    process = subprocess.Popen(
        project._shell("GarbageCollection", []),
        cwd=project.folder,
        env=project.environment({"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "MLFLOW_WORKERS" in line:  # the last line of the table: settings are read, work begins
            break
    process.terminate()
    stdout, _ = process.communicate(timeout=200)
    assert process.returncode == 130
    assert '"outcome": "interrupted"' in stdout
