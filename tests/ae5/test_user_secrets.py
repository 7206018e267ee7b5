"""Secrets: set before they are needed, waited for, and never shown."""

from __future__ import annotations

import pytest

from mlflow_ae5_deploy.ae5.client import Client
from mlflow_ae5_deploy.common.errors import (
    AnswerLost,
    Configuration,
    DeadlineExceeded,
    Denied,
    PlatformError,
    Refused,
    UnexpectedAnswer,
)
from mlflow_ae5_deploy.common.redaction import Secret

from .conftest import LOSSES, leaks, loss
from .stub import Reply, answer, page, redirect


@pytest.fixture
def scripted(session, clock):
    """Through every provider: this is where ae5-tools leaks."""
    return Client(session, clock)


URI = "postgresql://mlflow:geheim-17@db/mlflow"


def test_secrets_are_set_listed_replaced_and_deleted(bench):
    bench.platform.put_secrets({"A_1": Secret("one-value"), "B_2": Secret("two-value")})
    assert {"A_1", "B_2"} <= bench.platform.secret_names()
    bench.platform.put_secret("A_1", Secret("another-value"))
    bench.platform.delete_secret("A_1")
    bench.platform.delete_secret("A_1")
    assert "A_1" not in bench.platform.secret_names()
    assert bench.count("POST", "credentials/user") == 3


def test_one_list_proves_many_secrets(bench):
    bench.platform.put_secrets({f"S_{number}": Secret(f"value-{number}") for number in range(5)})
    assert bench.count("POST", "credentials/user") == 5
    assert bench.count("GET", "credentials/user") == 1


@pytest.mark.parametrize("how", LOSSES)
def test_a_secret_whose_answer_is_lost_is_set_again(bench, how):
    bench.control.add_fault(**loss("POST", "credentials/user", how))
    bench.platform.put_secret("LOST", Secret("some-value"))
    assert "LOST" in bench.platform.secret_names()
    assert bench.count("POST", "credentials/user") == 2
    bench.control.add_fault(**loss("DELETE", "credentials/user", how))
    bench.platform.delete_secret("LOST")
    assert "LOST" not in bench.platform.secret_names()


def test_a_secret_that_shows_late_is_waited_for(scripted, stub):
    stub.on("POST", "credentials/user", Reply(200, kind=None))
    stub.on("GET", "credentials/user", answer({"data": []}), answer({"data": []}), answer({"data": ["A", "B"]}))
    scripted.put_secret("A", Secret("some-value"))
    assert len(stub.sent("GET", "credentials/user")) == 3


def test_a_secret_that_never_shows_ends_the_wait(scripted, stub, clock):
    stub.on("POST", "credentials/user", Reply(200, kind=None))
    stub.on("GET", "credentials/user", answer({"data": []}), always=True)
    with pytest.raises(DeadlineExceeded, match="the secrets A to be listed"):
        scripted.put_secret("A", Secret("some-value"))
    assert 300 <= clock.elapsed < 310


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(400, f"bad {URI}", f'{{"message": "{URI}"}}'.encode()), Refused),
        (Reply(500, "Internal Server Error", URI.encode(), "text/plain"), Refused),
        (Reply(403, f"no {URI}"), Denied),
        (Reply(503), AnswerLost),
        (Reply(drop=True), AnswerLost),
        (redirect(f"/somewhere?value={URI}"), UnexpectedAnswer),
        (page(f"<html>{URI}</html>"), UnexpectedAnswer),
    ],
    ids=["400", "500", "403", "503", "dropped", "redirect", "page"],
)
def test_no_error_shows_the_value(scripted, stub, reply, kind):
    """ae5-tools prints the whole request body, value included."""
    stub.on("POST", "credentials/user", reply, always=True)
    with pytest.raises(kind) as caught:
        scripted.put_secret("MLFLOW_BACKEND_STORE_URI", Secret(URI))
    assert leaks(caught.value, URI, "geheim-17") == []


def test_a_write_answered_by_the_login_page_is_not_success(scripted, stub):
    """ae5-tools follows the redirect and returns None, as after a success."""
    stub.on("POST", "credentials/user", redirect("/login"), always=True)
    with pytest.raises(PlatformError):
        scripted.put_secret("A", Secret("some-value"))


@pytest.mark.parametrize("name", ["", "A-B", "A B", "A\n", "../x", "Ä"])
def test_names_the_platform_could_not_keep_are_refused_before_sending(scripted, stub, name):
    for act in (
        lambda: scripted.put_secrets({"GOOD": Secret("x"), name: Secret("y")}),
        lambda: scripted.delete_secret(name),
    ):
        with pytest.raises(Configuration):
            act()
    assert not stub.sent("POST", "credentials/user")


@pytest.mark.parametrize("body", [None, {"data": None}, {"data": [{"name": "A"}]}, {"names": ["A"]}, "A"])
def test_an_odd_list_of_names_is_not_taken_for_an_empty_one(scripted, stub, body):
    stub.on("GET", "credentials/user", answer(body))
    with pytest.raises(UnexpectedAnswer):
        scripted.secret_names()
