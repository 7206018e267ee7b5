"""Workspaces: collection and drill on a server that has them, and what the database says of them."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.project_template.conftest import Project
from tests.project_template.gc.conftest import LONG_AGO, ROOT, Data

WITH = {"MLFLOW_ENABLE_WORKSPACES": "true"}
TEAM = {"X-MLFLOW-WORKSPACE": "team"}


class Team:
    """A project whose server has a workspace `team` beside the default one."""

    def __init__(self, project: Project, server: Any) -> None:
        self.project, self._server = project, server
        self.call("3.0", "workspaces", {}, name="team")
        self.experiment = self.call("2.0", "experiments/create", TEAM, name="ours")["experiment_id"]

    def send(self, method: str, path: str, **arguments: Any) -> Any:
        return self._server.call(method, path, **arguments)

    def call(self, version: str, endpoint: str, headers: dict[str, str], /, **body: Any) -> Any:
        answer = self.send("POST", f"/api/{version}/mlflow/{endpoint}", json=body, headers=headers)
        assert answer.status_code in {200, 201}, answer.text
        return answer.json()

    def run(self, *, deleted: bool = False, experiment: str = "", headers: dict[str, str] = TEAM) -> tuple[str, Path]:
        """Its id, and its artifact on the disk."""
        info = self.call("2.0", "runs/create", headers, experiment_id=experiment or self.experiment)["run"]["info"]
        path = f"{info['artifact_uri'].removeprefix(ROOT)}/model/a"
        put = self.send("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", data=b"12345", headers=headers)
        assert put.status_code == 200, put.text
        file = next(self.project.folder.rglob(f"*/{path}"))
        if deleted:
            self.call("2.0", "runs/delete", TEAM, run_id=info["run_id"])
        return info["run_id"], file

    def job(self, command: str, **variables: str) -> Any:
        return self.project.run(command, timeout=240, MLFLOW_TRACKING_URI=self._server.uri, **WITH, **variables)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    project = Project(tmp_path_factory.mktemp("workspaces"))
    with project.server(**WITH) as server:
        yield Team(project, server)


COLLECT = {"MLFLOW_TRACKING_GC_TTL": "0d0h0m0s"}


@pytest.mark.parametrize("through_server", [False, True])
def test_what_a_workspace_deleted_goes_with_its_artifacts(team: Team, through_server: bool) -> None:
    (_, kept), (_, gone) = team.run(), team.run(deleted=True)
    destination = {"MLFLOW_ARTIFACTS_DESTINATION": "/nowhere"} if through_server else {}

    ended = team.job("GarbageCollection", **COLLECT, **destination)

    assert ended.code == 0, ended.output
    assert ended.last["runs"] == {"due": 1, "removed": 1, "remaining": 0}
    assert (kept.is_file(), gone.is_file()) == (True, False)


def test_orphans_of_a_workspace_are_found(team: Team) -> None:
    _, kept = team.run()
    orphan = kept.parents[3] / uuid.uuid4().hex / "artifacts" / "a"
    orphan.parent.mkdir(parents=True)
    orphan.write_text("12345")
    for item in (orphan, orphan.parent, orphan.parents[1]):
        os.utime(item, (LONG_AGO / 1000,) * 2)

    ended = team.job("GarbageCollection", MLFLOW_TRACKING_GC_ORPHANS="remove", MLFLOW_TRACKING_GC_TTL="30d")

    assert ended.code == 0, ended.output
    assert ended.last["orphans"]["removed"] == 1
    assert (kept.is_file(), orphan.exists()) == (True, False)


def test_a_drill_serves_and_reads_what_workspaces_hold(team: Team) -> None:
    run, file = team.run()
    source = f"{ROOT}{str(file.parent)[str(file).index('workspaces/') :]}"
    name = f"model {time.time_ns()}"
    team.call("2.0", "registered-models/create", TEAM, name=name)
    team.call("2.0", "model-versions/create", TEAM, name=name, source=source, run_id=run)

    made = team.job("Backup", MLFLOW_TRACKING_BACKUP_ARGUMENTS="create")
    ended = team.job("Drill", MLFLOW_TRACKING_DRILL_ARGUMENTS="--snapshot latest")

    assert made.code == 0, made.output
    assert (ended.code, ended.last["outcome"]) == (0, "done"), ended.output
    assert ended.last["models_read"] == 1


def test_a_deleted_workspace_leaves_artifacts_to_collect_and_nothing_else(team: Team) -> None:
    _, kept = team.run()
    gone = {"X-MLFLOW-WORKSPACE": "gone"}
    team.call("3.0", "workspaces", {}, name="gone")
    experiment = team.call("2.0", "experiments/create", gone, name="theirs")["experiment_id"]
    team.call("2.0", "registered-models/create", gone, name="theirs")
    file = team.run(experiment=experiment, headers=gone)[1]

    deleted = team.send("DELETE", "/api/3.0/mlflow/workspaces/gone?mode=CASCADE")
    asked = team.send("POST", "/api/2.0/mlflow/experiments/search", json={"max_results": 1}, headers=gone)
    made = team.job("Backup", MLFLOW_TRACKING_BACKUP_ARGUMENTS="create")
    drilled = team.job("Drill")
    collected = team.job("GarbageCollection", MLFLOW_TRACKING_GC_ORPHANS="remove", **COLLECT)

    assert deleted.ok, deleted.text
    assert (asked.status_code, "gone" in asked.json()["message"]) == (404, True), asked.text
    assert (made.code, drilled.code, collected.code) == (0, 0, 0), made.output + drilled.output + collected.output
    assert collected.last["orphans"]["removed_bytes"] == 5, collected.output
    assert (kept.is_file(), file.exists()) == (True, False)


def test_a_server_without_workspaces_refuses_their_data_with_the_remedy(team: Team) -> None:
    ended = team.project.run(
        "TrackingServer", "--anaconda-project-address=127.0.0.1", "--anaconda-project-port=0", timeout=120
    )

    assert ended.code == 3, ended.output
    assert "MLflow refuses to start: Cannot disable workspaces" in ended.stderr
    assert "set MLFLOW_ENABLE_WORKSPACES to true" in ended.stderr


def test_a_location_that_the_server_reads_in_another_way_is_due_and_stays(data: Data) -> None:
    data.insert("workspaces", name="team")
    number = data.experiment(location=f"{ROOT}shared/9")
    data.sql("UPDATE experiments SET workspace = 'team' WHERE experiment_id = :number", number=number)
    run = data.run(number, uri=f"{ROOT}shared/9/RUN/artifacts")
    try:
        dry, fields = data.collect(dry_run=True), data.collect()
    finally:
        data.sql("UPDATE experiments SET workspace = 'default'")
        data.sql("DELETE FROM workspaces WHERE name = 'team'")

    assert dry["runs"] == {"due": 1, "remaining": 1}
    assert (fields["exit_code"], fields["runs"]) == (23, {"due": 1, "removed": 0, "remaining": 1})
    assert "workspace team" in fields["skipped"][0]["why"]
    assert data.column("SELECT run_uuid FROM runs") == [run]
