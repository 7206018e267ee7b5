"""Where nothing is installed, a schedule or an undo ends with 15 before anything is written."""

from __future__ import annotations

import pytest

from tests.cli.answers import assert_error
from tests.cli.snapshotting import make_snapshotting_release

SCHEDULES = [
    ("schedule-gc",),
    ("schedule-gc", "--cron", "30 3 * * *"),
    ("backup", "schedule", "30 2 * * *"),
    ("drill", "schedule", "30 4 * * 0"),
]
UNDOS = [("restore", "--undo"), ("restore", "--undo", "--dry-run"), ("restore", "--undo", "--saved", "kept_x", "--yes")]


@pytest.fixture
def site(bench, capsys):
    if bench.release.name != "snapshotting.tar.gz":
        bench.release = make_snapshotting_release(bench.folder / "snapshotting.tar.gz")
        assert bench.install(capsys).code == 0
    return bench


@pytest.mark.parametrize("argv", [*SCHEDULES, *UNDOS], ids=" ".join)
def test_in_an_account_without_the_project(site, capsys, argv):
    config = site.configure("platform: {lost_answer_deadline: 0.5}\nproject: {name: another}\n")
    site.forget_calls()

    refused = site.run(capsys, *argv, "--sandbox", "--config", str(config))

    assert_error(refused, 15, "no project `another`", "install")
    assert site.writes() == []


@pytest.mark.parametrize("argv", SCHEDULES, ids=" ".join)
def test_with_a_project_but_no_deployment(site, capsys, argv):
    assert site.install(capsys).code == 0
    assert site.run(capsys, "schedule-gc", "--sandbox", "--remove").code == 0
    owner = site.owner()
    for deployment in owner.get("deployments"):
        owner.call("DELETE", f"deployments/{deployment['id']}")
    site.forget_calls()

    refused = site.run(capsys, *argv, "--sandbox")

    assert_error(refused, 15, "no deployment", "`mlflow-ae5-deploy install --sandbox` first")
    assert site.writes() == []
    assert owner.get("jobs") == []


@pytest.mark.parametrize("argv", UNDOS, ids=" ".join)
def test_an_undo_on_a_platform_without_the_account(site, capsys, argv):
    site.forget_calls()

    refused = site.run(capsys, *argv, "--sandbox", "--username", "nobody-yet")

    assert_error(refused, 15, "no project")
    assert site.writes() == []
