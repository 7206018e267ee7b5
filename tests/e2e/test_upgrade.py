"""From a server of before MLflow 3 to the bundled release, with the real jobs: forward, and back when it fails.

The installed release is one that cannot back up, on a database with the schema of MLflow 2.22. In order.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.snapshotting import make_snapshotting_release
from tests.e2e.site import Site

pytestmark = pytest.mark.real_mlflow

TEMPLATE = Path(__file__).resolve().parents[2] / "project_template"
REVISION = "0584bdc529eb"  # the newest migration of MLflow 2.22
RUN = "5" * 32
MAKE = f"""
import sys
sys.path.insert(0, {str(TEMPLATE)!r})
from sqlalchemy import create_engine, text
from mlflow_ae5_server.snapshot.dump import schema

with create_engine("sqlite:///" + sys.argv[1]).begin() as connection:
    schema.create(connection, {REVISION!r})
    for statement in (
        "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
        "VALUES (0, 'Default', 'mlflow-artifacts:/0', 'active')",
        "INSERT INTO runs (run_uuid, name, source_type, status, lifecycle_stage, artifact_uri, experiment_id, user_id, "
        "start_time) VALUES ('{RUN}', 'old', 'LOCAL', 'FINISHED', 'active', 'mlflow-artifacts:/0/{RUN}/artifacts', 0, "
        "'jdoe', 1700000000000)",
        *(
            f"INSERT INTO {{table}} (key, value, timestamp, run_uuid, step, is_nan) "
            "VALUES ('loss', 0.5, 1, '{RUN}', 0, 0)"
            for table in ("metrics", "latest_metrics")
        ),
    ):
        connection.execute(text(statement))
"""  # noqa: S608 - constants of this file


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
    subprocess.run([sys.executable, "-c", MAKE, str(database)], check=True, timeout=120)
    note = database.parents[1] / "artifacts" / "0" / RUN / "artifacts" / "note.txt"
    note.parent.mkdir(parents=True)
    note.write_text("of before")
    return site


def revision(database: Path) -> str:
    import sqlite3

    with sqlite3.connect(database) as connection:
        (found,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(found)


def test_what_fails_after_the_migration_goes_back_by_itself(installed: Site, database: Path) -> None:
    broken = installed.configure(
        "platform: {deployment_deadline: 40}\n"
        "slipstream: {commands: {TrackingServer: {unix: 'python -c \"raise SystemExit(9)\"'}}}\n"
    )
    before = installed.deployment()

    failed = installed.run("upgrade", "--sandbox", "--json", "--yes", *broken)

    assert failed.code == 29, failed.err
    assert "Everything is as it was before" in failed.err
    assert revision(database) == REVISION
    assert installed.deployment()["state"] == "started"
    assert installed.deployment()["id"] != before["id"]


def test_it_is_rehearsed_and_upgraded_with_its_data(installed: Site, database: Path, helper) -> None:
    done = installed.run("upgrade", "--sandbox", "--json", "--yes")

    assert done.code == 0, done.err
    assert len(done.data["rehearsal"]["migrations"]) > 5
    assert done.data["migration"]["found"] == REVISION
    assert revision(database) == done.data["migration"]["now"] != REVISION
    assert all(check["passed"] for check in done.data["checks"])
    read = installed.client(helper, installed.client_environment(), "read", RUN)
    assert read == {"loss": 0.5, "note": "of before", "stage": "active"}
