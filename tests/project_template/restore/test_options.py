"""The options of Backup, Restore and Drill: on the command line, or in the variable that a job is given."""

from __future__ import annotations

import re
from typing import Any

import pytest
from mlflow_ae5_server import cli
from mlflow_ae5_server.common import arguments, settings
from mlflow_ae5_server.common.contract import CONTRACT
from mlflow_ae5_server.common.errors import Usage
from mlflow_ae5_server.database import dump


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("restore", {"snapshot": "latest", "dry_run": False, "replace": False, "no_upgrade": False, "undo": False}),
        ("restore --dry-run --snapshot a-1", {"snapshot": "a-1", "dry_run": True}),
        ("restore --replace --no-upgrade", {"replace": True, "no_upgrade": True}),
        ("restore --undo", {"undo": True, "drop_saved": None}),
        ("restore --drop-saved saved_1", {"undo": False, "drop_saved": "saved_1"}),
        ("drill", {"snapshot": "latest"}),
        ("drill --snapshot x", {"snapshot": "x"}),
        (
            "backup create --rehash",
            {"action": "create", "rehash": True, "allow_external": False, "allow_empty": False},
        ),
        ("backup create --allow-empty", {"allow_empty": True}),
        ("backup verify --sample 1%", {"action": "verify", "sample": "1%", "all": False, "snapshot": "latest"}),
        ("backup prune --keep-daily 7 --yes", {"action": "prune", "keep_daily": 7, "keep_last": None, "yes": True}),
        ("database-upgrade --rehearse", {"rehearse": True, "dry_run": False}),
    ],
)
def test_options_are_parsed(given: str, expected: dict[str, Any]) -> None:
    assert vars(cli.parse(given.split())).items() >= expected.items()


@pytest.mark.parametrize("command", sorted(CONTRACT["commands"]))
def test_a_command_has_the_options_of_the_contract(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    agreed = CONTRACT["commands"][command]
    for action, options in agreed.get("actions", {"": agreed.get("options")}).items():
        with pytest.raises(SystemExit):
            cli.parse([agreed["word"], *action.split(), "--help"])
        usage = capsys.readouterr().out.partition("options:")[0]
        listed = {option for option in re.findall(r"--[a-z-]+", usage) if "anaconda" not in option}
        assert listed == set(options), action


@pytest.mark.parametrize(
    "given",
    [
        "restore latest",
        "restore --undo --replace",
        "restore --undo --snapshot x",
        "restore --undo --drop-saved x",
        "restore --drop-saved x --replace",
        "restore --list-saved --undo",
        "restore --list-saved --replace",
        "restore --list-saved --drop-saved x",
        "restore --snap x",
        "drill --yes",
        "backup",
        "backup verify --all --sample 1%",
        "backup prune --keep-last many",
    ],
)
def test_contradicting_and_unknown_options_are_refused(given: str) -> None:
    with pytest.raises(Usage):
        cli.parse(given.split())


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("--snapshot 'a b' --replace", ["--snapshot", "a b", "--replace"]),
        ("unset", ["--dry-run"]),  # not: restore the newest snapshot for real
        ("", ["--dry-run"]),
    ],
)
def test_a_variable_is_split_into_options(variable: str, words: list[str]) -> None:
    resolved = settings.resolve({"MLFLOW_TRACKING_RESTORE_ARGUMENTS": variable}, {}, {})
    assert arguments.from_variable("restore", resolved) == words


def test_an_open_quotation_mark_is_refused() -> None:
    resolved = settings.resolve({"MLFLOW_TRACKING_DRILL_ARGUMENTS": "--snapshot 'a"}, {}, {})
    with pytest.raises(Usage, match="DRILL_ARGUMENTS"):
        arguments.from_variable("drill", resolved)


def test_a_job_reports_wrong_options(project: Any) -> None:
    ended = project.run("Restore", MLFLOW_TRACKING_RESTORE_ARGUMENTS="--snapshot")
    assert ended.code == Usage.exit_code
    assert (ended.last["command"], ended.last["outcome"]) == ("Restore", "failed")


def test_a_job_takes_its_options_from_a_variable(project: Any, pilot: Any, home_at: Any) -> None:
    """In a process of its own, as AE5 runs it. With a real server: see tests/project_template/test_jobs.py."""
    variables = {"MLFLOW_TRACKING_BACKUP_DESTINATION": pilot.home.backups}
    variables["MLFLOW_TRACKING_RESTORE_ARGUMENTS"] = "--snapshot latest"
    ended = project.run("Restore", **variables)
    assert (ended.code, ended.last["command"], ended.last["outcome"]) == (0, "Restore", "done"), ended.output
    home = home_at(project.folder / "data/mlflow/standalone", pilot.home.backups)
    assert dump.digests(home.store) == pilot.digests
    assert home.files() == pilot.files
