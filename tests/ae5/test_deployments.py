"""Deployments: started once, waited for with a deadline, on the endpoint that was meant."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from mlflow_ae5_deploy.ae5.client import Client
from mlflow_ae5_deploy.ae5.models import Collaborator, Deployment, Project, Revision, StaticEndpoint
from mlflow_ae5_deploy.common.errors import (
    AnswerLost,
    Configuration,
    Conflict,
    DeadlineExceeded,
    NotFound,
    PlatformError,
    Refused,
    UnexpectedAnswer,
)
from tests.sandbox.support import wait_for

from .conftest import LOSSES, Bench, leaks, loss
from .stub import Call, Reply, answer, page, redirect

PROJECT = Project("a0-aa", "p", "svc", "default")
REVISION = Revision("0.0.1", "0.0.1", "http://ap-storage/projects/aa/archive/0.0.1", ())


class Starter:
    """A project of its own per test, and its deployments; all are stopped afterwards."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.made: list[str] = []
        self.project = bench.platform.upload(f"d-{uuid4()}", bench.archive)
        (self.revision,) = bench.platform.revisions(self.project.id)

    def __call__(self, endpoint: str | None, **changes: Any) -> Deployment:
        desired = {
            "project": self.project,
            "revision": self.revision,
            "revision_name": "latest",
            "command": "TrackingServer",
            "name": f"dev.{self.project.name}",
            "resource_profile": "default",
        }
        made = self.bench.platform.start_deployment(**desired | {"endpoint": endpoint} | changes)
        self.made.append(made.id)
        return made

    def own(self) -> list[Deployment]:
        for _ in range(2):
            self.bench.platform.deployments()  # some sandboxes show records late
        return [item for item in self.bench.platform.deployments() if item.project_id == self.project.id]


@pytest.fixture
def start(bench):
    starter = Starter(bench)
    yield starter
    bench.control.clear_faults()
    for item in starter.own():
        bench.platform.stop_deployment(item.id)


def _endpoint() -> str:
    return f"e{uuid4().hex[:12]}"


# over the sandbox


def test_a_deployment_starts_serves_is_shared_and_stops(bench, start):
    endpoint = _endpoint()
    started = start(endpoint)
    assert not started.public
    running = bench.platform.wait_started(started)
    assert (running.id, running.endpoint, running.project_id) == (started.id, endpoint, start.project.id)
    assert bench.platform.deployment(started.id) == running
    assert StaticEndpoint(endpoint, start.project.id) in bench.platform.static_endpoints()
    assert running.url is not None
    seen = bench.session.browse(f"{running.url.rstrip('/')}/health")
    assert (seen.status, seen.text) == (200, "OK")
    token = bench.platform.issue_token(started.id)
    assert len(token.reveal()) > 20
    assert "serving with" in bench.platform.logs(started.id).app
    everyone = Collaborator("everyone", "group")
    assert bench.platform.collaborators(started.id) == []
    assert bench.platform.set_collaborators(started.id, [everyone]) == [everyone]
    assert bench.platform.collaborators(started.id) == [everyone]
    bench.platform.stop_deployment(started.id)
    bench.platform.stop_deployment(started.id)
    assert bench.platform.deployment(started.id) is None


def test_variables_of_its_own_reach_it(bench, start):
    running = bench.platform.wait_started(start(_endpoint(), variables={"GREETING": "good day"}))
    assert running.variables == {"GREETING": "good day"}
    seen = bench.session.browse(f"{(running.url or '').rstrip('/')}/about")
    assert '"GREETING": "good day"' in seen.text


def test_without_a_static_endpoint_there_is_none(bench, start):
    assert bench.platform.wait_started(start(None)).endpoint is None


