"""PostgreSQL schemas whose names SQL would read otherwise, beside another MLflow in the same database."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from mlflow_ae5_server.commands import check, database_upgrade, garbage_collection
from mlflow_ae5_server.common import settings
from mlflow_ae5_server.common.errors import Configuration
from mlflow_ae5_server.common.report import Report
from mlflow_ae5_server.database import dump, load
from mlflow_ae5_server.database.connection import Database, check_uri, connect_engine
from mlflow_ae5_server.database.contents import DatabasePart
from mlflow_ae5_server.repository.repository import open_repository
from sqlalchemy import text

from tests.project_template.restore.restoring import is_identical, work_on

NEIGHBOUR, FRESH = "mlflow", "MLflow"
NAMES = ["MLFLOW", "Ml\"flow's 100% é.x"]


def within(uri: str, schema: str) -> str:
    """`uri`, with a search path of that schema alone: quoted for SQL, then escaped for libpq, then for a URI."""
    named = '"' + schema.replace('"', '""') + '"'
    escaped = named.replace("\\", "\\\\").replace(" ", "\\ ")
    return f"{uri}?options={quote('-csearch_path=' + escaped, safe='')}"


def fill(pilot: Any, store: Database) -> None:
    part = DatabasePart.from_json(pilot.snapshot.database)
    load.load(part, open_repository(pilot.home.backups).reader(), store)


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
    fill(pilot, store)
    with connect_engine(store).begin() as connection:
        connection.execute(text("UPDATE runs SET name = 'the neighbour''s'"))
    return store


@pytest.mark.parametrize("name", NAMES)
def test_a_snapshot_is_restored_there_and_the_restore_undone(
    name: str, shared: str, neighbour: Any, pilot: Any, home_at: Any, tmp_path: Any
) -> None:
    others = dump.digests(neighbour)
    home = home_at(tmp_path / "home", str(tmp_path / "backups"), within(shared, name))
    first = home_at(tmp_path / "home", pilot.home.backups, home.uri)
    assert first.restore("--snapshot", "latest")["database_identical"] is True
    assert is_identical(first, pilot)
    if name == NAMES[0]:  # folded, it would be the neighbour's; the rest is the same for every name
        assert dump.digests(neighbour) == others
        return
    assert home.job("backup", "create")["outcome"] == "done"
    worked = work_on(home, pilot)
    copy = home.restore("--replace", "--snapshot", "latest")["saved_copy"]
    assert is_identical(home, pilot)
    assert [entry["database"] for entry in home.restore("--list-saved")["saved_copies"]] == [True]
    assert home.restore("--undo")["restored_copy"] == copy
    assert (dump.digests(home.store), home.files()) == worked
    assert dump.digests(neighbour) == others


JOBS: dict[str, Callable[..., int]] = {
    "Check": check.run,
    "GarbageCollection": garbage_collection.run,
    "DatabaseUpgrade": database_upgrade.run,
}


def test_a_server_and_the_other_jobs_work_there(
    shared: str, neighbour: Any, pilot: Any, project: Any, home_at: Any, tmp_path: Any
) -> None:
    """The server is a process of its own, and creates the tables; the jobs run in this one."""
    others, uri = dump.digests(neighbour), within(shared, FRESH)
    project.secret("MLFLOW_BACKEND_STORE_URI", uri)
    variables = {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_ARTIFACTS_DESTINATION": str(project.folder / "data/mlflow/standalone/artifacts"),
        "MLFLOW_TRACKING_GC_TTL": "0d0h0m0s",
        "MLFLOW_TRACKING_UPGRADE_REHEARSE": "true",
    }

    def run(command: str) -> dict[str, Any]:
        report = Report(command)
        assert JOBS[command](settings.resolve(variables, {}, {}), report, False) == 0, report._fields
        return report._fields

    with project.server() as server:
        server.api("runs/delete", run_id=server.new_run())
        variables["MLFLOW_TRACKING_URI"] = server.uri
        assert run("Check")["outcome"] == "ok"
        assert run("GarbageCollection")["runs"] == {"due": 1, "removed": 1, "remaining": 0}
    assert run("DatabaseUpgrade")["outcome"] == "rehearsed"
    drill = home_at(tmp_path / "home", pilot.home.backups, uri).job("drill")
    assert (drill["outcome"], drill["dialect"]["target"]) == ("done", "postgresql")
    assert dump.digests(neighbour) == others


def test_what_another_schema_of_the_search_path_holds_is_not_touched(
    postgres: Any, neighbour: Any, pilot: Any, home_at: Any, tmp_path: Any
) -> None:
    """A table that is named without its schema may be found in any of them."""
    with connect_engine(neighbour).begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA first")
    path = quote("-csearch_path=first,mlflow", safe="")
    home = home_at(tmp_path / "home", pilot.home.backups, neighbour.uri.partition("?")[0] + f"?options={path}")
    others = dump.digests(neighbour)
    assert home.restore("--snapshot", "latest")["database_identical"] is True
    assert is_identical(home, pilot)
    assert dump.digests(neighbour) == others


def test_a_search_path_without_a_schema_is_named(shared: str, pilot: Any, home_at: Any, tmp_path: Any) -> None:
    """As where a name with capitals is written without quotes."""
    home = home_at(tmp_path / "home", pilot.home.backups, f"{shared}?options=-csearch_path%3DMLflow_Team")
    (refusal,) = home.restore("--dry-run")["would_refuse"]
    assert "has no schema of its search_path: MLflow_Team" in refusal["error"]
    with pytest.raises(Configuration, match="has no schema of its search_path: MLflow_Team"):
        home.restore("--snapshot", "latest")
