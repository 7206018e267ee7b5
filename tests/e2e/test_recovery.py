"""Losing everything and getting it back, with a real MLflow and the real jobs: from a snapshot on SQLite, then from the
same snapshot into PostgreSQL. In order."""

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
    found: dict[str, str] = installed.client(helper, installed.client_environment(), "log", "precious")
    return found


@pytest.fixture(scope="module")
def snapshot(installed: Site, logged) -> str:
    done = installed.run("backup", "--sandbox", "--json")
    assert done.code == 0, done.err
    report = done.data["run"]["report"]
    assert report["runs"] >= 1
    assert report["artifacts"] == 1
    return str(report["snapshot"])


def assert_reads(site: Site, helper, logged) -> None:
    read = site.client(helper, site.client_environment(), "read", logged["run"])
    assert read == {"loss": 0.25, "note": f"an artifact of {logged['run']}", "stage": "active"}


def test_a_snapshot_is_read_back_and_a_second_one_copies_nothing(installed: Site, snapshot) -> None:
    verified = installed.run("backup", "verify", "--all", "--sandbox", "--json")
    again = installed.run("backup", "--sandbox", "--json")
    pruned = installed.run("backup", "prune", "--keep-last", "1", "--sandbox")
    listed = installed.run("backup", "list", "--sandbox", "--json")
    status = installed.run("status", "--sandbox", "--json")

    assert verified.code == 0, verified.err
    assert verified.data["run"]["report"]["damaged"] == []
    assert again.data["run"]["report"]["new_bytes"] <= verified.data["run"]["report"]["checked_bytes"]
    assert pruned.code == 0, pruned.err
    found = [item["snapshot"] for item in listed.data["run"]["report"]["snapshots"]]
    assert len(found) == 2
    assert status.data["backup"]["snapshot"] in found


def test_a_drill_proves_it_beside_the_running_server(installed: Site, snapshot) -> None:
    before = installed.deployment()["id"]

    done = installed.run("drill", "--sandbox", "--json")

    assert done.code == 0, done.err
    report = done.data["run"]["report"]
    assert report["recovery_seconds"] > 0
    assert len(report["checks"]) > 2
    assert all(check["passed"] for check in report["checks"])
    assert installed.deployment()["id"] == before


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
    done = installed.run("restore", "--sandbox", "--json", "--snapshot", snapshot)

    assert told.code == 0, told.err
    assert f"would restore snapshot {snapshot}" in told.out
    assert nothing
    assert done.code == 0, done.err
    report = done.data["recovery"]["report"]
    assert report["database_identical"] is True
    assert report["artifacts_identical"] is True
    assert done.data["verification"]["passed"] is True
    assert_reads(installed, helper, logged)


def test_a_pilot_becomes_production(installed: Site, snapshot, logged, helper) -> None:
    """The artifacts stay where they are, so they are kept aside with the restore, and are written anew."""
    words = ("restore", "--sandbox", "--json", "--snapshot", snapshot, "--stop-server", "--replace", "--yes")

    done = installed.run(*words, "--database", "postgresql")

    assert done.code == 0, done.err
    assert done.data["recovery"]["report"]["dialect"] == {"from": "sqlite", "to": "postgresql"}
    assert_reads(installed, helper, logged)
