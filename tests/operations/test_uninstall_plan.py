"""What an uninstall takes, from what there is."""

from __future__ import annotations

import pytest

from mlflow_ae5_deploy.ae5.models import Deployment, Job, Project, Run
from mlflow_ae5_deploy.operations.uninstall import ConsumerSecrets, UninstallPlan, plan

PROJECT = Project(id="a0-" + "1" * 32, name="p", owner="service", resource_profile="default")
DEPLOYMENT = Deployment(
    id="a2-" + "d" * 32,
    name="d",
    owner="service",
    project_id=PROJECT.id,
    state="started",
    status_text="",
    url=None,
    endpoint=None,
    command="TrackingServer",
    revision="latest",
    resource_profile="default",
    public=False,
)
JOB = Job(
    id="a2-" + "b" * 32,
    name="gc",
    owner="service",
    project_id=PROJECT.id,
    command="GarbageCollection",
    schedule="0 * * * *",
    state="scheduled",
    resource_profile="default",
    revision="latest",
)
ENDED = Run(id="a2-" + "e" * 32, name="gc", owner="service", project_id=PROJECT.id, state="completed", job_id=JOB.id)
AT_WORK = Run(id="a2-" + "f" * 32, name="gc", owner="service", project_id=PROJECT.id, state="running", job_id=JOB.id)
ALL = UninstallPlan(
    PROJECT, (DEPLOYMENT,), (JOB,), (ENDED,), ("A", "B"), (ConsumerSecrets("dev", ("C",)), ConsumerSecrets("other"))
)

ROWS = [
    ("nothing", UninstallPlan(), True, []),
    ("everything, in the order in which it can go", ALL, False, ["job gc", "1 run", "deployment d", "project p"]),
    ("with secrets", ALL, True, ["job gc", "1 run", "deployment d", "project p", "secrets A, B", "secrets C of dev"]),
    ("what a cut-off call has left", UninstallPlan(runs=(ENDED, AT_WORK)), False, ["2 run"]),
    ("secrets alone stay", UninstallPlan(secrets=("A",)), False, []),
    ("secrets alone, asked for", UninstallPlan(secrets=("A",)), True, ["secrets A"]),
]


@pytest.mark.parametrize(("case", "there", "purge", "targets"), ROWS, ids=[row[0] for row in ROWS])
def test_what_goes(case, there, purge, targets):
    actions = plan(there, purge=purge)

    assert len(actions) == len(targets)
    assert all(action.target.startswith(target) for action, target in zip(actions, targets, strict=True))
    assert all(action.needs_consent for action in actions)


def test_a_run_at_work_is_said_to_be_stopped():
    (job, _runs) = plan(UninstallPlan(jobs=(JOB,), runs=(AT_WORK,)), purge=False)

    assert job.consequences == ("its run at work is stopped",)
