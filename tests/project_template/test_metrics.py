"""`/metrics` of a server with two workers, and what jobs leave for it."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common import outcomes
from mlflow_ae5_server.common.settings import Setting, Settings
from mlflow_ae5_server.database.connection import Database, check_uri
from mlflow_ae5_server.server import capacity
from mlflow_ae5_server.server.observed import Answered, Observed
from prometheus_client.parser import text_string_to_metric_families

from tests.project_template.conftest import Deployed, Project, Server, eventually, free_port, open_to_others

SEARCH = "/api/2.0/mlflow/experiments/search"
REQUESTS, IN_FLIGHT = "mlflow_ae5_http_requests_total", "mlflow_ae5_http_requests_in_flight"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def settled(server: Server) -> Samples:
    """A request is counted when its answer has been sent."""
    found: list[Samples] = []
    assert eventually(lambda: found.append(scrape(server)) or value(found[-1], IN_FLIGHT) == 0)
    return found[-1]


def scrape(server: Server) -> Samples:
    answer = server.call("GET", "/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return parsed(answer.text)


def parsed(text: str) -> Samples:
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            found[sample.name, frozenset(sample.labels.items())] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sum of all samples that have these labels."""
    return sum(number for (n, has), number in samples.items() if n == name and labels.items() <= dict(has).items())


def labels(samples: Samples, name: str, label: str) -> set[str]:
    return {dict(has)[label] for (n, has) in samples if n == name}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    project = Project(tmp_path_factory.mktemp("measured"))
    with project.server(MLFLOW_TRACKING_METRICS="true") as server:
        file = project.folder / "data/mlflow/standalone/store/mydb.sqlite"
        yield Deployed(project, server, f"sqlite:///{file}", None)


def test_requests_of_all_workers_are_counted(measured: Deployed) -> None:
    before = settled(measured.server)
    with ThreadPoolExecutor(4) as pool:  # a connection each, so that both workers get some
        codes = pool.map(lambda _: measured.server.call("POST", SEARCH, json={"max_results": 1}).status_code, range(40))
        assert set(codes) == {200}
    after = settled(measured.server)
    for name in (REQUESTS, "mlflow_ae5_http_request_duration_seconds_count"):
        assert value(after, name, route=SEARCH, method="POST") == value(before, name, route=SEARCH) + 40
    queries = "mlflow_ae5_database_query_duration_seconds_count"
    assert value(after, queries) >= value(before, queries) + 40
    assert value(after, IN_FLIGHT) == 0
    assert value(after, "mlflow_ae5_database_connections_in_use") == 0
    assert value(after, "mlflow_ae5_workers") == 2


def test_no_client_makes_labels(measured: Deployed) -> None:
    run = measured.server.new_run()
    for path in (f"/api/2.0/mlflow/runs/get?run_id={run}", f"/nothing/{run}", f"/static-files/{run}", "/metrics/x"):
        measured.server.call("GET", path)
    measured.server.call("BREW", "/version")
    measured.server.call("GET", f"/api/2.0/mlflow/traces/{run}/info")
    samples = settled(measured.server)
    assert run not in str(samples)
    assert {"/api/2.0/mlflow/runs/get", "unmatched"} <= labels(samples, REQUESTS, "route")
    assert "BREW" not in labels(samples, REQUESTS, "method")
    assert value(samples, REQUESTS, method="other") == 1


def test_artifact_bytes_and_refused_hosts_are_counted(measured: Deployed) -> None:
    before = settled(measured.server)
    path = "/api/2.0/mlflow-artifacts/artifacts/0/a-run/artifacts/big.bin"
    assert measured.server.call("PUT", path, data=bytes(3_000_000)).status_code == 200
    assert len(measured.server.call("GET", path).content) == 3_000_000
    assert measured.server.call("GET", "/", headers={"Host": "evil.example"}).status_code == 403
    after = settled(measured.server)
    for direction in ("upload", "download"):
        moved = "mlflow_ae5_artifact_bytes_total"
        assert value(after, moved, direction=direction) == value(before, moved, direction=direction) + 3_000_000
    refused = "mlflow_ae5_http_requests_refused_total"
    assert value(after, refused, reason="host") == value(before, refused, reason="host") + 1
    assert measured.server.call("GET", "/metrics", headers={"Host": "evil.example"}).status_code == 403