def test_a_failing_command_is_reported_in_the_platforms_words(bench, start):
    with pytest.raises(Refused, match="App failed to run"):
        bench.platform.wait_started(start(None, command="Crash"))


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("hidden", [0, 2])
def test_a_start_whose_answer_is_lost_happens_once(bench, start, how, hidden):
    bench.control.change_settings(list_visibility_polls=hidden)
    bench.control.add_fault(**loss("POST", "/deployments$", how))
    made = start(_endpoint())
    bench.control.change_settings(list_visibility_polls=0)
    assert [item.id for item in start.own()] == [made.id]
    assert bench.count("POST", "projects/[^/]*/deployments") == (2 if how.endswith("before") else 1)


def test_an_endpoint_that_is_freed_late_is_waited_for(bench, start):
    endpoint = _endpoint()
    first = start(endpoint)
    bench.control.change_settings(endpoint_release_seconds=3600)
    bench.platform.stop_deployment(first.id)

    def release() -> None:
        wait_for(lambda: f"the endpoint {endpoint} to be freed" in bench.waits, "somebody to wait for the endpoint")
        bench.control.change_settings(endpoint_release_seconds=0)

    with ThreadPoolExecutor(1) as pool:
        released = pool.submit(release)
        second = start(endpoint)
        released.result()
    assert second.id != first.id


def test_an_endpoint_of_another_project_is_a_conflict_that_names_it(bench, start):
    endpoint = _endpoint()
    start(endpoint)
    other = Starter(bench)
    with pytest.raises(Conflict, match=start.project.id):
        other(endpoint)
    assert bench.waits == []
    assert bench.count("POST", f"projects/{other.project.id}/deployments") == 1


def test_an_endpoint_in_use_by_a_deployment_of_ours_is_a_conflict_at_once(bench, start):
    endpoint = _endpoint()
    first = start(endpoint)
    with pytest.raises(Conflict, match=first.id):
        start(endpoint, name="another")


def test_a_taken_name_is_not_taken_for_a_taken_endpoint(bench, start):
    start(None, name="endpoint")
    with pytest.raises(Conflict, match="name is not unique"):
        start(_endpoint(), name="endpoint")


def test_a_patch_keeps_the_deployments_id(bench, start):
    made = bench.platform.wait_started(start(None))
    changed = bench.platform.patch_deployment(made.id, public=True)
    assert (changed.id, changed.public) == (made.id, True)


@pytest.mark.parametrize("how", LOSSES)
def test_sharing_whose_answer_is_lost_is_done_again(bench, start, how):
    made = start(None)
    bench.control.add_fault(**loss("PUT", "/collaborators$", how))
    everyone = Collaborator("everyone", "group")
    assert bench.platform.set_collaborators(made.id, [everyone]) == [everyone]


def test_sharing_with_an_unknown_account_is_refused(bench, start):
    with pytest.raises(Refused, match="Unknown group nobody"):
        bench.platform.set_collaborators(start(None).id, [Collaborator("nobody", "group")])


@pytest.mark.parametrize("how", LOSSES)
def test_stopping_whose_answer_is_lost_is_done(bench, start, how):
    made = start(None)
    bench.control.add_fault(**loss("DELETE", "/deployments/", how))
    bench.platform.stop_deployment(made.id)
    assert start.own() == []


# over the scripted server


def _record(state: str = "started", identity: str = "a2-d1", **more: object) -> dict[str, object]:
    return {
        "id": identity,
        "name": "dev",
        "owner": "svc",
        "state": state,
        "status_text": "",
        "url": "",
        "public": False,
        "project_url": "http://ap-storage/projects/aa",
        **more,
    }


def _start(platform: Client, endpoint: str | None = "dev-x") -> Deployment:
    return platform.start_deployment(
        project=PROJECT,
        revision=REVISION,
        revision_name="latest",
        command="TrackingServer",
        name="dev",
        endpoint=endpoint,
        resource_profile="default",
    )


def test_a_start_sends_exactly_these_fields(scripted, stub):
    stub.on("POST", "projects/a0-aa/deployments", answer(_record("initial")))
    _start(scripted)
    (call,) = stub.sent("POST", "projects/a0-aa/deployments")
    assert call.json == {
        "source": REVISION.url,
        "revision": "latest",
        "resource_profile": "default",
        "command": "TrackingServer",
        "public": False,
        "target": "deploy",
        "name": "dev",
        "static_endpoint": "dev-x",
    }


