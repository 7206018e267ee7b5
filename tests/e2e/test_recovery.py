"""Losing everything and getting it back, with a real MLflow and the real jobs: from a snapshot on SQLite, into
PostgreSQL, which is how a pilot becomes production as well. In order."""

from __future__ import annotations

import shutil

import pytest

from tests.e2e.site import Site

pytestmark = pytest.mark.real_mlflow


@pytest.fixture(scope="module")
def installed(site: Site) -> Site:
    done = site.install()
    assert done.code == 0, done.err
    return site


@pytest.fixture(scope="module")
def logged(installed: Site, helper) -> dict[str, str]:
    (found,) = installed.client(helper, installed.client_environment(), "log precious")
    return dict(found)


@pytest.fixture(scope="module")
def snapshot(installed: Site, logged) -> str:
    done = installed.run("backup", "--sandbox", "--json")
    assert done.code == 0, done.err
    report = done.data["run"]["report"]
    assert report["runs"] >= 1
    assert report["artifacts"] == 1
    return str(report["snapshot"])


def assert_reads(site: Site, helper, logged) -> None:
    (read,) = site.client(helper, site.client_environment(), f"read {logged['run']}")
    assert read == {"loss": 0.25, "note": f"an artifact of {logged['run']}", "stage": "active"}


def test_a_snapshot_is_read_back_and_told_of(installed: Site, snapshot) -> None:
    verified = installed.run("backup", "verify", "--all", "--sandbox", "--json")
    pruned = installed.run("backup", "prune", "--keep-last", "1", "--sandbox")
    listed = installed.run("backup", "list", "--sandbox", "--json")
    status = installed.run("status", "--sandbox", "--json")

    assert verified.code == 0, verified.err
    assert verified.data["run"]["report"]["damaged"] == []
    assert pruned.code == 0, pruned.err
    assert [item["snapshot"] for item in listed.data["run"]["report"]["snapshots"]] == [snapshot]
    assert status.data["backup"]["snapshot"] == snapshot


def test_a_drill_proves_it_beside_the_running_server(installed: Site, snapshot) -> None:
    before = installed.deployment()["id"]
    place = installed.data() / "mlflow" / "standalone"
    there = sorted(path.name for path in place.iterdir())

    done = installed.run("drill", "--sandbox", "--json")

    assert done.code == 0, done.err
    report = done.data["run"]["report"]
    assert report["recovery_seconds"] > 0
    assert len(report["checks"]) > 2
    assert all(check["passed"] for check in report["checks"])
    assert installed.deployment()["id"] == before
    assert sorted(path.name for path in place.iterdir()) == there


def test_a_restore_under_a_running_server_is_refused(installed: Site, snapshot) -> None:
    refused = installed.run("restore", "--sandbox", "--json", "--snapshot", snapshot)

    assert refused.code == 27, refused.err
    assert "dev.mlflow.tracking.server" in refused.err


def test_everything_is_lost_and_comes_back_with_its_ids(installed: Site, snapshot, logged, helper) -> None:
    assert installed.run("uninstall", "--sandbox", "--yes", "--purge-secrets").code == 0
    data = installed.data() / "mlflow" / "standalone"
    for lost in ("store", "artifacts"):
        shutil.rmtree(data / lost)

    told = installed.run("restore", "--sandbox", "--dry-run", "--snapshot", snapshot)
    nothing = not (data / "store" / "mydb.sqlite").exists()
    done = installed.run("restore", "--sandbox", "--json", "--snapshot", snapshot, "--database", "postgresql")

    assert told.code == 0, told.err
    assert f"would restore snapshot {snapshot}" in told.out
    assert nothing
    assert done.code == 0, done.err
    report = done.data["recovery"]["report"]
    assert report["dialect"] == {"from": "sqlite", "to": "postgresql"}
    assert report["database_identical"] is True
    assert report["artifacts_identical"] is True
    assert done.data["verification"]["passed"] is True
    assert_reads(installed, helper, logged)
