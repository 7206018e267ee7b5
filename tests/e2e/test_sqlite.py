"""The whole way on SQLite with a real MLflow: install, use, collect garbage, back up, lose all, restore. In order.

A server that dies is started again: see tests/sandbox/test_deployments.py and tests/project_template/test_prefork.py.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.site import Site
from tests.sandbox.support import Client


@pytest.fixture(scope="module")
def installed(site: Site) -> Site:
    done = site.install()
    assert done.code == 0, done.err
    assert done.data["outcome"] == "changed"
    return site


@pytest.fixture(scope="module")
def environment(installed: Site) -> dict[str, str]:
    return installed.client_environment()


@dataclass(frozen=True)
class Logged:
    """What a data scientist has done: one run, read again; another one, deleted again."""

    first: dict[str, str]
    read: dict[str, Any]
    doomed: dict[str, str]
    deleted: dict[str, str]


@pytest.fixture(scope="module")
def logged(installed: Site, environment: dict[str, str], helper: Path) -> Logged:
    return Logged(*installed.client(helper, environment, "log first", "read", "log second", "delete"))


@pytest.fixture(scope="module")
def planted(installed: Site, environment: dict[str, str]) -> str:
    """A webhook with a secret, by its id, and an LLM key in the gateway. The webhook's event does not occur here."""
    hook = {
        "name": "planted",
        "url": "https://1.1.1.1/",
        "events": [{"entity": "PROMPT", "action": "CREATED"}],
        "secret": "hmac-planted-0123456789",
    }
    key = {"secret_name": "planted", "secret_value": {"api_key": "sk-planted-0123456789"}, "provider": "openai"}
    made = installed.call("POST", environment, "2.0/mlflow/webhooks", hook)
    installed.call("POST", environment, "3.0/mlflow/gateway/secrets/create", key)
    return str(made["webhook"]["webhook_id"])


def assert_webhooks_work(site: Site, environment: dict[str, str], planted: str) -> None:
    """MLflow answers 500 to these where the key of the secret is another one."""
    listed = site.ask(environment, "mlflow/webhooks")
    assert listed.status_code == 200, listed.text
    assert [webhook["webhook_id"] for webhook in listed.json()["webhooks"]] == [planted]
    assert site.ask(environment, f"mlflow/webhooks/{planted}").status_code == 200


@pytest.fixture(scope="module")
def snapshot(installed: Site, logged: Logged, planted: str) -> str:
    """Made when garbage has been collected: of the first run alone."""
    done = installed.run("backup", "--sandbox", "--json")
    assert done.code == 0, done.err
    report = done.data["run"]["report"]
    assert report["runs"] >= 1
    assert report["artifacts"] == 1
    return str(report["snapshot"])


def assert_reads(site: Site, environment: dict[str, str], logged: Logged) -> None:
    """What is read as well without the client: that takes two seconds to load."""
    assert site.read(environment, logged.first["run"]) == logged.read


def test_the_server_passes_verify(installed: Site) -> None:
    proved = installed.run("verify", "--sandbox", "--json")

    assert proved.code == 0, proved.out
    assert proved.data["outcome"] == "passed"
    names = [check["name"] for check in proved.data["checks"]]
    assert "request without a token is rejected" in names
    assert "request with a wrong token is rejected" in names
    assert "configured database in use" in names
    assert names[-1] == "test data marked as deleted; GC removes it for good after 30 days"
    assert len(names) == 10
    file = installed.data() / "mlflow" / "standalone" / "store" / "mydb.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as database:
        rows = database.execute("SELECT lifecycle_stage, status FROM runs").fetchall()
    assert rows == [("deleted", "FINISHED")], "a deleted run keeps its status, and would count as going on"


def test_a_second_install_writes_nothing(installed: Site) -> None:
    again = installed.install()

    assert again.code == 0, again.err
    assert again.data["outcome"] == "unchanged"
    assert again.data["writes"] == 0
    assert again.data["requests"] <= 19
    assert all(stage["reason"] for stage in again.data["stages"])


def test_a_client_needs_only_the_printed_environment(
    installed: Site, environment: dict[str, str], logged: Logged
) -> None:
    assert logged.read == {"loss": 0.25, "note": f"an artifact of {logged.first['run']}", "stage": "active"}
    assert logged.deleted == {"stage": "deleted"}
    assert environment["MLFLOW_TRACKING_URI"] == installed.deployment()["url"].rstrip("/")
    assert_reads(installed, environment, logged)


def test_the_user_interface_opens_for_a_colleague_and_inside_of_the_platform(
    installed: Site, environment: dict[str, str]
) -> None:
    """The person is no owner: the deployment is shared with everyone. Others end up at the login page."""
    person = Client(installed.info, "dev-user")
    stranger = Client(installed.info)
    url = environment["MLFLOW_TRACKING_URI"] + "/"

    page = person.session.get(url)
    turned_away = stranger.session.get(url)

    assert page.status_code == 200
    assert "<title>MLflow</title>" in page.text
    assert "X-Frame-Options" not in page.headers
    policy = page.headers.get("Content-Security-Policy", "")
    assert "frame-ancestors" in policy
    assert installed.info.hostname in policy.partition("frame-ancestors")[2].partition(";")[0]
    assert "kc-form-login" in turned_away.text
    script = page.text.partition('src="')[2].partition('"')[0]
    assert script
    assert person.session.get(url + script.lstrip("./")).status_code == 200
    search = person.session.post(f"{url}ajax-api/2.0/mlflow/experiments/search", json={"max_results": 5})
    assert search.status_code == 200, search.text
    assert [e["name"] for e in search.json()["experiments"]]