@pytest.mark.parametrize("endpoint", ["", "a_b", "a.b", "Dev", "-a", "a-", "a" * 64, "a\n", "ä", "a b", "*"])
def test_an_impossible_endpoint_is_refused_before_sending(scripted, stub, endpoint):
    """ae5-tools sends `a_b.c`."""
    with pytest.raises(Configuration):
        _start(scripted, endpoint)
    assert not stub.sent("POST", "projects/a0-aa/deployments")


@pytest.mark.parametrize("endpoint", ["a", "0", "dev-mlflow-tracking-server", "a" * 63])
def test_a_possible_endpoint_is_sent(scripted, stub, endpoint):
    stub.on("POST", "projects/a0-aa/deployments", answer(_record()))
    assert _start(scripted, endpoint).id == "a2-d1"


def test_an_error_inside_a_200_answer_is_raised(scripted, stub):
    """ae5-tools dies of KeyError: 'project_url' and loses the message."""
    stub.on("POST", "projects/a0-aa/deployments", answer({"error": {"message": "No room for this profile"}}))
    with pytest.raises(Refused, match="No room for this profile"):
        _start(scripted)


def test_another_refusal_is_not_hidden_by_the_search_for_a_claim(scripted, stub):
    stub.on("POST", "projects/a0-aa/deployments", Reply(400, "Unknown command"))
    stub.on("GET", "/platform/deploy/api/v1/apps/static-endpoints", Reply(403, "No"))
    with pytest.raises(Refused, match="Unknown command"):
        _start(scripted)


def test_a_claim_is_found_behind_other_words(scripted, stub):
    stub.on("POST", "projects/a0-aa/deployments", Reply(500, "Internal Server Error"))
    claims = {"data": [{"id": "dev-x", "project_url": "http://s/projects/bb"}]}
    stub.on("GET", "/platform/deploy/api/v1/apps/static-endpoints", answer(claims))
    with pytest.raises(Conflict, match="a0-bb"):
        _start(scripted)


def test_an_endpoint_that_is_never_freed_ends_the_wait(scripted, stub, clock):
    stub.on("POST", "projects/a0-aa/deployments", Reply(400, "endpoint is already in use"), always=True)
    claims = {"data": [{"id": "dev-x", "project_url": "http://s/projects/aa"}]}
    stub.on("GET", "/platform/deploy/api/v1/apps/static-endpoints", answer(claims), always=True)
    stub.on("GET", "deployments", answer([]), always=True)
    with pytest.raises(DeadlineExceeded, match="the endpoint dev-x to be freed"):
        _start(scripted)
    assert 180 <= clock.elapsed < 200
    assert len(stub.sent("POST", "projects/a0-aa/deployments")) < 25


@pytest.mark.parametrize(
    ("records", "kind", "words"),
    [
        (["initial", "starting", "failed"], Refused, "App failed to run"),
        (["initial", "stopped"], Refused, "state stopped"),
        (["starting"], DeadlineExceeded, "the deployment to start"),
        ([None], NotFound, "has disappeared"),
    ],
)
def test_waiting_for_a_start_ends(scripted, stub, clock, records, kind, words):
    replies = [answer(_record(s, status_text="App failed to run")) if s else Reply(404) for s in records]
    stub.on("POST", "projects/a0-aa/deployments", answer(_record("initial")))
    stub.on("GET", "deployments/a2-d1", *replies, always=True)
    with pytest.raises(kind, match=words):
        scripted.wait_started(_start(scripted))
    assert clock.elapsed <= 910


def test_a_deployment_may_show_late(scripted, stub):
    stub.on("POST", "projects/a0-aa/deployments", answer(_record("initial")))
    stub.on("GET", "deployments/a2-d1", Reply(404), Reply(404), answer(_record()))
    assert scripted.wait_started(_start(scripted)).is_started


