"""The install beside other people: consumers who get the token, and projects that hold the endpoint."""

from __future__ import annotations

import json
import secrets as random

import pytest

from tests.cli.bench import ACCOUNT
from tests.sandbox.support import Admin, Client

ENDPOINT = "dev-mlflow-tracking-server"


@pytest.fixture
def configured(bench):
    def write(**extra):
        path = bench.folder / "own.yaml"
        path.write_text(json.dumps({"platform": {"lost_answer_deadline": 0.5}, **extra}))
        return ["--config", str(path)]

    return write


def test_an_endpoint_claimed_by_another_project_is_a_conflict_that_names_it(bench, capsys):
    password = random.token_hex(8)
    Admin(bench.info).create("neighbour", password)
    neighbour = Client(bench.info, "neighbour", password)
    project = neighbour.upload(bench.release, "their-project").json()
    deployment = neighbour.deploy(project["id"], static_endpoint=ENDPOINT, name="theirs")

    running = bench.install(capsys)
    neighbour.call("DELETE", f"deployments/{deployment['id']}")  # the claim outlives the deployment
    claimed = bench.install(capsys)

    for refused in (running, claimed):
        assert refused.code == 14
        assert refused.data["error"]["kind"] == "Conflict"
        assert ENDPOINT in refused.data["error"]["what"]
        assert project["id"] in refused.data["error"]["what"]
        assert bench.owner().get("deployments") == []

    neighbour.call("DELETE", f"projects/{project['id']}")
    freed = bench.install(capsys)
    assert freed.code == 0, freed.err


def test_a_consumer_gets_url_and_token_and_keeps_them_in_step(bench, capsys, configured):
    options = configured(consumers=[{"username": "dev-user"}])

    first = bench.install(capsys, *options)
    bench.forget_calls()
    again = bench.install(capsys, *options)

    assert first.code == 0, first.err
    consumer = Client(bench.info, "dev-user")
    assert {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_TOKEN"} <= set(
        consumer.get("credentials/user")["data"]
    )
    assert again.data["outcome"] == "unchanged"
    assert bench.writes() == []


def test_an_unknown_consumer_is_named_and_the_service_account_is_served_all_the_same(bench, capsys, configured):
    outcome = bench.install(capsys, *configured(consumers=[{"username": "nobody-here"}]))

    assert outcome.code == 23
    assert "nobody-here" in outcome.data["error"]["what"]
    owner = bench.owner()
    assert "MLFLOW_TRACKING_TOKEN" in owner.get("credentials/user")["data"]


def test_foreign_projects_of_the_account_are_warned_of(bench, capsys):
    bench.install(capsys)
    owner = bench.owner()
    owner.upload(bench.release, "somebody-elses-work")

    outcome = bench.install(capsys)

    assert outcome.code == 0
    assert "somebody-elses-work" in outcome.data["stages"][0]["warnings"][0]
    assert ACCOUNT in outcome.data["stages"][0]["warnings"][0]