def test_garbage_collection_takes_what_was_deleted_and_nothing_else(
    installed: Site, environment: dict[str, str], logged: Logged
) -> None:
    doomed = logged.doomed
    folder = installed.data() / "mlflow" / "standalone" / "artifacts" / doomed["experiment"] / doomed["run"]
    assert (folder / "artifacts" / "note.txt").is_file()

    young, young_log = installed.run_gc()
    kept = installed.exists(environment, doomed["run"])
    shorter = installed.configure("gc: {variables: {MLFLOW_TRACKING_GC_TTL: 0d0h0m0s}}\n")
    changed = installed.install("--yes", *shorter)
    done, log = installed.run_gc()

    assert young["state"] == "completed", young_log
    assert kept is True, "30 days are not over"
    assert changed.code == 0, changed.err
    assert [s["name"] for s in changed.data["stages"] if s["outcome"] == "changed"] == ["gc-schedule"]
    assert done["state"] == "completed", log
    shown = json.loads(log.strip().splitlines()[-1])
    assert (shown["command"], shown["outcome"], shown["exit_code"]) == ("GarbageCollection", "done", 0)
    assert not installed.exists(environment, doomed["run"])
    assert not (folder / "artifacts" / "note.txt").exists()
    assert_reads(installed, environment, logged)


def test_the_sandbox_goes_down_and_comes_back_with_everything(
    installed: Site, environment: dict[str, str], logged: Logged, planted: str
) -> None:
    before = installed.deployment()

    down = installed.run("sandbox", "down")
    left = installed.processes()
    up = installed.run("sandbox", "up")
    installed.await_health(environment)

    assert (down.code, up.code) == (0, 0)
    assert left == []
    assert installed.deployment()["id"] == before["id"]
    assert_reads(installed, environment, logged)
    assert_webhooks_work(installed, environment, planted)


def test_a_snapshot_is_verified_and_shown_in_status(installed: Site, snapshot: str) -> None:
    verified = installed.run("backup", "verify", "--all", "--sandbox", "--json")
    pruned = installed.run("backup", "prune", "--keep-last", "1", "--sandbox")
    listed = installed.run("backup", "list", "--sandbox", "--json")
    status = installed.run("status", "--sandbox", "--json")

    assert verified.code == 0, verified.err
    assert verified.data["run"]["report"]["damaged"] == []
    assert pruned.code == 0, pruned.err
    assert [item["snapshot"] for item in listed.data["run"]["report"]["snapshots"]] == [snapshot]
    assert status.data["backup"]["snapshot"] == snapshot


def test_a_drill_tests_it_while_the_server_runs(installed: Site, snapshot: str) -> None:
    before = installed.deployment()["id"]
    folder = installed.data() / "mlflow" / "standalone"
    there = sorted(path.name for path in folder.iterdir())

    done = installed.run("drill", "--sandbox", "--json")

    assert done.code == 0, done.err
    report = done.data["run"]["report"]
    assert report["recovery_seconds"] > 0
    assert len(report["checks"]) > 2
    assert all(check["passed"] for check in report["checks"])
    assert installed.deployment()["id"] == before
    assert sorted(path.name for path in folder.iterdir()) == there


def test_a_restore_under_a_running_server_is_refused(installed: Site, snapshot: str) -> None:
    refused = installed.run("restore", "--sandbox", "--json", "--snapshot", snapshot)

    assert refused.code == 27, refused.err
    assert "dev.mlflow.tracking.server" in refused.err


def test_everything_is_lost_and_comes_back_with_its_ids(
    installed: Site, snapshot: str, logged: Logged, planted: str
) -> None:
    """Into PostgreSQL, which is how a pilot becomes production as well."""
    assert installed.run("uninstall", "--sandbox", "--yes", "--purge-secrets").code == 0
    data = installed.data() / "mlflow" / "standalone"
    for lost in ("store", "artifacts"):
        shutil.rmtree(data / lost)

    shown = installed.run("restore", "--sandbox", "--dry-run", "--snapshot", snapshot)
    nothing = not (data / "store" / "mydb.sqlite").exists()
    done = installed.run("restore", "--sandbox", "--json", "--snapshot", snapshot, "--database", "postgresql")

    assert shown.code == 0, shown.err
    assert f"Would restore snapshot {snapshot}" in shown.out
    assert nothing
    assert done.code == 0, done.err
    report = done.data["recovery"]["report"]
    assert report["dialect"] == {"source": "sqlite", "target": "postgresql"}
    assert report["database_identical"] is True
    assert report["artifacts_identical"] is True
    assert done.data["verification"]["passed"] is True
    assert [(key["rows"], key["at_hand"]) for key in report["keys"]] == [(1, "same"), (1, "same")]
    environment = installed.client_environment()
    assert_reads(installed, environment, logged)
    assert_webhooks_work(installed, environment, planted)
    assert installed.call("DELETE", environment, f"2.0/mlflow/webhooks/{planted}") == {}
