"""Restore as AE5 runs it: words from a variable, a last line of JSON, an exit code.

A real server in its way: see tests/project_template/test_jobs.py, where there is one.
"""

from __future__ import annotations

from typing import Any

from mlflow_ae5_server.database import dialects


def test_words_from_a_variable(project: Any, pilot: Any, home_at: Any) -> None:
    """What it does without any: see test_words.py."""
    variables = {"MLFLOW_TRACKING_BACKUP_DESTINATION": pilot.home.backups}
    variables["MLFLOW_TRACKING_RESTORE_ARGUMENTS"] = "--snapshot latest"
    ended = project.run("Restore", **variables)
    assert (ended.code, ended.last["command"], ended.last["outcome"]) == (0, "Restore", "done"), ended.output
    home = home_at(project.folder / "data/mlflow/standalone", pilot.home.backups)
    assert dialects.digests(home.store) == pilot.digests
    assert home.files() == pilot.files
