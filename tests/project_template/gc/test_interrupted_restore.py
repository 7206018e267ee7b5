"""Saved copies of a restore are not collected, and nothing is while a restore is interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.commands import database_upgrade
from mlflow_ae5_server.common import settings
from mlflow_ae5_server.common.errors import RestoreUnfinished
from mlflow_ae5_server.common.report import Report
from mlflow_ae5_server.database import locks
from mlflow_ae5_server.database.connection import check_uri
from mlflow_ae5_server.restore.journal import RestoreInProgress, RestoreJournalFile, SavedCopy
from mlflow_ae5_server.restore.open import open_saved_copies

from tests.project_template.gc.conftest import ROOT, Data
from tests.project_template.gc.test_orphans import REMOVE, old, some

KEPT = "saved_20260102_030405_abcdef"


def interrupted_restore(data: Data, step: str = "restore-artifacts") -> RestoreJournalFile:
    """The journal of a restore to this destination that was killed."""
    journal_file = RestoreJournalFile(open_saved_copies(str(data.artifacts)))
    snapshot, started = "20260102T030405Z-abcdef", "2026-01-02T03:04:05+00:00"
    journal_file.begin(RestoreInProgress(step, snapshot, started, "elsewhere:1", original=KEPT))
    return journal_file


def left_alone(data: Data, fields: dict[str, Any], run: str) -> bool:
    return "runs" not in fields and data.has_files(run) and data.column("SELECT run_uuid FROM runs") == [run]


@pytest.mark.parametrize("step", ["restore-artifacts", "bring-back-artifacts"])
def test_nothing_is_collected_while_a_restore_is_interrupted(on_file: Data, step: str) -> None:
    run = on_file.run()
    orphan = old(on_file, f"0/{some()}/artifacts/a")
    journal_file = interrupted_restore(on_file, step)

    fields = on_file.collect(**REMOVE)

    assert (fields["exit_code"], fields["outcome"]) == (22, "failed")
    assert "started 2026-01-02 03:04 UTC by elsewhere:1, has not finished" in fields["error"]
    assert left_alone(on_file, fields, run)
    assert orphan.is_file()
    assert on_file.collect(dry_run=True)["exit_code"] == 22
    journal_file.end()
    assert on_file.collect()["runs"]["removed"] == 1


def test_the_job_counts_as_failed_and_not_as_one_that_came_too_late() -> None:
    report = Report("GarbageCollection")
    error = RestoreUnfinished("a restore has not ended", "finish it")
    report.failed(error)
    assert (report.exit_code(error), report._fields["outcome"]) == (22, "failed")


def test_an_interrupted_restore_is_reported_where_the_database_is_not_back_yet(on_file: Data) -> None:
    Path(on_file.uri.removeprefix("sqlite:///")).unlink()
    report = on_file.collect()
    assert "there is no database" in report["error"]
    assert "that its volume is mounted" in report["hint"]
    interrupted_restore(on_file)
    assert on_file.collect()["exit_code"] == 22
    with locks.maintenance(check_uri(on_file.uri)):  # a restore is running: it will end, and the schedule comes again
        assert on_file.collect()["outcome"] == "skipped"


def test_a_damaged_restore_journal_stops_it_too(on_file: Data) -> None:
    run = on_file.run()
    on_file.artifacts.with_name("artifacts.restore.json").write_text("{")
    fields = on_file.collect()
    assert fields["exit_code"] == 25
    assert left_alone(on_file, fields, run)


def test_no_tables_are_made_where_a_restore_will_put_its_own(tmp_path: Path) -> None:
    data = Data(f"sqlite:///{tmp_path}/new.sqlite", tmp_path)
    interrupted_restore(data)
    variables = {"MLFLOW_BACKEND_STORE_URI": data.uri, "MLFLOW_ARTIFACTS_DESTINATION": str(data.artifacts)}
    with pytest.raises(RestoreUnfinished, match="has not finished"):
        database_upgrade.run(settings.resolve(variables, {}, {}), Report("DatabaseUpgrade"), False)


@pytest.mark.parametrize(
    "location",
    [
        f"{ROOT}.mlflow-ae5-{KEPT}/0/RUN/artifacts",
        f"{ROOT}%2emlflow-ae5-{KEPT}/0/RUN/artifacts",
        f"ARTIFACTS/.mlflow-ae5-{KEPT}/0/RUN/artifacts",
        f"file://ARTIFACTS.{KEPT}/0/RUN/artifacts",
        f"{ROOT}0/.mlflow-ae5-gc/RUN/artifacts",
    ],
)
def test_a_run_located_in_a_saved_copy_is_not_removed(on_file: Data, location: str) -> None:
    run = on_file.run(uri=location.replace("ARTIFACTS", str(on_file.artifacts)))
    inside = [
        on_file.file(f"{folder}/{run}/artifacts/a")
        for folder in (f".mlflow-ae5-{KEPT}/0", f"../artifacts.{KEPT}/0", "0/.mlflow-ae5-gc")
    ]

    fields = on_file.collect()

    assert (fields["exit_code"], fields["runs"]["removed"]) == (23, 0)
    assert [item["id"] for item in fields["skipped"]] == [run]
    assert all(file.is_file() for file in inside)


def test_a_saved_copy_inside_the_store_is_no_orphan(on_file: Data) -> None:
    """It is kept inside where nothing can be put beside it, such as on a mounted volume."""
    on_file.run(deleted=None)
    kept = [old(on_file, f".mlflow-ae5-{KEPT}/{path}/artifacts/a") for path in (f"0/{some()}", f"7/models/m-{some()}")]
    restore_journal = old(on_file, ".mlflow-ae5-restore.json")
    RestoreJournalFile(open_saved_copies(str(on_file.artifacts))).add(
        SavedCopy(KEPT, "s", "2026-01-02T03:04:05+00:00", True, True)
    )
    orphan = old(on_file, f"0/{some()}/artifacts/a")

    fields = on_file.collect(**REMOVE)

    assert (fields["exit_code"], fields["orphans"]["folders"], fields["orphans"]["removed"]) == (0, 1, 1)
    assert all(file.is_file() for file in (*kept, restore_journal))
    assert not orphan.exists()