def test_only_files_that_were_moved_count_as_artifact_bytes(measured: Deployed) -> None:
    server, run = measured.server, measured.server.new_run()
    before = settled(server)
    name = {"run_uuid": run, "path": "notes.txt"}
    assert server.call("POST", "/ajax-api/2.0/mlflow/upload-artifact", params=name, data=bytes(70)).status_code == 200
    assert server.call("GET", "/get-artifact", params=name).content == bytes(70)
    proxied = "/api/2.0/mlflow-artifacts/artifacts"
    for method, path, status in (
        ("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run}", 200),
        ("GET", f"{proxied}?path=0/{run}/artifacts", 200),
        ("GET", f"{proxied}/0/{run}/artifacts/missing", 404),
        ("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={'0' * 32}&path=notes.txt", 404),
        ("DELETE", f"{proxied}/0/{run}/artifacts/notes.txt", 200),
    ):
        data = bytes(9) if method == "POST" else None
        assert server.call(method, path, data=data).status_code == status, path
    after = settled(server)
    moved = "mlflow_ae5_artifact_bytes_total"
    for direction in ("upload", "download"):
        assert value(after, moved, direction=direction) == value(before, moved, direction=direction) + 70


def test_nobody_else_reads_the_counters(measured: Deployed) -> None:
    folder = measured.project.folder.parent / f"mlflow-ae5-metrics-{measured.server.port}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert open_to_others(folder) == []
    assert len(list(folder.iterdir())) == 9  # three kinds, of the parent and two workers


def test_a_dead_worker_leaves_no_file_and_no_counter_falls(measured: Deployed) -> None:
    folder = measured.project.folder.parent / f"mlflow-ae5-metrics-{measured.server.port}"
    file = Path(measured.database.removeprefix("sqlite:///"))
    before, files = settled(measured.server), sorted(folder.iterdir())
    first = measured.server.processes()[1:]
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as writer, ThreadPoolExecutor(4) as pool:
        writer.execute("BEGIN IMMEDIATE")  # requests that write wait for it, and die with their worker
        waiting = [pool.submit(measured.server.call, "POST", "/api/2.0/mlflow/experiments/create", json={"name": n})
                   for n in "abcd"]  # fmt: skip
        assert eventually(lambda: value(scrape(measured.server), IN_FLIGHT) == 4)
        for worker in first:
            worker.kill()
        for request in waiting:
            assert request.exception() is not None
        writer.execute("ROLLBACK")
    assert eventually(lambda: len(measured.server.processes()) == 3 and serves(measured.server))
    after = settled(measured.server)
    assert value(after, "mlflow_ae5_worker_restarts_total") == value(before, "mlflow_ae5_worker_restarts_total") + 2
    assert value(after, IN_FLIGHT) == 0
    assert value(after, REQUESTS, route=SEARCH) >= value(before, REQUESTS, route=SEARCH) > 0
    assert sorted(folder.iterdir()) == files


def serves(server: Server) -> bool:
    with contextlib.suppress(OSError):
        return server.call("POST", SEARCH, json={"max_results": 1}).status_code == 200
    return False


def test_a_database_that_is_gone_is_seen(measured: Deployed) -> None:
    file = Path(measured.database.removeprefix("sqlite:///"))
    aside = file.with_name("aside")
    before = scrape(measured.server)
    file.rename(aside)
    without = scrape(measured.server)
    assert not file.exists(), "a scrape creates nothing"
    aside.rename(file)
    assert [value(found, "mlflow_ae5_database_up") for found in (before, without)] == [1, 0]
    assert len(labels(before, "mlflow_ae5_database_schema_info", "revision")) == 1
    assert value(scrape(measured.server), "mlflow_ae5_database_up") == 1


def test_jobs_leave_how_they_ended(measured: Deployed) -> None:
    began = time.time()
    made = measured.job("Backup")
    assert made.code == 0, made.output
    assert measured.job("Backup", "list").code == 0
    collected = measured.job("GarbageCollection")
    assert collected.code == 0, collected.output
    good = scrape(measured.server)
    failed = measured.job("Backup", MLFLOW_TRACKING_BACKUP_DESTINATION="data/mlflow/standalone/artifacts/inside")
    assert failed.code == 3
    bad = scrape(measured.server)

    assert labels(good, "mlflow_ae5_job_last_exit_code", "kind") == {"backup", "gc"}
    assert value(good, "mlflow_ae5_job_last_exit_code") == 0
    assert value(good, "mlflow_ae5_job_last_size_bytes", kind="backup") == made.last["artifact_bytes"]
    assert value(bad, "mlflow_ae5_job_last_exit_code", kind="backup") == 3
    success, last = "mlflow_ae5_job_last_success_timestamp_seconds", "mlflow_ae5_job_last_run_timestamp_seconds"
    assert began <= value(bad, success, kind="backup") == value(good, success, kind="backup")
    assert value(bad, last, kind="backup") > value(good, last, kind="backup")
    assert value(good, "mlflow_ae5_volume_free_bytes", volume="backups") > 0
    left = measured.project.folder / "data/mlflow/standalone/artifacts.outcomes"
    assert left.stat().st_mode & 0o777 == 0o700
    assert open_to_others(left) == []
    assert {file.name for file in left.iterdir()} == {"backup.json", "gc.json"}


