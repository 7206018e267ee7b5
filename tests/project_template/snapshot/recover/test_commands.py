"""Restore as AE5 runs it: words from a variable, a last line of JSON, an exit code, and a real server in the way."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow_ae5_server.snapshot import dump

pytestmark = pytest.mark.real_mlflow


def test_words_from_a_variable(project: Any, pilot: Any, home_at: Any) -> None:
    variables = {"MLFLOW_TRACKING_BACKUP_DESTINATION": pilot.home.backups}
    rehearsal = project.run("Restore", **variables)
    assert (rehearsal.code, rehearsal.last["outcome"]) == (0, "dry-run"), rehearsal.output
    assert not (project.folder / "data").exists()

    variables["MLFLOW_TRACKING_RESTORE_ARGUMENTS"] = "--snapshot latest"
    ended = project.run("Restore", **variables)
    assert (ended.code, ended.last["command"], ended.last["outcome"]) == (0, "Restore", "done"), ended.output
    home = home_at(project.folder / "data/mlflow/standalone", pilot.home.backups)
    assert dump.digests(home.store) == pilot.digests
    assert home.files() == pilot.files


def test_a_real_server_is_in_the_way(on_sqlite: Any, pilot: Any) -> None:
    variables = {"MLFLOW_TRACKING_BACKUP_DESTINATION": pilot.home.backups}
    run = on_sqlite.server.new_run()
    ended = on_sqlite.job("Restore", MLFLOW_TRACKING_RESTORE_ARGUMENTS="--replace", **variables)
    assert (ended.code, ended.last["outcome"]) == (18, "failed"), ended.output
    assert "a tracking server" in ended.last["error"]
    assert on_sqlite.server.artifacts(run) == 1
