"""How the report of a backup job is shown."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mlflow_ae5_deploy.jobs.contract import read
from mlflow_ae5_deploy.jobs.reports import BackupReport, SavedCopy
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.jobs.text import saved_copy, sentence, warnings
from mlflow_ae5_deploy.render.backup import show
from mlflow_ae5_deploy.render.console import Reporter

NOW = datetime(2026, 3, 1, tzinfo=UTC)


# outcome, what would be removed -> the mark of the result
@pytest.mark.parametrize(
    ("outcome", "names", "mark"), [("dry-run", ["s"], "+"), ("dry-run", [], "✓"), ("done", [], "✓")]
)
def test_a_dry_run_that_would_delete_is_marked_as_in_a_plan(outcome, names, mark, capsys):
    reporter = Reporter()
    report = read(BackupReport, {"action": "prune", "outcome": outcome, "would_remove": names})
    show(reporter, JobResult("r", "completed", report), NOW)
    reporter.close()

    assert capsys.readouterr().out[0] == mark


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"action": "list", "unfinished": ["u"]}, "u  unfinished: the next backup resumes it"),
        ({"action": "prune", "outcome": "dry-run", "unfinished": ["u"]}, "u  unfinished: would be deleted"),
        ({"action": "prune", "unfinished": ["u"]}, "u  unfinished: deleted"),
        ({"action": "prune", "kept": ["a"], "kept_because": ["the newest"]}, "a  kept: the newest\n"),
        ({"action": "prune", "kept": ["a"], "kept_because": [""]}, "a  kept\n"),
        (
            {"action": "prune", "incomplete": [{"snapshot": "s", "what": "1 object missing"}]},
            "Snapshot s cannot be restored: 1 object missing.",
        ),
    ],
)
def test_the_report_is_shown(report, message, capsys):
    reporter = Reporter()
    show(reporter, JobResult("r", "completed", read(BackupReport, {"outcome": "done", **report})), NOW)
    reporter.close()

    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    ("report", "texts"),
    [
        ({}, []),
        ({"warnings": ["the disk is slow"]}, ["The disk is slow."]),
        ({"not_recorded": "no space left"}, ["The result was not recorded in the repository: no space left."]),
        ({"unsafe_keys": ["a key is MLflow's own"]}, ["A key is MLflow's own."]),
        ({"snapshot": "s", "external": ["s3://a", "s3://b"]}, ["Not in snapshot s: s3://a, s3://b."]),
        (
            {"snapshot": "s", "external": [f"s3://{n}" for n in range(12)]},
            ["Not in snapshot s: " + ", ".join(f"s3://{n}" for n in range(10)) + " and 2 more."],
        ),
        ({"outcome": "incomplete", "external": ["s3://a"]}, []),
    ],
    ids=["none", "reported", "not recorded", "keys", "left out", "many left out", "an error names it"],
)
def test_a_job_warns_of(report, texts):
    assert warnings(read(BackupReport, {"outcome": "done", **report})) == texts


def test_the_sentence_has_the_reason_why_no_object_was_removed():
    report = {"action": "prune", "outcome": "done", "removed": ["a"], "kept": ["b"], "guard": "no object goes"}

    assert sentence(read(BackupReport, report)).endswith("kept 1; no object goes")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"database": True, "files": 0, "bytes": 0}, "a database and 0 files (0 bytes), saved 2026-01-03"),
        ({"files": 1, "bytes": 5}, "1 file (5 bytes), saved 2026-01-03"),
        ({"files": 0, "bytes": 0}, "holds nothing, listed 2026-01-03"),
    ],
    ids=["a database", "artifacts", "never made"],
)
def test_a_saved_copy_is_listed_with_what_it_holds(fields, text):
    copy = SavedCopy(name="failed_1", snapshot="s", time="2026-01-03T00:00:00+00:00", **fields)

    assert saved_copy(copy).startswith(f"failed_1: {text}")


@pytest.mark.parametrize(
    ("name", "by"), [("kept_1", "the restore of snapshot s"), ("undone_1", "the undo of the restore of snapshot s")]
)
def test_a_saved_copy_is_listed_with_the_operation_that_made_it(name, by):
    copy = SavedCopy(name=name, snapshot="s", time="2026-01-03T00:00:00+00:00", files=1, bytes=5)

    assert saved_copy(copy).endswith(f"saved 2026-01-03 00:00 UTC by {by}")