def test_a_folder_that_cannot_be_written_costs_the_metrics_only(project: Project) -> None:
    port = free_port()
    taken = project.folder.parent / f"mlflow-ae5-metrics-{port}"
    taken.write_text("a file, where the folder belongs")
    with project.server(port=port, MLFLOW_TRACKING_METRICS="true") as server:
        answer = server.call("GET", "/metrics")
        assert answer.status_code == 503
        assert f"the folder {taken} cannot be written" in answer.text
        assert f"warning: /metrics has no metrics: the folder {taken}" in server.log()
    assert taken.is_file()


def test_what_a_killed_server_left_is_removed_at_the_next_start(project: Project) -> None:
    port = free_port()
    folder = project.folder.parent / f"mlflow-ae5-metrics-{port}"
    folder.mkdir()
    (folder / "counter_9.db").write_bytes(b"nonsense")
    with project.server(port=port, MLFLOW_TRACKING_METRICS="true", MLFLOW_WORKERS="1") as server:
        assert value(scrape(server), "mlflow_ae5_database_up") == 1
        assert not (folder / "counter_9.db").exists()
    assert not folder.exists()


def test_connections_to_a_registry_of_its_own_are_counted(project: Project) -> None:
    registry = f"sqlite:///{project.folder}/registry.sqlite"
    project.secret("MLFLOW_REGISTRY_STORE_URI", registry)
    with project.server(MLFLOW_TRACKING_METRICS="true", MLFLOW_WORKERS="1") as server:
        assert value(scrape(server), "mlflow_ae5_database_connections_max") == 2 * capacity.needed(4)


def test_there_are_none_unless_they_are_wanted(on_sqlite: Any) -> None:
    assert on_sqlite.server.call("GET", "/metrics").status_code == 404


def given(folder: Path, **values: str) -> Settings:
    locations = {"MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"), **values}
    return Settings({name: Setting(name, text, "variable", False) for name, text in locations.items()})


ENDED = {"command": "Backup", "action": "create", "outcome": "done", "exit_code": 0, "seconds": 2.5}


@pytest.mark.parametrize(
    ("report", "kind"),
    [
        (ENDED, "backup"),
        ({**ENDED, "action": "verify"}, "check"),
        ({**ENDED, "action": "prune"}, "prune"),
        ({**ENDED, "action": "prune", "outcome": "dry-run"}, None),
        ({**ENDED, "action": "list"}, None),
        ({**ENDED, "command": "Drill", "action": None}, "drill"),
        ({**ENDED, "command": "GarbageCollection"}, "gc"),
        ({**ENDED, "command": "GarbageCollection", "dry_run": True}, None),
        ({**ENDED, "command": "Check"}, None),
        ({**ENDED, "command": "Restore"}, None),
        ({"command": "Backup", "outcome": "failed", "exit_code": 2, "seconds": 0.0}, None),
    ],
)
def test_only_runs_that_do_something_are_kept(tmp_path: Path, report: dict[str, Any], kind: str | None) -> None:
    outcomes.record(given(tmp_path), report, lambda: 100.0)
    assert set(outcomes.read(given(tmp_path))) == ({kind} if kind else set())


PRUNED = {"finished": 2.0, "succeeded": 2.0, "exit_code": 0.0, "bytes": 7.0}
PRUNES: list[tuple[str, dict[str, Any], dict[str, float]]] = [
    ("not at all", {}, {"finished": 1.0, "seconds": 2.5, "exit_code": 25.0}),
    ("older ones", {"kept": ["S2"], "removed": ["S1"], "freed_bytes": 7}, PRUNED),
    ("nothing", {"kept": ["S2"], "removed": [], "freed_bytes": 0}, {**PRUNED, "bytes": 0.0}),
    ("and failed", {"prune_error": "no", "prune_hint": ""}, {"finished": 2.0, "exit_code": 1.0}),
]


