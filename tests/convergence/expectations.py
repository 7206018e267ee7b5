"""What must be true in the end, whatever went wrong on the way. Read from the platform's books."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

from tests.convergence.cell import ACCOUNT, CONSUMER, PROJECT, Cell
from tests.sandbox.support import new_session

CLIENT = {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_TOKEN"}
SERVER = {
    "MLFLOW_BACKEND_STORE_URI",
    "MLFLOW_ARTIFACTS_DESTINATION",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT",
    "MLFLOW_TRACKING_GC_TTL",
}
KEYS = {"MLFLOW_CRYPTO_KEK_PASSPHRASE", "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"}
JOB = {"name": f"scheduled {PROJECT} garbage collection", "schedule": "*/10 * * * *", "paused": False}
ENDPOINT = "dev-mlflow-tracking-server"
PROBE = "/api/2.0/mlflow/experiments/search?max_results=1"


def only(records: dict[str, Any], kind: str) -> dict[str, Any]:
    found = list(records[kind].values())
    assert len(found) == 1, f"{len(found)} {kind}: {[item['name'] for item in found]}"
    record: dict[str, Any] = found[0]
    return record


def installed(cell: Cell, job: dict[str, Any] = JOB, *, consumer: bool = False) -> None:
    """One project, one deployment, one job, the right secrets and sharing; and what is stored opens the server."""
    records = cell.records()
    names = sorted(account["username"] for account in records["accounts"].values())
    assert names == [CONSUMER, ACCOUNT], names
    project, deployment = only(records, "projects"), only(records, "deployments")
    assert (project["name"], project["owner"]) == (PROJECT, ACCOUNT)
    assert (deployment["project_id"], deployment["state"]) == (project["id"], "started")
    assert (deployment["static_endpoint"], deployment["public"]) == (ENDPOINT, False)
    shared = [(item["type"], item["id"], item["permission"]) for item in deployment["collaborators"]]
    assert shared == [("group", "everyone", "r")], shared
    found = only(records, "jobs")
    assert {key: found[key] for key in job} == job
    assert found["project_id"] == project["id"]
    assert [run for run in records["runs"].values() if run["job_id"] not in records["jobs"]] == []
    serves(cell, consumer=consumer)


def serves(cell: Cell, *, consumer: bool) -> None:
    """The call that reaches the database, with what is mounted for the service account and for the consumer."""
    kept = {user: {n: item["value"] for n, item in found.items()} for user, found in cell.records()["secrets"].items()}
    cell.until(lambda: all(cell.mounted(user) == found for user, found in kept.items()), "secrets to be mounted")
    own, theirs = cell.mounted(ACCOUNT), cell.mounted(CONSUMER)
    assert set(own) == CLIENT | SERVER | KEYS, sorted(own)
    lines = (cell.state_folder / "keys").read_text().splitlines()
    kept_keys = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert kept_keys == {name: own[name] for name in KEYS}, "the key file is the only copy"
    assert set(theirs) == (CLIENT if consumer else set()), sorted(theirs)
    assert own["MLFLOW_TRACKING_URI"] == own["MLFLOW_REGISTRY_URI"]
    for who, mounted in ((ACCOUNT, own), (CONSUMER, theirs)):
        if mounted:
            answer = requested(cell, mounted["MLFLOW_TRACKING_URI"], mounted["MLFLOW_TRACKING_TOKEN"])
            assert answer.status_code == 200, f"the token stored for {who}: {answer.status_code}"
            assert answer.json() == {"experiments": []}
    assert requested(cell, own["MLFLOW_TRACKING_URI"], "not-a-token").status_code == 401


def database(cell: Cell) -> Path:
    return cell.sandbox / "volumes" / ACCOUNT / "data" / "db"


def use_data(cell: Cell) -> None:
    database(cell).write_text("schema-1\nlogged\n")


def lose_data(cell: Cell) -> None:
    """Only the snapshot has it then."""
    backups = database(cell).with_name("backups")
    for snapshot in backups.iterdir():
        snapshot.write_text("schema-1\nlogged\n")
    database(cell).unlink()


def holds_data(cell: Cell, *, schema: str) -> None:
    """The data is there, under the schema, and served by the one server."""
    assert database(cell).read_text() == f"{schema}\nlogged\n"
    installed(cell)


def uninstalled(cell: Cell) -> None:
    """Nothing of the server is left but what was to be kept: account and secrets."""
    records = cell.records()
    for kind in ("projects", "deployments", "jobs", "runs"):
        assert records[kind] == {}, kind
    assert set(cell.mounted(ACCOUNT)) >= SERVER
    (kept,) = (cell.state_folder / "removed").iterdir()
    assert kept.stat().st_size > 0


def requested(cell: Cell, url: str, token: str) -> requests.Response:
    assert cell.server is not None
    with new_session(cell.server.info) as session:
        return session.get(url + PROBE, headers={"Authorization": f"Bearer {token}"}, allow_redirects=False, timeout=30)
