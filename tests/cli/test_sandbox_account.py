"""Whose installation a rehearsal is, and that a server that is still starting is waited for."""

from __future__ import annotations

import json

import pytest

from tests.cli.answers import assert_tells

OWN = "account: {username: svc-other, password: 'env:NOT_SET'}\nprofiles: {prod: {account: {username: svc-prod}}}\n"


@pytest.mark.parametrize(
    ("options", "account"),
    [
        ([], "svc-other"),
        (["--profile", "prod"], "svc-prod"),
        (["--username", "svc-flag", "--profile", "prod"], "svc-flag"),
    ],
)
def test_a_rehearsal_is_for_the_account_that_is_configured(bench, capsys, monkeypatch, options, account):
    monkeypatch.setenv("AE5_USERNAME", "not-this-one")
    path = bench.configure(OWN)

    told = bench.run(
        capsys, "plan", "--sandbox", "--json", "--release", str(bench.release), "--config", str(path), *options
    )

    assert told.code == 0, told.err
    assert told.data["installation"]["account"] == account


def test_the_sandbox_creates_the_configured_account(bench, capsys):
    path = bench.configure(OWN)

    installed = bench.install(capsys, "--config", str(path))

    assert installed.code == 0, installed.err
    assert installed.data["installation"]["account"] == "svc-other"
    again = bench.install(capsys, "--config", str(path))
    assert (again.code, again.data["outcome"]) == (0, "unchanged")
    assert bench.run(capsys, "uninstall", "--sandbox", "--yes", "--config", str(path)).code == 0


class TestAServerThatIsStarting:
    """The platform's list shows it as starting, once or for as long as the test lasts."""

    @pytest.fixture
    def shown_as_starting(self, bench, capsys):
        assert bench.install(capsys).code == 0
        records = bench.owner().get("deployments")
        for record in records:
            record["state"] = "starting"

        def show(times: int | None) -> None:
            fault = {"method": "GET", "path": "/deployments$", "status": 200, "body": json.dumps(records)}
            bench.control("POST", "/faults", {**fault, "times": times, "headers": {"Content-Type": "application/json"}})

        yield show
        bench.control("DELETE", "/faults")

    @pytest.mark.parametrize("verb", [["env", "--show-token"], ["verify"]])
    def test_is_awaited_where_a_token_is_wanted(self, bench, capsys, shown_as_starting, verb):
        shown_as_starting(1)

        told = bench.run(capsys, *verb, "--sandbox", "--json")

        assert "running deployment" not in told.err
        if verb == ["verify"]:  # the bench's server is no MLflow, so its checks fail, but they are made
            assert told.data["checks"]
        else:
            assert told.data["environment"]["MLFLOW_TRACKING_TOKEN"]

    def test_is_told_as_such_where_nothing_may_be_written(self, bench, capsys, shown_as_starting):
        shown_as_starting(None)

        assert_tells(bench.run(capsys, "env", "--sandbox"), 15, "it is starting", "Wait until it has started")