@pytest.mark.parametrize(("case", "fields", "expected"), PRUNES, ids=[row[0] for row in PRUNES])
def test_a_backup_that_prunes_leaves_how_both_ended(
    tmp_path: Path, case: str, fields: dict[str, Any], expected: dict[str, float]
) -> None:
    """A prune before has failed."""
    outcomes.record(given(tmp_path), {**ENDED, "action": "prune", "outcome": "failed", "exit_code": 25}, lambda: 1.0)
    outcomes.record(given(tmp_path), {**ENDED, "artifact_bytes": 9, **fields}, lambda: 2.0)
    found = outcomes.read(given(tmp_path))
    assert found["prune"] == expected
    assert found["backup"] == {"finished": 2.0, "succeeded": 2.0, "seconds": 2.5, "exit_code": 0.0, "bytes": 9.0}


def test_a_skipped_run_is_no_failure_and_no_success(tmp_path: Path) -> None:
    for now, outcome in ((1.0, "done"), (2.0, "skipped")):
        report = {"command": "GarbageCollection", "outcome": outcome, "exit_code": 0, "seconds": 1.0, "bytes": 7}
        outcomes.record(given(tmp_path), report, lambda now=now: now)
    kept = outcomes.read(given(tmp_path))["gc"]
    assert (kept["finished"], kept["succeeded"], kept["exit_code"]) == (2.0, 1.0, 0)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({}, "artifacts.outcomes"),
        ({"MLFLOW_ARTIFACTS_DESTINATION": "s3://b/x", "MLFLOW_BACKEND_STORE_URI": "sqlite:///{}/my.db"},
         "my.db.outcomes"),
        ({"MLFLOW_ARTIFACTS_DESTINATION": "s3://b/x", "MLFLOW_BACKEND_STORE_URI": "postgresql://h/d",
          "MLFLOW_TRACKING_BACKUP_DESTINATION": "{}/backups"}, "backups.outcomes"),
        ({"MLFLOW_ARTIFACTS_DESTINATION": "s3://b/x", "MLFLOW_BACKEND_STORE_URI": "postgresql://h/d",
          "MLFLOW_TRACKING_BACKUP_DESTINATION": "s3://b/y"}, None),
    ],
)  # fmt: skip
def test_outcomes_are_where_server_and_jobs_find_them(
    tmp_path: Path, values: dict[str, str], where: str | None
) -> None:
    settings = given(tmp_path, **{name: text.format(tmp_path) for name, text in values.items()})
    outcomes.record(settings, ENDED, lambda: 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ([where] if where else [])
    assert set(outcomes.read(settings)) == ({"backup"} if where else set())


def test_a_mounted_artifact_folder_has_them_inside(tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts.outcomes").write_text("nothing can be created here")
    outcomes.record(given(tmp_path), ENDED, lambda: 1.0)
    assert (tmp_path / "artifacts/.mlflow-ae5-outcomes/backup.json").is_file()
    assert set(outcomes.read(given(tmp_path))) == {"backup"}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"finished": "x", "exit_code": NaN}', b"\xff\xfe", b"[" * 9000, bytes(99999)],
)
def test_a_file_that_is_no_outcome_is_left_out_and_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "artifacts.outcomes").mkdir()
    (tmp_path / "artifacts.outcomes/backup.json").write_bytes(content)
    assert outcomes.read(given(tmp_path)) == {}
    outcomes.record(given(tmp_path), ENDED, lambda: 1.0)
    assert outcomes.read(given(tmp_path))["backup"]["succeeded"] == 1.0


def test_a_job_does_not_fail_where_its_outcome_cannot_be_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes.record(given(tmp_path / "gone"), ENDED)
    assert "note: the outcome is not in the server's metrics: " in capsys.readouterr().err


def test_a_database_that_hangs_does_not_hang_the_scrape(tmp_path: Path) -> None:
    release, asked = threading.Event(), []

    def hang(store: Database) -> Answered:
        asked.append(store)
        release.wait()
        return Answered(0.1, "r")

    observed = Observed(given(tmp_path), check_uri(f"sqlite:///{tmp_path}/x.db"), 2, 20, hang, limit=0.05)
    for _ in range(3):
        up = [family for family in observed.collect() if family.name == "mlflow_ae5_database_up"]
        assert up[0].samples[0].value == 0
    release.set()
    assert len(asked) == 1