def test_a_deployment_that_does_not_stop_ends_the_wait(scripted, stub):
    stub.on("DELETE", "deployments/a2-d1", Reply(200, kind=None))
    stub.on("GET", "deployments", answer([_record()]), always=True)
    with pytest.raises(DeadlineExceeded, match="the deployment to stop"):
        scripted.stop_deployment("a2-d1")


def test_waiting_does_not_hide_a_refusal(scripted, stub):
    """ae5-tools takes every error for "still stopping", for ever."""
    stub.on("DELETE", "deployments/a2-d1", Reply(200, kind=None))
    stub.on("GET", "deployments", Reply(403, "No"), always=True)
    with pytest.raises(PlatformError, match="403"):
        scripted.stop_deployment("a2-d1")


TOKEN = "tok-1234567890-abcdef"


def test_a_token_is_a_secret(scripted, stub):
    stub.on("POST", "deployments/a2-d1/token", answer({"token": TOKEN}))
    token = scripted.issue_token("a2-d1")
    assert token.reveal() == TOKEN
    assert TOKEN not in repr(token)


@pytest.mark.parametrize(
    "reply",
    [
        answer({"token": "<html>login</html>"}),
        answer({"token": f"{TOKEN}\n"}),
        answer({"token": ""}),
        answer({"token": None}),
        answer({}),
        answer(TOKEN),
        answer({"error": {"message": "no"}}),
        page("<html>" + TOKEN),
        redirect("/somewhere"),
        Reply(200, kind=None),
    ],
)
def test_what_is_no_token_is_not_taken_for_one(scripted, stub, reply):
    """ae5-tools hands out the login page as the token."""
    stub.on("POST", "deployments/a2-d1/token", reply, always=True)
    stub.on("GET", "/somewhere", answer({"token": TOKEN}))
    with pytest.raises(PlatformError) as caught:
        scripted.issue_token("a2-d1")
    assert leaks(caught.value, TOKEN) == []


def test_a_lost_token_request_is_repeated_and_then_fails(scripted, stub):
    path = "deployments/a2-d1/token"
    stub.on("POST", path, Reply(504), answer({"token": TOKEN}))
    assert scripted.issue_token("a2-d1").reveal() == TOKEN
    stub.on("POST", path, Reply(504), always=True)
    with pytest.raises(AnswerLost):
        scripted.issue_token("a2-d1")
    assert len(stub.sent("POST", path)) == 5


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"collaborators": [], "action": {"error": False}}, UnexpectedAnswer),
        ({"collaborators": [], "action": {"error": True, "message": "no such group"}}, Refused),
        ({"action": {"error": False}}, UnexpectedAnswer),
    ],
)
def test_sharing_is_checked_in_the_answer(scripted, stub, body, kind):
    stub.on("PUT", "deployments/a2-d1/collaborators", answer(body))
    with pytest.raises(kind):
        scripted.set_collaborators("a2-d1", [Collaborator("everyone", "group")])


def test_a_patch_without_effect_is_noticed(scripted, stub):
    stub.on("PATCH", "deployments/a2-d1", Reply(200, kind=None))
    stub.on("GET", "deployments/a2-d1", answer(_record()), always=True)
    with pytest.raises(DeadlineExceeded, match="the change of the deployment to show"):
        scripted.patch_deployment("a2-d1", resource_profile="large")


@pytest.mark.parametrize("fields", [{}, {"command": "x"}, {"public": True, "bogus": 1}])
def test_what_cannot_be_patched_is_a_mistake_of_the_caller(scripted, fields):
    with pytest.raises(ValueError, match="cannot patch"):
        scripted.patch_deployment("a2-d1", **fields)


def test_ids_cannot_lead_elsewhere(scripted, stub):
    seen: list[Call] = []

    def note(call):
        seen.append(call)
        return Reply(404)

    stub.on("GET", ".*deployments.*", note)
    assert scripted.deployment("../../x?y") is None
    assert seen[0].path == "/api/v2/deployments/..%2F..%2Fx%3Fy"
