"""What is started again after a stop, and what of it may be kept on disk meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mlflow_ae5_deploy.ae5.models import Collaborator, Deployment, Revision
from mlflow_ae5_deploy.operations.restart_as_it_was import define, kept_revision

STARTED = datetime(2026, 2, 1, tzinfo=UTC)


def deployment(**changes) -> Deployment:
    values = {
        "id": "a2-1",
        "name": "dev.mlflow",
        "owner": "svc",
        "project_id": "a0-1",
        "state": "started",
        "status_text": "Started",
        "url": "https://mlflow.ae5.example.com/",
        "endpoint": "mlflow",
        "command": "TrackingServer",
        "revision": "latest",
        "resource_profile": "large",
        "public": False,
        "created": STARTED,
        "variables": {"MLFLOW_WORKERS": "2"},
    }
    return Deployment(**{**values, **changes})


def revision(name: str, days: float | None) -> Revision:
    made = None if days is None else STARTED + timedelta(days)
    return Revision(name, name, f"http://storage/projects/1/archive/{name}", (), made)


FIRST, SECOND, LATER, UNDATED = revision("1", -20), revision("2", -1), revision("3", 1), revision("4", None)

ROWS = [
    ("named", deployment(revision="1"), [LATER, SECOND, FIRST], "1"),
    ("latest, and still is", deployment(), [SECOND, FIRST], "latest"),
    ("latest, and a newer one came", deployment(), [LATER, SECOND, FIRST], "2"),
    ("only newer ones are known", deployment(), [LATER], "latest"),
    ("the newest has no date", deployment(), [UNDATED, SECOND], "latest"),
    ("the start has no date", deployment(created=None), [LATER, SECOND], "latest"),
    ("no revision is listed", deployment(), [], "latest"),
]


@pytest.mark.parametrize(("case", "current", "revisions", "kept"), ROWS, ids=[row[0] for row in ROWS])
def test_the_revision_that_ran_is_the_one_that_runs_again(case, current, revisions, kept):
    assert kept_revision(current, revisions) == kept


def test_the_definition_is_what_ran_and_not_what_is_configured():
    definition = define(deployment(), [Collaborator("everyone", "group")], [SECOND], "another")

    spec = definition.spec
    assert (spec.name, spec.endpoint, spec.command) == ("dev.mlflow", "mlflow", "TrackingServer")
    assert (spec.resource_profile, dict(definition.variables)) == ("large", {"MLFLOW_WORKERS": "2"})
    assert definition.shared == (("group", "everyone", "r"),)
