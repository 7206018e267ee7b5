"""Jobs and runs: created once, names freed of leftovers, every final state of a run."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from mlflow_ae5_deploy.ae5.client import Client
from mlflow_ae5_deploy.ae5.models import Job, Project, Revision, Run
from mlflow_ae5_deploy.common.errors import (
    Conflict,
    Refused,
    UnexpectedAnswer,
)
from tests.sandbox.support import wait_for

from .conftest import LOSSES, Bench, loss
from .stub import Reply, answer

PROJECT = Project("a0-aa", "p", "svc", "default")
REVISION = Revision("0.0.1", "0.0.1", "http://ap-storage/projects/aa/archive/0.0.1", ())


class Creator:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.project = bench.platform.upload(f"j-{uuid4()}", bench.archive)
        (self.revision,) = bench.platform.revisions(self.project.id)
        self.name = f"scheduled gc {uuid4()}"

    def __call__(self, **changes: Any) -> Job:
        desired = {
            "project": self.project,
            "revision": self.revision,
            "revision_name": "latest",
            "name": self.name,
            "command": "GarbageCollection",
            "schedule": "*/10 * * * *",
            "variables": {"MLFLOW_TRACKING_GC_TTL": "7d0h0m0s"},
            "resource_profile": "default",
        }
        return self.bench.platform.create_job(**desired | changes)


@pytest.fixture
def create(bench):
    return Creator(bench)


def ended(bench: Bench, run_id: str) -> Run:
    def probe() -> Run | None:
        run = bench.platform.run(run_id)
        return None if run is None or run.is_active else run

    return wait_for(probe, f"run {run_id} to end")


# over the sandbox


def test_a_scheduled_job_is_created_paused_and_deleted(bench, create):
    made = create()
    assert (made.name, made.schedule, made.project_id) == (create.name, "*/10 * * * *", create.project.id)
    assert made.variables == {"MLFLOW_TRACKING_GC_TTL": "7d0h0m0s"}
    assert made in bench.platform.jobs()
    assert bench.platform.pause_job(made.id).id == made.id
    assert bench.platform.unpause_job(made.id).id == made.id
    bench.platform.delete_job(made.id)
    bench.platform.delete_job(made.id)
    assert made.id not in [job.id for job in bench.platform.jobs()]
    assert bench.count("GET", "(jobs|runs)") == 2  # none of them by create_job


def test_a_run_completes_and_its_log_is_read(bench, create):
    job = create(schedule=None, variables={"MLFLOW_TRACKING_GC_TTL": "3d0h0m0s"})
    run = bench.platform.run_job(job.id)
    done = ended(bench, run.id)
    assert done.state == "completed"
    assert run.id in [item.id for item in bench.platform.runs(job.id)]
    assert "collecting older than 3d0h0m0s" in bench.platform.run_log(run.id)
    bench.platform.delete_run(run.id)
    bench.platform.delete_run(run.id)


def test_a_failed_run_has_ended(bench, create):
    run = bench.platform.run_job(create(schedule=None, command="Fail").id)
    assert ended(bench, run.id).state in ("failed", "error")


def test_a_stopped_run_has_ended(bench, create):
    """ae5-tools waits for it for ever."""
    run = bench.platform.run_job(create(schedule=None, command="Sleep").id)
    bench.platform.stop_run(run.id)
    assert ended(bench, run.id).state == "stopped"


def test_leftover_runs_of_a_deleted_job_do_not_block_its_name(bench, create):
    first = create(schedule=None)
    for _ in range(2):
        ended(bench, bench.platform.run_job(first.id).id)
    bench.platform.delete_job(first.id)
    second = create()
    assert second.name == first.name
    assert [run for run in bench.platform.runs() if run.name == first.name] == []


def test_an_existing_job_of_that_name_is_a_conflict(bench, create):
    first = create()
    with pytest.raises(Conflict, match=first.id):
        create()
    assert first.id in [job.id for job in bench.platform.jobs()]


def test_an_impossible_schedule_is_refused_in_the_platforms_words(bench, create):
    with pytest.raises(Refused, match="step 8"):
        create(schedule="*/8 * * * *")
    assert bench.count("POST", "projects/[^/]*/jobs") == 1


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("hidden", [0, 2])
def test_a_job_whose_answer_is_lost_is_created_once(bench, create, how, hidden):
    bench.control.change_settings(list_visibility_polls=hidden)
    bench.control.add_fault(**loss("POST", "projects/.*/jobs$", how))
    made = create()
    bench.control.change_settings(list_visibility_polls=0)
    for _ in range(hidden):
        bench.platform.jobs()
    assert [job.id for job in bench.platform.jobs() if job.name == create.name] == [made.id]
    assert bench.count("POST", "projects/[^/]*/jobs") == (2 if how.endswith("before") else 1)


@pytest.mark.parametrize("how", LOSSES)
def test_a_run_whose_answer_is_lost_is_started_once(bench, create, how):
    job = create(schedule=None)
    ended(bench, bench.platform.run_job(job.id).id)
    bench.control.add_fault(**loss("POST", "jobs/.*/runs$", how))
    run = bench.platform.run_job(job.id)
    assert len(bench.platform.runs(job.id)) == 2
    assert ended(bench, run.id).state == "completed"


@pytest.mark.parametrize("how", LOSSES)
def test_deleting_whose_answer_is_lost_is_done(bench, create, how):
    made = create()
    bench.control.add_fault(**loss("DELETE", "/jobs/", how))
    bench.platform.delete_job(made.id)
    assert made.id not in [job.id for job in bench.platform.jobs()]


# over the scripted server


def _create(platform: Client) -> Job:
    return platform.create_job(
        project=PROJECT,
        revision=REVISION,
        revision_name="latest",
        name="gc",
        command="GarbageCollection",
        schedule="*/10 * * * *",
        variables={},
        resource_profile="default",
    )


def _run(identity: str, state: str, owner: str = "svc", name: str = "gc") -> dict[str, str]:
    return {"id": identity, "name": name, "owner": owner, "state": state}


def test_only_own_finished_runs_of_exactly_that_name_are_deleted(scripted, stub):
    runs = [
        _run("a2-1", "completed"),
        _run("a2-2", "stopped"),
        _run("a2-3", "failed", owner="other"),
        _run("a2-4", "completed", name="gc2"),
    ]
    stub.on("GET", "jobs", answer([]))
    stub.on("GET", "runs", answer(runs))
    stub.on("DELETE", "runs/.*", Reply(200, kind=None), always=True)
    assert scripted.free_job_name("gc") == 2
    assert [call.path[-4:] for call in stub.sent("DELETE", "runs/.*")] == ["a2-1", "a2-2"]


def test_an_active_leftover_run_is_a_conflict_and_nothing_is_deleted(scripted, stub):
    stub.on("POST", "projects/a0-aa/jobs", Reply(400, "Job name is not unique"))
    stub.on("GET", "jobs", answer([]))
    stub.on("GET", "runs", answer([_run("a2-1", "completed"), _run("a2-2", "running")]))
    with pytest.raises(Conflict, match="still active"):
        _create(scripted)
    assert not stub.sent("DELETE", "runs/.*")


@pytest.mark.parametrize("jobs", [answer([]), Reply(403), answer([{"id": "a2-9", "name": "gc", "owner": "svc"}])])
def test_another_refusal_is_not_hidden_by_the_search_for_leftovers(scripted, stub, jobs):
    stub.on("POST", "projects/a0-aa/jobs", Reply(400, "Unknown command"), always=True)
    stub.on("GET", "jobs", jobs)
    stub.on("GET", "runs", answer([]))
    with pytest.raises(Refused, match="Unknown command"):
        _create(scripted)


def test_leftover_runs_are_found_behind_other_words(scripted, stub):
    """How the platform says that a name is blocked is not documented."""
    made = answer({"id": "a2-9", "name": "gc", "owner": "svc"})
    stub.on("POST", "projects/a0-aa/jobs", Reply(500, "Internal Server Error"), made)
    stub.on("GET", "jobs", answer([]))
    stub.on("GET", "runs", answer([_run("a2-1", "completed")]))
    stub.on("DELETE", "runs/a2-1", Reply(200, kind=None))
    assert _create(scripted).id == "a2-9"


def test_a_creation_sends_exactly_these_fields(scripted, stub):
    stub.on("POST", "projects/a0-aa/jobs", answer({"id": "a2-9", "name": "gc", "owner": "svc"}))
    assert _create(scripted).id == "a2-9"
    (call,) = stub.sent("POST", "projects/a0-aa/jobs")
    assert call.json == {
        "source": REVISION.url,
        "resource_profile": "default",
        "command": "GarbageCollection",
        "target": "deploy",
        "schedule": "*/10 * * * *",
        "autorun": False,
        "revision": "latest",
        "name": "gc",
    }


def test_an_error_inside_a_200_answer_is_raised(scripted, stub):
    stub.on("POST", "projects/a0-aa/jobs", answer({"error": {"message": "no quota"}}))
    with pytest.raises(Refused, match="no quota"):
        _create(scripted)


def test_a_run_that_is_gone_is_none_and_one_without_a_state_an_unexpected_answer(scripted, stub):
    stub.on("GET", "runs/a2-1", Reply(404), answer({"id": "a2-1"}))
    assert scripted.run("a2-1") is None
    with pytest.raises(UnexpectedAnswer):
        scripted.run("a2-1")


def test_a_run_started_but_not_listed_at_once_is_no_crash(scripted, stub):
    """ae5-tools dies of IndexError, after the job was created."""
    stub.on("GET", "jobs/a2-9/runs", answer([]))
    stub.on("POST", "jobs/a2-9/runs", answer(_run("a2-1", "initial")))
    assert scripted.run_job("a2-9").id == "a2-1"


def test_jobs_without_a_project_are_listed(scripted, stub):
    stub.on("GET", "jobs", answer({"data": [{"id": "a2-9", "name": "system: clean *up*"}]}))
    (job,) = scripted.jobs()
    assert (job.project_id, job.schedule, job.variables) == ("", None, {})
