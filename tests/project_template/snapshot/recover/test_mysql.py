"""A server on MySQL: backed up and drilled, restored into another database, and never into MySQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.errors import ConfigurationError
from mlflow_ae5_server.snapshot import dump

from tests.project_template.mariadb import MariaDB, needed
from tests.project_template.snapshot.recover.conftest import Home, fill

pytestmark = [needed, pytest.mark.real_mlflow]


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB, empty_schema: str) -> Home:
    folder = tmp_path_factory.mktemp("mysql")
    home = Home.at(folder / "home", str(folder / "backups"), mariadb.create("home", empty_schema))
    home.artifacts.mkdir(parents=True)
    fill(home.uri, home.artifacts)
    return home


@pytest.fixture(scope="module")
def created(mine: Home) -> dict[str, Any]:
    return mine.job("backup", "create")


def test_backed_up_and_verified_and_a_second_time_nothing_is_copied(mine: Home, created: dict[str, Any]) -> None:
    assert (created["outcome"], created["runs"], created["artifacts"]) == ("done", 6, 18)
    again = mine.job("backup", "create")
    assert (again["outcome"], again["new_objects"], again["rows"]) == ("done", 0, created["rows"])
    verified = mine.job("backup", "verify", "--all")
    assert (verified["outcome"], verified["damaged"]) == ("done", [])
    listed = mine.job("backup", "list")["snapshots"]
    assert {one["dialect"] for one in listed} == {"mysql"}


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_restored_into_another_database(
    dialect: str, mine: Home, created: dict[str, Any], tmp_path: Path, home_at: Any, postgres: Any
) -> None:
    uri = postgres.create("of_mysql") if dialect == "postgresql" else ""
    other = home_at(tmp_path / "home", mine.backups, uri)
    done = other.restore("--snapshot", created["snapshot"])
    assert (done["outcome"], done["dialect"]) == ("done", {"from": "mysql", "to": dialect})
    assert dump.digests(other.store) == dump.digests(mine.store)
    assert other.files() == mine.files()


@pytest.mark.parametrize("words", [(), ("--replace",), ("--dry-run",)])
def test_into_mysql_nothing_is_restored(words: tuple[str, ...], mine: Home, created: dict[str, Any]) -> None:
    before = dump.digests(mine.store), mine.tree()
    with pytest.raises(ConfigurationError, match=r"cannot be restored into mysql\+pymysql://.*: it is mysql"):
        mine.restore(*words)
    assert (dump.digests(mine.store), mine.tree()) == before


def test_a_drill_goes_to_sqlite(mine: Home, created: dict[str, Any]) -> None:
    before = dump.digests(mine.store), mine.tree()
    done = mine.job("drill")
    assert (done["outcome"], done["dialect"]) == ("done", {"from": "mysql", "to": "sqlite"}), done
    assert (dump.digests(mine.store), mine.tree()) == before
    assert {path.name for path in mine.folder.iterdir()} == {"artifacts"}
