"""The whole way on SQLite with a real MLflow: install, use, collect garbage, break, mend. In order."""

from __future__ import annotations

import json

import pytest

from tests.e2e.site import ACCOUNT, Site
from tests.sandbox.support import Client, wait_for

pytestmark = pytest.mark.real_mlflow


@pytest.fixture(scope="module")
def installed(site: Site) -> Site:
    done = site.install()
    assert done.code == 0, done.err
    assert done.data["outcome"] == "changed"
    return site


@pytest.fixture(scope="module")
def environment(installed: Site) -> dict[str, str]:
    return installed.client_environment()


@pytest.fixture(scope="module")
def first_run(installed: Site, environment: dict[str, str], helper) -> dict[str, str]:
    (found,) = installed.client(helper, environment, "log first")
    return dict(found)


def test_the_server_is_proved_from_outside(installed: Site) -> None:
    proved = installed.run("verify", "--sandbox", "--json")

    assert proved.code == 0, proved.out
    assert proved.data["outcome"] == "passed"
    names = [check["name"] for check in proved.data["checks"]]
    assert "no token gets nothing" in names
    assert "a wrong token gets nothing" in names
    assert len(names) == 9


def test_a_second_install_writes_nothing(installed: Site) -> None:
    again = installed.install()

    assert again.code == 0, again.err
    assert again.data["outcome"] == "unchanged"
    assert again.data["writes"] == 0
    assert again.data["requests"] <= 15
    assert all(stage["reason"] for stage in again.data["stages"])


def test_a_client_needs_only_the_printed_environment(
    installed: Site, environment: dict[str, str], first_run, helper
) -> None:
    (read,) = installed.client(helper, environment, f"read {first_run['run']}")

    assert read == {"loss": 0.25, "note": f"an artifact of {first_run['run']}", "stage": "active"}
    assert environment["MLFLOW_TRACKING_URI"] == installed.deployment()["url"].rstrip("/")


def test_the_user_interface_opens_for_a_colleague_and_inside_of_the_platform(
    installed: Site, environment: dict[str, str]
) -> None:
    """The person is no owner: the deployment is shared with everyone. Strangers end up at the login page."""
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
    installed: Site, environment: dict[str, str], first_run, helper
) -> None:
    doomed, deleted = installed.client(helper, environment, "log second", "delete")
    assert deleted == {"stage": "deleted"}
    folder = installed.data() / "mlflow" / "standalone" / "artifacts" / doomed["experiment"] / doomed["run"]
    assert (folder / "artifacts" / "note.txt").is_file()

    young, young_log = installed.run_gc()
    (kept,) = installed.client(helper, environment, f"exists {doomed['run']}")
    changed = installed.install(*installed.configure("gc: {variables: {MLFLOW_TRACKING_GC_TTL: 0d0h0m0s}}\n"))
    done, log = installed.run_gc()
    gone, read = installed.client(helper, environment, f"exists {doomed['run']}", f"read {first_run['run']}")

    assert young["state"] == "completed", young_log
    assert kept is True, "30 days are not over"
    assert changed.code == 0, changed.err
    assert [s["name"] for s in changed.data["stages"] if s["outcome"] == "changed"] == ["gc-schedule"]
    assert done["state"] == "completed", log
    told = json.loads(log.strip().splitlines()[-1])
    assert (told["command"], told["outcome"], told["exit_code"]) == ("GarbageCollection", "done", 0)
    assert gone == "RESOURCE_DOES_NOT_EXIST"
    assert not (folder / "artifacts" / "note.txt").exists()
    assert read["stage"] == "active"


def test_a_killed_server_is_started_again(installed: Site, environment: dict[str, str]) -> None:
    before = installed.deployment()
    (server,) = installed.servers()

    server.kill()
    wait_for(lambda: not server.is_running(), "the server to die")
    installed.await_health(environment)

    after = installed.deployment()
    assert (after["id"], after["url"]) == (before["id"], before["url"])
    (again,) = installed.servers()
    assert again.pid != server.pid


def test_the_sandbox_goes_down_and_comes_back_with_everything(
    installed: Site, environment: dict[str, str], first_run, helper
) -> None:
    before = installed.deployment()

    down = installed.run("sandbox", "down")
    left = installed.processes()
    up = installed.run("sandbox", "up")
    installed.await_health(environment)

    assert (down.code, up.code) == (0, 0)
    assert left == []
    assert installed.deployment()["id"] == before["id"]
    (read,) = installed.client(helper, environment, f"read {first_run['run']}")
    assert read["note"] == f"an artifact of {first_run['run']}"


def test_a_broken_database_ends_stage_8_with_the_log_and_the_right_one_mends_it(
    installed: Site, first_run, helper
) -> None:
    """The folder for the database would have to be made below a file."""
    broken = installed.configure(
        "server: {backend_store_uri: 'sqlite:///anaconda-project.yml/store/mydb.sqlite'}\n"
        "platform: {deployment_deadline: 25}\n"
    )

    failed = installed.install(*broken)
    mended = installed.install()

    assert failed.code == 20, failed.err
    assert failed.data["error"]["kind"] == "StageFailed"
    assert "stage 8 (deploy)" in failed.err
    assert "anaconda-project.yml" in failed.data["error"]["detail"], failed.data["error"]
    assert "Traceback" not in failed.err.replace(failed.data["error"]["detail"], "")
    assert mended.code == 0, mended.err
    environment = installed.client_environment()
    (read,) = installed.client(helper, environment, f"read {first_run['run']}")
    assert read["loss"] == 0.25
    assert installed.owner().get("credentials/user")["data"]
    assert len([p for p in installed.owner().get("projects") if p["owner"] == ACCOUNT]) == 1
