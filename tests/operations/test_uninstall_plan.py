"""What an uninstall takes, from what there is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mlflow_ae5_deploy.ae5.models import Deployment, Job, Project, Run
from mlflow_ae5_deploy.jobs.gc import dry_run_name
from mlflow_ae5_deploy.operations.uninstall_plan import (
    ConsumerSecrets,
    GiveUpUpgrade,
    UninstallState,
    diff,
    observe,
)
from mlflow_ae5_deploy.resources.data_at_risk import is_location_at_risk, is_store_at_risk
from mlflow_ae5_deploy.resources.deployment import StopDeployment
from mlflow_ae5_deploy.resources.interrupted import InterruptedUpgrade
from mlflow_ae5_deploy.resources.project import DeleteProject
from mlflow_ae5_deploy.resources.scheduled_job import DeleteJob, DeleteRuns
from mlflow_ae5_deploy.resources.secrets import DeleteSecrets
from tests.runbook.runbook_support import ACCOUNT, Doors, Lists, context, job

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
ACTIVE = Run(id="a2-" + "f" * 32, name="gc", owner="service", project_id=PROJECT.id, state="running", job_id=JOB.id)
ALL = UninstallState(
    PROJECT, (DEPLOYMENT,), (JOB,), (ENDED,), ("A", "B"), (ConsumerSecrets("dev", ("C",)), ConsumerSecrets("other"))
)

GOES = [(DeleteJob, JOB.id), (DeleteRuns, ""), (StopDeployment, DEPLOYMENT.id), (DeleteProject, PROJECT.id)]
OWN, OF_CONSUMER = (DeleteSecrets, ("", ("A", "B"))), (DeleteSecrets, ("dev", ("C",)))
ROWS = [
    ("nothing", UninstallState(), True, []),
    ("everything, in the order in which it can go", ALL, False, GOES),
    ("with secrets", ALL, True, [*GOES, OWN, OF_CONSUMER]),
    ("what an interrupted call has left", UninstallState(runs=(ENDED, ACTIVE)), False, [(DeleteRuns, "")]),
    (
        "an upgrade that was interrupted after the project was deleted",
        UninstallState(upgrade=InterruptedUpgrade("1.2.0", schema_touched=False, rolling_back=False)),
        False,
        [(GiveUpUpgrade, "")],
    ),
    ("secrets alone stay", UninstallState(secrets=("A", "B")), False, []),
    ("secrets alone, requested", UninstallState(secrets=("A", "B")), True, [OWN]),
]


def subject(change):
    return (change.name, change.names) if isinstance(change, DeleteSecrets) else change.id


@pytest.mark.parametrize(("case", "state", "purge", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_changes_that_follow_from_what_is_there(case, state, purge, expected):
    changes = diff(state, purge=purge)

    assert [(type(change), subject(change)) for change in changes] == expected
    assert all(change.needs_consent for change in changes)


def test_an_active_run_is_named_as_stopped():
    (job, _runs) = diff(UninstallState(jobs=(JOB,), runs=(ACTIVE,)), purge=False)

    assert [item.text for item in job.consequences] == [f"the active run of job {JOB.name} is stopped"]


def test_more_or_fewer_records_of_runs_are_the_same_change():
    one, two = (diff(UninstallState(runs=runs), purge=False)[0] for runs in ((ENDED,), (ENDED, ACTIVE)))

    assert one != two
    assert one.identity == two.identity


# database URI; empty: not known -> whether it may be lost with the project
STORES = [
    ("", True),
    ("nonsense", True),
    ("sqlite:///data/mlflow/standalone/store/mydb.sqlite", True),
    ("sqlite:///./data/m.db", True),
    ("sqlite:///mlflow.db", True),
    ("sqlite+pysqlite:///data/x.db", True),
    ("sqlite:////opt/continuum/project/data/x.db", True),
    ("sqlite:////mnt/volume/x.db", True),
    ("postgresql+psycopg://user@host/x", False),
]
LOCATIONS = [
    ("", True),
    ("data/a", True),
    ("./data/a", True),
    ("artifacts", True),
    ("/opt/continuum/project/data/a", True),
    ("/mnt/volume", True),
    ("file:///data/a", True),
    ("s3://bucket/prefix", False),
    ("abfss://container@account.dfs.core.windows.net/x", False),
]


@pytest.mark.parametrize(("uri", "at_risk"), STORES)
def test_a_database_in_a_file_may_be_lost_with_the_project(uri, at_risk):
    assert is_store_at_risk(uri) is at_risk


@pytest.mark.parametrize(("location", "at_risk"), LOCATIONS)
def test_a_folder_may_be_lost_with_the_project(location, at_risk):
    assert is_location_at_risk(location) is at_risk


def test_jobs_and_runs_that_lost_their_project_are_recognised_by_their_names(tmp_path):
    """Of the collection and of a dry run of it; AE5 may list them longer than the project."""
    settings = {"gc": {"name": "gc"}}
    names = ["gc", dry_run_name("gc"), "mlflow-ae5-deploy other"]
    gone = [job(id=name, name=name, project_id="a0-gone") for name in names]
    runs = [Run(f"run of {name}", name, ACCOUNT, "a0-gone", "completed") for name in names]
    platform = SimpleNamespace(runs=lambda *_: runs)
    run = context(tmp_path, lists=Lists(projects_=(), jobs_=gone), doors=Doors(platform_=platform), **settings)

    found = observe(run, purge=False)

    assert [[item.name for item in items] for items in (found.jobs, found.runs)] == [names[:2]] * 2
