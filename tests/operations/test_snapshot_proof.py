"""How far a snapshot was read back: what is remembered of a check, and how `backup list` and `status` say it."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest

from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.jobs.outcomes import checked
from mlflow_ae5_deploy.operations.status_backups import BackupStatus, data, remembered, words
from mlflow_ae5_deploy.render.backup import show
from mlflow_ae5_deploy.render.console import Reporter

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
BEFORE, THEN = "2026-11-22T09:00:00+00:00", "2026-11-23T08:00:00+00:00"
SAMPLE = {"at": THEN, "checked": 1, "of": 4}
KNOWN = {"id": "S1", "finished": BEFORE, "verified": None, "sampled": None, "damaged": False, "complete": True}


@pytest.mark.parametrize(
    ("known", "found", "passed", "verified", "sampled", "message"),
    [
        (KNOWN, (4, 4), True, THEN, None, "verified 60 minutes ago"),
        (KNOWN, (1, 4), True, None, SAMPLE, "sampled, 1 of 4 read, not verified"),
        (KNOWN | {"verified": BEFORE}, (1, 4), True, BEFORE, SAMPLE, "verified 24 hours ago"),
        (KNOWN | {"sampled": SAMPLE}, (4, 4), True, THEN, None, "verified 60 minutes ago"),
        (KNOWN | {"verified": BEFORE, "sampled": SAMPLE}, (4, 4), False, None, None, "DAMAGED"),
        ({key: KNOWN[key] for key in ("id", "finished")}, (1, 4), True, None, SAMPLE, "sampled, 1 of 4 read"),
    ],
)
def test_what_a_check_makes_known(known, found, passed, verified, sampled, message):
    report = {"snapshot": "S1", "checked_objects": found[0], "of_objects": found[1]}

    newest = remembered({**known, **checked(report, THEN, passed=passed)})

    told = data(BackupStatus(newest))
    assert (told["verified"], told["sampled"], told["damaged"]) == (verified, sampled, not passed)
    assert f", {message}" in words(BackupStatus(newest), NOW)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"rows": 1200, "artifacts": 0, "artifact_bytes": 0, "verified": THEN}, "1,200 0 0 bytes 2026-11-23T08:00"),
        ({"rows": 1, "artifacts": 0, "artifact_bytes": 0, "sampled": SAMPLE}, "1 0 0 bytes sampled, 1 of 4, 2026-11"),
        ({"rows": 1, "artifacts": 0, "artifact_bytes": 0}, "1 0 0 bytes no"),
        ({"damaged": "its manifest is damaged"}, "? ? ? DAMAGED: its manifest is damaged"),
    ],
)
def test_a_line_of_the_list(line, told):
    out = io.StringIO()

    show(Reporter(out=out, err=out), JobResult("a2-1", "completed", "done", 0, "1 snapshot", {"snapshots": [line]}))

    assert told in " ".join(out.getvalue().splitlines()[-1].split())
