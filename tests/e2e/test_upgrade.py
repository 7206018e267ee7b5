"""From a server of before MLflow 3 to the bundled release, with the real jobs: back when it fails, and forward.

Other ways to fail: see tests/cli/test_upgrade.py.
The installed release is one that cannot back up, on a database that MLflow 2.22 has made. In order.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mlflow_ae5_deploy.jobs.contract import last_line
from tests.cli.snapshotting import make_snapshotting_release
from tests.e2e.site import Site

OLD = Path(__file__).parents[1] / "project_template" / "fixtures" / "mlflow-2.22.0.sqlite.gz"
REVISION = "0584bdc529eb"  # the newest migration of MLflow 2.22


@pytest.fixture(scope="module")
def database(site: Site) -> Path:
    return site.data() / "mlflow" / "standalone" / "store" / "mydb.sqlite"


@pytest.fixture(scope="module")
def installed(site: Site, database: Path) -> Site:
    old = make_snapshotting_release(
        site.folder / "old.tar.gz", without=("Backup", "Restore", "Drill", "DatabaseUpgrade")
    )
    done = site.install("--release", str(old))
    assert done.code == 0, done.err
    database.parent.mkdir(parents=True)
    database.write_bytes(gzip.decompress(OLD.read_bytes()))
    note = database.parents[1] / "artifacts" / "1" / old_run(database) / "artifacts" / "note.txt"
    note.parent.mkdir(parents=True)
    note.write_text("of before")
    return site


def value(database: Path, query: str) -> str:
    with closing(sqlite3.connect(database)) as connection:
        (found,) = connection.execute(query).fetchone()
    return str(found)


def old_run(database: Path) -> str:
    return value(database, "SELECT run_uuid FROM runs WHERE name = 'run 0'")


def revision(database: Path) -> str:
    return value(database, "SELECT version_num FROM alembic_version")


def test_what_fails_after_the_migration_goes_back_by_itself(installed: Site, database: Path) -> None:
    broken = installed.configure("slipstream: {commands: {TrackingServer: {unix: 'echo It cannot serve && exit 9'}}}\n")
    before, data = installed.deployment(), value(database, "SELECT count(*) FROM metrics")

    failed = installed.run("upgrade", "--sandbox", "--yes", "--no-rehearsal", *broken)

    assert failed.code == 29, failed.err
    assert "Rolled back to release old.tar.gz: data and endpoint are as before, verified." in failed.err
    assert "It cannot serve" in failed.err
    (migrated,) = installed.state.glob("localhost*/runs/*upgrade-of-the-database-schema.json")
    shown = last_line(json.loads(migrated.read_text())["log"])
    assert (shown["outcome"], shown["revision"]) == ("upgraded", REVISION)
    assert "database and artifacts identical to the snapshot" in failed.out
    assert (revision(database), value(database, "SELECT count(*) FROM metrics")) == (REVISION, data)
    assert installed.deployment()["state"] == "started"
    assert installed.deployment()["id"] != before["id"]


def test_it_is_rehearsed_and_upgraded_with_its_data(installed: Site, database: Path) -> None:
    done = installed.run("upgrade", "--sandbox", "--json", "--yes")

    assert done.code == 0, done.err
    assert len(done.data["rehearsal"]["migrations"]) > 5
    assert done.data["migration"]["revision"] == REVISION
    assert revision(database) == done.data["migration"]["new_revision"] != REVISION
    assert all(check["passed"] for check in done.data["checks"])
    read = installed.read(installed.client_environment(), old_run(database))
    assert read == {"loss": 5e-324, "note": "of before", "stage": "active"}
