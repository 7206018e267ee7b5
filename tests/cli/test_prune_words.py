"""What `backup prune` has its job do, from options and configuration."""

from __future__ import annotations

import pytest

from mlflow_ae5_deploy.cli.commands import backup
from mlflow_ae5_deploy.common.errors import Usage
from mlflow_ae5_deploy.config.settings import BackupSettings
from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.jobs.text import sentence
from mlflow_ae5_deploy.render import backup as snapshots
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
def test_the_words_of_the_job(given, words):
    task = backup._task("prune", {option: given.get(option) for option in OPTIONS}, CONFIGURED, yes="--yes" in given)

    assert list(task.words) == ["prune", *words]


def test_an_id_that_is_none_is_refused():
    with pytest.raises(Usage, match="--drop-damaged"):
        backup._task("prune", {**dict.fromkeys(OPTIONS), "--drop-damaged": "--yes"}, None, yes=False)


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"action": "list", "unfinished": ["u"]}, "u  unfinished: the next backup takes it up or cleans it away"),
        ({"action": "prune", "would_remove": [], "unfinished": ["u"]}, "u  unfinished: would go"),
        ({"action": "prune", "removed": [], "unfinished": ["u"]}, "u  unfinished: gone"),
        (
            {"action": "prune", "removed": [], "incomplete": [{"snapshot": "s", "what": "1 object missing"}]},
            "Snapshot s cannot be restored as it is: 1 object missing.",
        ),
        (
            {"action": "verify", "not_recorded": "no space left"},
            "! That could not be noted in the place of the backups: no",
        ),
    ],
)
def test_what_is_told_at_the_end(report, message, capsys):
    reporter = Reporter()
    snapshots.show(reporter, JobResult("r", "completed", "done", 0, "", report))
    reporter.close()

    assert message in capsys.readouterr().out


def test_why_no_object_goes_is_said():
    message = sentence(
        {"command": "Backup", "action": "prune", "removed": ["a"], "kept": ["b"], "guard": "no object goes"}
    )

    assert message.endswith("1 kept; no object goes")
