"""How the report of a backup job is shown."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mlflow_ae5_deploy.jobs.contract import read
from mlflow_ae5_deploy.jobs.reports import BackupReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.jobs.text import sentence
from mlflow_ae5_deploy.render.backup import show
from mlflow_ae5_deploy.render.console import Reporter

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"action": "list", "unfinished": ["u"]}, "u  unfinished: the next backup resumes it"),
        ({"action": "prune", "outcome": "dry-run", "unfinished": ["u"]}, "u  unfinished: would be deleted"),
        ({"action": "prune", "unfinished": ["u"]}, "u  unfinished: deleted"),
        (
            {"action": "prune", "incomplete": [{"snapshot": "s", "what": "1 object missing"}]},
            "Snapshot s cannot be restored: 1 object missing.",
        ),
        ({"action": "verify", "not_recorded": "no space left"}, "! The result was not recorded in the repository"),
    ],
)
def test_the_report_is_shown(report, message, capsys):
    reporter = Reporter()
    show(reporter, JobResult("r", "completed", read(BackupReport, {"outcome": "done", **report})), NOW)
    reporter.close()

    assert message in capsys.readouterr().out


def test_the_sentence_has_the_reason_why_no_object_was_removed():
    report = {"action": "prune", "outcome": "done", "removed": ["a"], "kept": ["b"], "guard": "no object goes"}

    assert sentence(read(BackupReport, report)).endswith("kept 1; no object goes")
