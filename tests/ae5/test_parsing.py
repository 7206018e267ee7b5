"""Records are read strictly where it matters, and anything else may come along."""

from __future__ import annotations

from typing import Any

import pytest

from mlflow_ae5_deploy.ae5 import parsing
from mlflow_ae5_deploy.common.errors import UnexpectedAnswer

from .stub import answer

HEX = "0123456789abcdef0123456789abcdef"
DEPLOYMENT: dict[str, Any] = {
    "id": f"a2-{HEX}",
    "name": "dev",
    "owner": "svc",
    "state": "started",
    "status_text": "Started",
    "url": "https://dev-x.ae5.example/",
    "public": False,
    "command": "TrackingServer",
    "revision": "latest",
    "resource_profile": "default",
    "project_url": f"http://anaconda-enterprise-ap-storage/projects/{HEX}",
    "variables": {},
    "created": "2024-05-06T07:08:09.123456+00:00",
    "something_new": {"x": 1},
}
PROJECT = {"id": f"a0-{HEX}", "name": "p", "owner": "svc", "resource_profile": "default", "git_repos": {}}
REVISION = {"id": "0.0.1", "name": "0.0.1", "url": f"http://s/projects/{HEX}/archive/0.0.1", "commands": [{"id": "c"}]}
JOB = {"id": "a2-1", "name": "gc", "owner": "svc", "variables": None}
RUN = {"id": "a2-1", "state": "running"}
USER = {"id": "u", "username": "svc"}
COLLABORATOR = {"id": "everyone", "type": "group", "permission": "r", "first_name": None}


def _deployment(record: dict[str, Any]) -> object:
    return parsing.parse_deployment(record, "ae5.example")


@pytest.mark.parametrize("url", ["https://a\x1b[2J/", "https://a\nb/", "https://a b/", "https://\u202ea/", "", None])
def test_what_no_url_is_counts_as_none(url):
    assert parsing.parse_deployment(DEPLOYMENT | {"url": url}, "ae5.example").url is None


@pytest.mark.parametrize(
    ("parse", "record", "field"),
    [
        *((_deployment, DEPLOYMENT, field) for field in ("id", "owner", "state", "public", "project_url")),
        *((parsing.parse_project, PROJECT, field) for field in ("id", "name", "owner")),
        *((parsing.parse_revision, REVISION, field) for field in ("id", "name", "url")),
        *((parsing.parse_job, JOB, field) for field in ("id", "name")),
        *((parsing.parse_run, RUN, field) for field in ("id", "state")),
        *((parsing.parse_user, USER, field) for field in ("id", "username")),
        *((parsing.parse_collaborator, COLLABORATOR, field) for field in ("id", "type")),
    ],
)
def test_a_missing_field_is_named(parse, record, field):
    parse(record)
    for broken in ({k: v for k, v in record.items() if k != field}, {**record, field: None}, {**record, field: 7}):
        with pytest.raises(UnexpectedAnswer, match=field):
            parse(broken)


def test_a_full_deployment_record():
    seen = parsing.parse_deployment(DEPLOYMENT, "ae5.example")
    assert (seen.project_id, seen.endpoint, seen.public) == (f"a0-{HEX}", "dev-x", False)
    assert seen.created is not None
    assert seen.created.utcoffset() is not None


@pytest.mark.parametrize(
    ("change", "hostname", "endpoint"),
    [
        ({}, "ae5.example", "dev-x"),
        ({}, "AE5.example:8443", "dev-x"),
        ({}, "other.example", None),
        ({"url": f"https://{HEX}.ae5.example/"}, "ae5.example", None),
        ({"url": "https://ae5.example/"}, "ae5.example", None),
        ({"url": "https://a.b.ae5.example/"}, "ae5.example", None),
        ({"url": ""}, "ae5.example", None),
        ({"url": None}, "ae5.example", None),
        ({"url": "https://localhost:9/", "static_endpoint": "dev-y"}, "localhost:8", "dev-y"),
        ({"url": "https://localhost:9/"}, "localhost:8", None),
    ],
)
def test_the_endpoint_of_a_deployment(change, hostname, endpoint):
    assert parsing.parse_deployment(DEPLOYMENT | change, hostname).endpoint == endpoint


@pytest.mark.parametrize("body", [[], {"data": []}])
def test_lists_come_bare_or_wrapped(scripted, stub, body):
    stub.on("GET", "deployments", answer(body))
    assert scripted.deployments() == []


@pytest.mark.parametrize("body", [None, {}, {"data": None}, "x", [1], {"data": {"id": "x"}}])
def test_what_is_no_list_is_not_an_empty_one(scripted, stub, body):
    stub.on("GET", "deployments", answer(body))
    with pytest.raises(UnexpectedAnswer):
        scripted.deployments()


def test_endpoints_without_a_project_or_deployments_without_a_url_do_no_harm(scripted, stub):
    """ae5-tools fails on both."""
    stub.on("GET", "deployments", answer([DEPLOYMENT | {"url": ""}]))
    stub.on("GET", "/platform/deploy/api/v1/apps/static-endpoints", answer({"data": [{"id": "dev-x"}]}))
    assert scripted.deployments()[0].endpoint is None
    assert scripted.static_endpoints()[0].project_id == ""


def test_resource_profiles_need_no_particular_description(scripted, stub):
    """ae5-tools fails on a description without a list in parentheses."""
    profiles = [{"name": "default", "description": "Default (CPU: 1)"}, {"name": "odd"}]
    stub.on("GET", "projects/actions", answer([{"resource_profiles": profiles, "editors": []}]))
    assert [profile.name for profile in scripted.resource_profiles()] == ["default", "odd"]
