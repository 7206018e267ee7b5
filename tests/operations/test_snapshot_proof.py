"""How far a snapshot was verified: the record of a check, and how `backup list` and `status` show it."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mlflow_ae5_deploy.engine.records import Sample, SnapshotRecord
from mlflow_ae5_deploy.engine.state import SavedState
from mlflow_ae5_deploy.jobs import tasks
from mlflow_ae5_deploy.jobs.contract import SNAPSHOT_DAMAGED, read
from mlflow_ae5_deploy.jobs.latest_outcomes import note
from mlflow_ae5_deploy.jobs.reports import BackupReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.jobs.text import sentence, warnings
from mlflow_ae5_deploy.operations.status.backups import BackupStatus
from mlflow_ae5_deploy.render.backup import show
from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.status_backups import data, words

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
BEFORE, THEN = NOW - timedelta(days=1), NOW - timedelta(hours=1)
SAMPLE = {"at": THEN.isoformat(), "checked": 1, "of": 4}
SAMPLED = Sample(THEN, 1, 4)
RECORDED = SnapshotRecord("S1", BEFORE)


@pytest.mark.parametrize(
    ("recorded", "counts", "passed", "verified", "sampled", "message"),
    [
        (RECORDED, (4, 4), True, THEN, None, "verified 60 min ago"),
        (RECORDED, (1, 4), True, None, SAMPLE, "sampled, 1 of 4 read, not verified"),
        (replace(RECORDED, verified=BEFORE), (1, 4), True, BEFORE, SAMPLE, "verified 24 h ago"),
        (replace(RECORDED, sampled=SAMPLED), (4, 4), True, THEN, None, "verified 60 min ago"),
        (replace(RECORDED, verified=BEFORE, sampled=SAMPLED), (4, 4), False, None, None, "DAMAGED"),
    ],
)
def test_a_check_updates_the_record(tmp_path, recorded, counts, passed, verified, sampled, message):
    line = {"snapshot": "S1", "outcome": "done", "exit_code": 0 if passed else SNAPSHOT_DAMAGED}
    report = read(BackupReport, {**line, "checked_objects": counts[0], "of_objects": counts[1]})
    state = SavedState.load(tmp_path)
    state.snapshot = recorded

    note(state, tasks.backup("verify", "--snapshot", "S1"), JobResult("a2-1", "completed", report), THEN)

    document = data(BackupStatus(newest=state.snapshot))
    assert (document["verified"], document["sampled"]) == (verified and verified.isoformat(), sampled)
    assert document["damaged"] is not passed
    assert f", {message}" in words(BackupStatus(newest=state.snapshot), NOW)


@pytest.mark.parametrize(
    ("retention", "shown", "as_data"),
    [
        ((), "keeps every snapshot", {}),
        ((("last", 7), ("daily", 30)), "keeps last 7, daily 30", {"last": 7, "daily": 30}),
    ],
)
def test_what_a_scheduled_backup_keeps_is_shown(retention, shown, as_data):
    backups = BackupStatus(newest=RECORDED, schedule="30 2 * * *", retention=retention)

    assert words(backups, NOW).endswith(f"; scheduled at 02:30 UTC, {shown}")
    assert data(backups)["retention"] == as_data


PRUNED = {"action": "create", "snapshot": "S2", "runs": 1, "stored_bytes": 12, "removed": ["S0"], "kept": ["S1", "S2"]}
CREATED = [
    ("nothing deleted", {**PRUNED, "removed": [], "kept": []}, "12 bytes new", ""),
    ("one deleted", {**PRUNED, "freed_bytes": 5}, "12 bytes new; deleted 1 snapshot (5 bytes freed), kept 2", ""),
    ("failed", {**PRUNED, "removed": [], "kept": [], "prune_error": "no room"}, "12 bytes new",
     "Older snapshots were not deleted: no room."),
]  # fmt: skip


@pytest.mark.parametrize(("case", "line", "shown", "warning"), CREATED, ids=[row[0] for row in CREATED])
def test_a_backup_shows_what_it_deleted(case, line, shown, warning):
    report = read(BackupReport, line)

    assert sentence(report).endswith(shown)
    assert warnings(report) == [warning] * bool(warning)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            {"runs": 1200, "models": 3, "artifact_bytes": 0, "stored_bytes": 12, "verified": THEN.isoformat()},
            "- 0 bytes 12 bytes 1,200 3 2026-11-23 08:00 1a2b3c",
        ),
        ({"runs": 1, "artifact_bytes": 0, "sampled": SAMPLE}, "- 0 bytes - 1 - 1 of 4 read 1a2b3c"),
        ({"finished": THEN.isoformat()}, "2026-11-23 08:00 - - - - no 1a2b3c"),  # of an earlier release
        ({"damaged": "its manifest is damaged"}, "- - - - - DAMAGED 1a2b3c"),
    ],
)
def test_a_line_of_the_list_shows_how_far_it_was_verified(line, shown):
    out = io.StringIO()
    line = {"snapshot": "20261123T080000Z-1a2b3c", **line}
    report = read(BackupReport, {"action": "list", "snapshots": [line]})

    show(Reporter(out=out, err=out), JobResult("a2-1", "completed", report, "1 snapshot"), NOW)

    assert " ".join(out.getvalue().splitlines()[2].split()) == shown
