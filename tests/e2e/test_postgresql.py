"""The same on PostgreSQL, started by the sandbox from the wheel. In order."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.site import ACCOUNT, Site


@pytest.fixture(scope="module")
def installed(site: Site) -> Site:
    done = site.install("--database", "postgresql")
    assert done.code == 0, done.err
    return site


def test_the_server_passes_verify(installed: Site) -> None:
    proved = installed.run("verify", "--sandbox", "--json")

    assert proved.code == 0, proved.out
    assert proved.data["outcome"] == "passed"
    assert not list(installed.data().rglob("*.sqlite")), "the data is in PostgreSQL"


def test_a_second_install_writes_nothing_and_stays_with_the_database(installed: Site) -> None:
    for options in (["--database", "postgresql"], []):
        again = installed.install(*options)

        assert again.code == 0, again.err
        assert again.data["writes"] == 0
        assert again.data["requests"] <= 19


@pytest.fixture(scope="module")
def logged(installed: Site, helper: Path) -> tuple[str, str]:
    """A run that is kept, and one that was deleted."""
    kept, doomed, _ = installed.client(helper, installed.client_environment(), "log kept", "log doomed", "delete")
    return kept["run"], doomed["run"]


def test_garbage_collection_works_there_too(installed: Site, logged: tuple[str, str]) -> None:
    environment = installed.client_environment()
    kept, doomed = logged
    shorter = installed.configure("gc: {variables: {MLFLOW_TRACKING_GC_TTL: 0d0h0m0s}}\n")
    assert installed.install("--yes", *shorter).code == 0

    done, log = installed.run_gc()

    assert done["state"] == "completed", log
    assert json.loads(log.strip().splitlines()[-1])["outcome"] == "done"
    assert not installed.exists(environment, doomed)
    assert installed.exists(environment, kept)
    assert secret_of(installed) not in log


def test_a_wrong_password_ends_stage_8_with_the_log_and_the_right_one_fixes_it(
    installed: Site, logged: tuple[str, str]
) -> None:
    """The sandbox's note of its database's URI is what the install takes it from."""
    note = installed.sandbox / "database-uri"
    right = note.read_text()
    note.write_text(right.replace(secret_of(installed), "planted-wrong-password"))
    deadline = installed.configure("platform: {deployment_deadline: 25}\n")

    failed = installed.install("--yes", *deadline)
    note.write_text(right)
    fixed = installed.install("--yes", *deadline)

    assert failed.code == 20, failed.err
    shown = failed.data["error"]
    assert shown["kind"] == "StageFailed"
    assert "stage 8 (deploy)" in failed.err
    assert "password authentication failed" in shown["detail"], shown
    assert "Traceback" not in failed.err.replace(shown["detail"], "")
    everything = failed.out + failed.err + memory_of(installed)
    assert "planted-wrong-password" not in everything
    assert secret_of(installed) not in everything
    assert fixed.code == 0, fixed.err
    assert installed.run("verify", "--sandbox", "--json").code == 0
    kept, _ = logged
    read = installed.read(installed.client_environment(), kept)
    assert read == {"loss": 0.25, "note": f"an artifact of {kept}", "stage": "active"}
    assert len([p for p in installed.owner().get("projects") if p["owner"] == ACCOUNT]) == 1


def secret_of(site: Site) -> str:
    password = urlsplit((site.sandbox / "database-uri").read_text()).password
    assert password
    return password


def memory_of(site: Site) -> str:
    """What the tool wrote down of the installation."""
    files = [file for file in site.state.glob("localhost*/*") if file.is_file()]
    assert {"journal.jsonl", "state.json"} <= {file.name for file in files}
    return "".join(file.read_text() for file in files)
