"""A platform that cannot be reached, is not trusted, says no, or says nothing in the middle of an install."""

from __future__ import annotations

import json
import socket

import pytest

from mlflow_ae5_deploy.sandbox import lifecycle
from tests.cli.answers import assert_error, assert_no_accident
from tests.cli.bench import Bench


@pytest.fixture
def changed_credentials(bench):
    """Change what the sandbox's administrator is thought to have as a password; put right afterwards."""
    file = bench.info.credentials_file
    good = file.read_text()

    def change(**admin: str) -> None:
        accounts = json.loads(good)
        accounts["admin"] |= admin
        file.write_text(json.dumps(accounts))

    yield change
    file.write_text(good)


@pytest.mark.parametrize("verb", ["install", "plan", "verify", "env"])
def test_a_wrong_administrator_password_is_a_login_error(bench, capsys, changed_credentials, verb):
    changed_credentials(password="wrong-admin-password")
    bench.forget_calls()

    refused = bench.run(capsys, verb, "--sandbox", "--json")

    assert_error(refused, 11, "rejected the name or the password", "administrator admin", bench.info.hostname)
    assert "wrong-admin-password" not in refused.out + refused.err
    assert bench.writes() == []


def test_a_consumer_with_a_wrong_password_is_named_and_the_rest_is_installed(bench, capsys, monkeypatch):
    monkeypatch.setenv("CONSUMER_PASSWORD", "wrong-consumer-password")
    path = bench.configure("consumers: [{username: dev-user, password: 'env:CONSUMER_PASSWORD'}]\n")

    refused = bench.install(capsys, "--config", str(path))

    assert_error(refused, 23, "The token is not stored for dev-user", "rejected the name or the password of dev-user")
    assert "wrong-consumer-password" not in refused.out + refused.err
    kept = bench.everything()
    assert len(kept["deployments"]) == 1
    again = bench.install(capsys)
    assert again.code == 0, again.err
    assert bench.everything()["deployments"] == kept["deployments"]


class TestInTheMiddle:
    """Faults on single requests of a repeated install; the platform must look the same afterwards."""

    READS = ("/projects$", "/deployments$", "/jobs$", "/collaborators$", "credentials/user$", "/archive")
    FOREVER = (
        ("/projects$", {"status": 503}, 10),
        ("/archive", {"drop": "before"}, 10),
        ("/deployments$", {"status": 403}, 12),
        ("credentials/user$", {"status": 404}, 15),
        ("/collaborators$", {"status": 200, "body": "<html>"}, 17),
        ("/jobs$", {"status": 200, "body": "{}", "headers": {"Content-Type": "application/json"}}, 17),
        ("/jobs$", {"status": 400, "reason": "no such luck"}, 16),
    )

    @pytest.mark.parametrize(("path", "fault", "code"), FOREVER, ids=lambda value: str(value))
    def test_a_read_that_never_works_ends_the_run_and_changes_nothing(self, bench, capsys, path, fault, code):
        assert bench.install(capsys).code == 0
        before = bench.everything()
        bench.forget_calls()

        with bench.fault("GET", path, times=None, **fault):
            refused = bench.install(capsys)

        assert_error(refused, code)
        assert bench.writes() == []
        assert bench.everything() == before

    @pytest.mark.parametrize("path", READS)
    @pytest.mark.parametrize("fault", [{"status": 503}, {"drop": "before"}], ids=["503", "dropped"])
    def test_a_read_that_fails_once_is_repeated(self, bench, capsys, path, fault):
        with bench.fault("GET", path, times=1, **fault):
            done = bench.install(capsys)

        assert done.code == 0, done.err
        assert done.data["writes"] == 0

    def test_a_platform_that_dies_in_the_middle_and_comes_back(self, bench, capsys):
        """Nothing answers any more from the upload on; the next run finishes."""
        bench.run(capsys, "sandbox", "reset", "--yes")
        bench.start()
        bench.control("POST", "/faults", {"method": "POST", "path": "projects/upload$", "times": 1, "drop": "after"})
        bench.control("POST", "/faults", {"skip": 24, "times": None, "drop": "before"})

        dead = bench.install(capsys)
        bench.control("DELETE", "/faults")
        alive = bench.install(capsys)

        assert dead.code in (10, 18), dead.err
        assert_no_accident(dead)
        assert alive.code == 0, alive.err
        everything = bench.everything()
        assert [len(everything[kind]) for kind in ("projects", "deployments", "jobs")] == [1, 1, 1]


def test_an_expired_certificate_is_named(bench, capsys):
    lifecycle.down(bench.folder / "state" / "sandbox")
    lifecycle.up(bench.folder / "state" / "sandbox", settings={"expired_certificate": True})
    try:
        refused = bench.run(capsys, "install", "--sandbox", "--json", "--release", str(bench.release))
    finally:
        lifecycle.down(bench.folder / "state" / "sandbox")
        lifecycle.up(bench.folder / "state" / "sandbox", settings={"expired_certificate": False})

    assert_error(refused, 10, "certificate", "has expired", bench.info.hostname)
    again = bench.install(capsys)
    assert again.code == 0, again.err


def test_a_sandbox_that_cannot_start_shows_the_reason(bench: Bench, capsys):
    folder = bench.folder / "state" / "sandbox"
    port = int(bench.info.hostname.rpartition(":")[2])
    lifecycle.down(folder)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        refused = bench.run(capsys, "install", "--sandbox")
    lifecycle.up(folder)

    assert_error(refused, 10, f"Error: The sandbox did not start: Port {port} ", "sandbox logs")
    assert "GET" not in refused.err
    assert bench.install(capsys).code == 0
