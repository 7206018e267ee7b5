"""PostgreSQL schemas whose names SQL would read otherwise, beside another MLflow in the same database."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import quote

import pytest
from mlflow_ae5_server.common.errors import ConfigurationError
from mlflow_ae5_server.database import dialects
from mlflow_ae5_server.database.connection import Database, check_uri, connect_engine
from mlflow_ae5_server.repository.repository import open_repository
from sqlalchemy import text

from tests.project_template.restore.restoring import is_identical, work_on

NEIGHBOUR, FRESH = "mlflow", "MLflow"
NAMES = ["MLFLOW", "ml flow", "Ml\"flow's 100% é.x"]


def within(uri: str, schema: str) -> str:
    """`uri`, with a search path of that schema alone: quoted for SQL, then escaped for libpq, then for a URI."""
    named = '"' + schema.replace('"', '""') + '"'
    escaped = named.replace("\\", "\\\\").replace(" ", "\\ ")
    return f"{uri}?options={quote('-csearch_path=' + escaped, safe='')}"


def load(pilot: Any, store: Database) -> None:
    part = dialects.DatabasePart.from_json(pilot.snapshot.database)
    dialects.load(part, open_repository(pilot.home.backups).reader(), store)


@pytest.fixture(scope="module")
def shared(postgres: Any) -> str:
    """A database with a schema of each name."""
    uri: str = postgres.create(f"schemas_{uuid.uuid4().hex[:12]}")
    with connect_engine(check_uri(uri)).begin() as connection:
        for name in (NEIGHBOUR, FRESH, *NAMES):
            connection.exec_driver_sql('CREATE SCHEMA "' + name.replace('"', '""').replace("%", "%%") + '"')
    return uri


@pytest.fixture(scope="module")
def neighbour(shared: str, pilot: Any) -> Database:
    """Another MLflow, in the schema that a folded name would lead to."""
    store = check_uri(within(shared, NEIGHBOUR))
    load(pilot, store)
    with connect_engine(store).begin() as connection:
        connection.execute(text("UPDATE runs SET name = 'the neighbour''s'"))
    return store


@pytest.mark.parametrize("name", NAMES)
def test_a_snapshot_goes_there_and_comes_back(
    name: str, shared: str, neighbour: Any, pilot: Any, home_at: Any, tmp_path: Any
) -> None:
    others = dialects.digests(neighbour)
    home = home_at(tmp_path / "home", str(tmp_path / "backups"), within(shared, name))
    first = home_at(tmp_path / "home", pilot.home.backups, home.uri)
    assert first.restore("--snapshot", "latest")["database_identical"] is True
    assert is_identical(first, pilot)
    assert home.job("backup", "create")["outcome"] == "done"
    worked = work_on(home, pilot)
    copy = home.restore("--replace", "--snapshot", "latest")["saved_copy"]
    assert is_identical(home, pilot)
    assert [entry["database"] for entry in home.restore("--list-saved")["saved_copies"]] == [True]
    assert home.restore("--undo")["restored_copy"] == copy
    assert (dialects.digests(home.store), home.files()) == worked
    assert dialects.digests(neighbour) == others


def test_a_server_and_the_other_jobs_work_there(shared: str, neighbour: Any, pilot: Any, project: Any) -> None:
    """As AE5 runs them; the server makes the tables."""
    others = dialects.digests(neighbour)
    project.secret("MLFLOW_BACKEND_STORE_URI", within(shared, FRESH))
    variables = {
        "MLFLOW_TRACKING_BACKUP_DESTINATION": pilot.home.backups,
        "MLFLOW_TRACKING_GC_TTL": "0d0h0m0s",
        "MLFLOW_TRACKING_UPGRADE_REHEARSE": "true",
    }
    with project.server() as server:
        server.api("runs/delete", run_id=server.new_run())
        variables["MLFLOW_TRACKING_URI"] = server.uri
        ended = {name: project.run(name, timeout=300, **variables) for name in ("Check", "GarbageCollection")}
        found = {name: (job.code, job.last["outcome"]) for name, job in ended.items()}
    for name in ("DatabaseUpgrade", "Drill"):
        ended[name] = project.run(name, timeout=300, **variables)
        found[name] = (ended[name].code, ended[name].last["outcome"])
    assert found == {
        "Check": (0, "ok"),
        "GarbageCollection": (0, "done"),
        "DatabaseUpgrade": (0, "rehearsed"),
        "Drill": (0, "done"),
    }, "".join(job.output for job in ended.values())
    assert ended["GarbageCollection"].last["runs"] == {"due": 1, "removed": 1, "remaining": 0}
    assert ended["Drill"].last["dialect"]["target"] == "postgresql"
    assert dialects.digests(neighbour) == others


def test_what_another_schema_of_the_search_path_holds_is_not_touched(
    postgres: Any, neighbour: Any, pilot: Any, home_at: Any, tmp_path: Any
) -> None:
    """A table that is named without its schema may be found in any of them."""
    with connect_engine(neighbour).begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA first")
    path = quote("-csearch_path=first,mlflow", safe="")
    home = home_at(tmp_path / "home", pilot.home.backups, neighbour.uri.partition("?")[0] + f"?options={path}")
    others = dialects.digests(neighbour)
    assert home.restore("--snapshot", "latest")["database_identical"] is True
    assert is_identical(home, pilot)
    assert dialects.digests(neighbour) == others


def test_a_search_path_without_a_schema_is_named(shared: str, pilot: Any, home_at: Any, tmp_path: Any) -> None:
    """As where a name with capitals is written without quotes."""
    home = home_at(tmp_path / "home", pilot.home.backups, f"{shared}?options=-csearch_path%3DMLflow_Team")
    (refusal,) = home.restore("--dry-run")["would_refuse"]
    assert "has no schema of its search_path: MLflow_Team" in refusal["error"]
    with pytest.raises(ConfigurationError, match="has no schema of its search_path: MLflow_Team"):
        home.restore("--snapshot", "latest")
