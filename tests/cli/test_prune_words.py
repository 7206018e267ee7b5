"""The options that `backup prune` passes to its job, and how its report is shown."""

from __future__ import annotations

import pytest

from mlflow_ae5_deploy.cli.commands import backup
from mlflow_ae5_deploy.common.errors import Usage
from mlflow_ae5_deploy.config.settings import BackupSettings
from mlflow_ae5_deploy.jobs.contract import read
from mlflow_ae5_deploy.jobs.reports import BackupReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.jobs.text import sentence
from mlflow_ae5_deploy.render.backup import show
from mlflow_ae5_deploy.render.console import Reporter

OPTIONS = ("--keep-last", "--keep-daily", "--keep-weekly", "--drop-damaged")
CONFIGURED = BackupSettings(keep_last=2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"--drop-damaged": "20260101T000000Z-abcdef"}, ["--drop-damaged", "20260101T000000Z-abcdef"]),
        (
            {"--drop-damaged": "a1", "--keep-last": 3, "--yes": True},
            ["--keep-last", "3", "--drop-damaged", "a1", "--yes"],
        ),
        ({}, ["--keep-last", "2"]),
    ],
)
def test_options_and_configuration_become_options_of_the_job(given, words):
    task = backup._task("prune", {option: given.get(option) for option in OPTIONS}, CONFIGURED, yes="--yes" in given)

    assert list(task.words) == ["prune", *words]


def test_a_value_that_is_no_id_is_refused():
    with pytest.raises(Usage, match="--drop-damaged"):
        backup._task("prune", {**dict.fromkeys(OPTIONS), "--drop-damaged": "--yes"}, None, yes=False)


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"action": "list", "unfinished": ["u"]}, "u  unfinished: the next backup resumes it or removes it"),
        ({"action": "prune", "outcome": "dry-run", "unfinished": ["u"]}, "u  unfinished: would be removed"),
        ({"action": "prune", "unfinished": ["u"]}, "u  unfinished: removed"),
        (
            {"action": "prune", "incomplete": [{"snapshot": "s", "what": "1 object missing"}]},
            "Snapshot s cannot be restored as it is: 1 object missing.",
        ),
        ({"action": "verify", "not_recorded": "no space left"}, "! The result could not be recorded in the repository"),
    ],
)
def test_the_report_is_shown(report, message, capsys):
    reporter = Reporter()
    show(reporter, JobResult("r", "completed", read(BackupReport, {"outcome": "done", **report})))
    reporter.close()

    assert message in capsys.readouterr().out


def test_the_sentence_has_the_reason_why_no_object_was_removed():
    report = {"action": "prune", "outcome": "done", "removed": ["a"], "kept": ["b"], "guard": "no object goes"}

    assert sentence(read(BackupReport, report)).endswith("1 kept; no object goes")
