"""Stage 8: every row is an observed state and the changes that follow from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from runbook_support import OTHER, OURS, context, deployment

from mlflow_ae5_deploy.common.errors import Conflict
from mlflow_ae5_deploy.common.mlflow_api import Health
from mlflow_ae5_deploy.engine.change import Impact
from mlflow_ae5_deploy.engine.records import DeploymentSpec
from mlflow_ae5_deploy.engine.stage import NoChange
from mlflow_ae5_deploy.resources.current_deployment import drift, select
from mlflow_ae5_deploy.resources.deployment import (
    AwaitDeployment,
    MakePrivate,
    RestartDeployment,
    StartDeployment,
    StopDeployment,
)
from mlflow_ae5_deploy.resources.secrets import SecretState, SetSecrets
from mlflow_ae5_deploy.runbook.stages.s08_deploy import DeploymentState, DeployStage

DESIRED = DeploymentSpec(
    name="dev.mlflow.tracking.server",
    endpoint="dev-mlflow-tracking-server",
    command="TrackingServer",
    resource_profile="default",
    revision="latest",
)
GOOD = Health("healthy", "the MLflow API answered from its database")
RIGHT = DeploymentState(
    desired=DESIRED,
    project=OURS,
    secrets=(SecretState("MLFLOW_BACKEND_STORE_URI", "same"),),
    stale=(),
    current=deployment(),
    duplicates=(),
    rival=None,
    health=GOOD,
)
CHANGED = (SecretState("MLFLOW_BACKEND_STORE_URI", "different"),)
UNKNOWN = (SecretState("MLFLOW_BACKEND_STORE_URI", "unknown"),)
MISSING = (SecretState("MLFLOW_BACKEND_STORE_URI", "missing"),)
NEW = (SecretState("AWS_SECRET_ACCESS_KEY", "new"),)
TTL = (SecretState("MLFLOW_TRACKING_GC_TTL", "different"),)

START, RESTART = StartDeployment, RestartDeployment
ROWS = [
    ("already right", RIGHT, []),
    ("nothing there", replace(RIGHT, current=None, health=None), [START]),
    (
        "nothing there, secrets first",
        replace(RIGHT, current=None, health=None, secrets=NEW),
        [SetSecrets, START],
    ),
    ("a secret that the server has not seen", replace(RIGHT, secrets=NEW), [SetSecrets, RESTART]),
    ("a secret that was deleted and comes back", replace(RIGHT, secrets=MISSING), [SetSecrets]),
    ("a value that only jobs read", replace(RIGHT, secrets=TTL), [SetSecrets]),
    ("failed", replace(RIGHT, current=deployment(state="failed"), health=None), [RESTART]),
    ("starting", replace(RIGHT, current=deployment(state="starting"), health=None), [AwaitDeployment]),
    ("public", replace(RIGHT, current=deployment(public=True)), [MakePrivate]),
    ("another command", replace(RIGHT, current=deployment(command="MinimumTrackingServer")), [RESTART]),
    ("another revision", replace(RIGHT, current=deployment(revision="0.0.1")), [RESTART]),
    ("another endpoint", replace(RIGHT, current=deployment(endpoint="elsewhere")), [RESTART]),
    ("no static endpoint", replace(RIGHT, current=deployment(endpoint=None)), [RESTART]),
    ("another profile", replace(RIGHT, current=deployment(resource_profile="large")), [RESTART]),
    ("public and another command", replace(RIGHT, current=deployment(public=True, command="X")), [RESTART]),
    ("a secret changed", replace(RIGHT, secrets=CHANGED), [SetSecrets, RESTART]),
    (
        "a secret changed in an interrupted run",
        replace(RIGHT, stale=("MLFLOW_BACKEND_STORE_URI",)),
        [RESTART],
    ),
    ("a secret set elsewhere", replace(RIGHT, secrets=UNKNOWN), [SetSecrets]),
    (
        "another database, and its secret set elsewhere",
        replace(RIGHT, secrets=UNKNOWN, other_database="by its log it works on sqlite"),
        [SetSecrets, RESTART],
    ),
    ("started but not healthy", replace(RIGHT, health=Health("unhealthy", "503")), [AwaitDeployment]),
    ("health not observable", replace(RIGHT, health=Health("unauthorised", "302")), []),
    ("two servers", replace(RIGHT, duplicates=(deployment(id="a2-" + "c" * 32),)), [StopDeployment]),
]


@pytest.mark.parametrize(("case", "state", "changes"), ROWS, ids=[row[0] for row in ROWS])
def test_changes_that_follow_from_a_state(case, state, changes):
    diff = DeployStage().diff(state)

    assert [type(change) for change in diff.changes] == changes
    assert isinstance(diff, NoChange) == (not changes)


@pytest.mark.parametrize(("endpoint", "changes"), [("elsewhere", True), (DESIRED.endpoint, False)])
def test_a_restart_on_another_endpoint_says_that_the_address_changes(endpoint, changes):
    current = deployment(endpoint=endpoint, command="X", url="https://elsewhere.example.com")

    (restart,) = DeployStage().diff(replace(RIGHT, current=current)).changes

    texts = [consequence.text for consequence in restart.consequences]
    assert (
        any("clients and bookmarks of https://elsewhere.example.com stop working" in text for text in texts) == changes
    )


def test_unobserved_health_is_a_warning_and_not_assumed():
    state = replace(RIGHT, health=Health("unauthorised", "302 at https://x"))

    diff = DeployStage().diff(state)

    assert isinstance(diff, NoChange)
    assert "healthy" not in diff.reason
    assert diff.warnings[0].startswith("Health unknown")


def test_a_server_that_may_run_on_other_values_is_warned_of():
    """A value without a record is unknown; it is not reported as another value."""
    for state in (replace(RIGHT, secrets=UNKNOWN), replace(RIGHT, uncertain=("MLFLOW_BACKEND_STORE_URI",))):
        (warning,) = DeployStage().diff(state).warnings

        assert "may use other values of MLFLOW_BACKEND_STORE_URI" in warning
        assert "`rotate-token --restart`" in warning
        assert "run this again" not in warning


def test_an_endpoint_in_use_by_another_project_is_a_conflict_that_names_it(tmp_path):
    rival = deployment(project_id=OTHER.id, owner="somebody", name="their server")

    with pytest.raises(Conflict) as caught:
        DeployStage().check(replace(RIGHT, current=None, rival=rival), context(tmp_path))

    assert "somebody/other" in caught.value.what
    assert "their server" in caught.value.what


def test_the_deployment_on_the_endpoint_is_kept_and_the_others_are_duplicates():
    on_endpoint = deployment(id="a2-" + "d" * 32, name="x")
    by_name = deployment(id="a2-" + "e" * 32, endpoint=None)
    foreign = deployment(id="a2-" + "f" * 32, project_id=OTHER.id, endpoint="elsewhere")

    chosen = select([by_name, foreign, on_endpoint], OURS, DESIRED)

    assert chosen.current == on_endpoint
    assert chosen.duplicates == (by_name,)
    assert chosen.rival is None


def test_another_command_of_the_project_is_not_a_duplicate():
    notebook = deployment(id="a2-" + "f" * 32, name="docs", endpoint="docs", command="Docs")

    assert select([notebook], OURS, DESIRED).current is None


def test_drift_names_what_it_is_and_what_it_should_be():
    found = drift(deployment(command="X", public=True), DESIRED)

    assert found.restart == ("command: X → TrackingServer",)
    assert "public" in found.patch[0]


def test_changes_name_the_resource_by_its_id():
    stopped = deployment(id="a2-" + "c" * 32)

    (stop,) = DeployStage().diff(replace(RIGHT, duplicates=(stopped,))).changes
    (restart,) = DeployStage().diff(replace(RIGHT, current=deployment(state="failed"), health=None)).changes

    assert (stop.id, restart.id) == (stopped.id, deployment().id)
    assert {item.impact for item in restart.consequences} == {Impact.TOKENS}
