"""A server on MySQL: backed up, drilled, restored into every database, and its upgrade rehearsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.database import dump, migration, schema
from mlflow_ae5_server.database.contents import DatabasePart

from tests.project_template.mariadb import MariaDB, needed
from tests.project_template.restore.conftest import Home, fill

pytestmark = needed


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB, empty_schema: str) -> Home:
    folder = tmp_path_factory.mktemp("mysql")
    home = Home.at(folder / "home", str(folder / "backups"), mariadb.create("home", empty_schema))
    home.artifacts.mkdir(parents=True)
    fill(home.uri, home.artifacts)
    return home


@pytest.fixture(scope="module")
def created(own: Home) -> dict[str, Any]:
    return own.job("backup", "create")


def test_a_second_backup_copies_nothing(own: Home, created: dict[str, Any]) -> None:
    assert (created["outcome"], created["runs"], created["deleted_runs"], created["artifacts"]) == ("done", 5, 1, 18)
    again = own.job("backup", "create")
    assert (again["outcome"], again["new_objects"], again["rows"]) == ("done", 0, created["rows"])
    verified = own.job("backup", "verify", "--all")
    assert (verified["outcome"], verified["damaged"]) == ("done", [])
    listed = own.job("backup", "list")["snapshots"]
    assert {one["dialect"] for one in listed} == {"mysql"}


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql"])
def test_a_snapshot_is_restored_into_every_database(
    dialect: str, own: Home, created: dict[str, Any], tmp_path: Path, home_at: Any, postgres: Any, mariadb: MariaDB
) -> None:
    servers = {"postgresql": postgres, "mysql": mariadb}
    uri = servers[dialect].create("of_mysql") if dialect in servers else ""
    other = home_at(tmp_path / "home", own.backups, uri)
    done = other.restore("--snapshot", created["snapshot"])
    assert (done["outcome"], done["dialect"]) == ("done", {"source": "mysql", "target": dialect})
    assert dump.digests(other.store) == dump.digests(own.store)
    assert other.files() == own.files()


def test_a_drill_runs_next_to_the_database(own: Home, created: dict[str, Any]) -> None:
    before = dump.digests(own.store), own.tree()
    done = own.job("drill")
    assert (done["outcome"], done["dialect"]) == ("done", {"source": "mysql", "target": "mysql"}), done
    assert (dump.digests(own.store), own.tree()) == before
    assert {path.name for path in own.folder.iterdir()} == {"artifacts"}


def test_an_older_schema_is_rehearsed_restored_and_upgraded(
    older: Any, take: Any, tmp_path: Path, home_at: Any, mariadb: MariaDB
) -> None:
    old = older(tmp_path / "old")
    snapshot = take(old)
    home = home_at(tmp_path / "home", old.backups, mariadb.create("older"))
    home.restore("--no-upgrade")
    before = dump.digests(home.store)
    assert before == DatabasePart.from_json(snapshot.database).digests()

    report = home.report()
    assert migration.rehearse(home.store, report) == 0
    assert dump.digests(home.store) == before

    done = home.restore("--replace")
    assert done["upgraded"] == {"revision": "7f2a7d5fae7d", "new_revision": schema.latest()}
    assert dump.state(home.store).revision == schema.latest()
    home.restore("--undo")
    assert dump.digests(home.store) == before
