"""What a restore keeps aside: named, shown, and removed for good by name only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server import cli
from mlflow_ae5_server.common.errors import AbsentError, BusyError, UsageError
from mlflow_ae5_server.restore.journal import RestoreInProgress, RestoreJournalFile, SavedCopy
from mlflow_ae5_server.restore.open_saved_copies import beside

NAME = "kept_20260102_030405_abcdef"


@pytest.fixture
def home(home_at: Any, tmp_path: Path) -> Any:
    """Something is kept aside beside a SQLite database and a folder; nothing else is there."""
    home = home_at(tmp_path, str(tmp_path / "backups"))
    home.store_folder()
    database_file(home).write_bytes(b"database")
    for number in range(3):
        file = home.artifacts.with_name(f"artifacts.{NAME}") / "0" / "run" / str(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"12345")
    RestoreJournalFile(beside(home.destination)).keep(SavedCopy(NAME, "s-1", "2026-01-02T03:04:05+00:00", True, True))
    return home


def database_file(home: Any) -> Path:
    file: Path = home.store.file
    return file.with_name(f"{file.name}.mlflow_ae5_kept_{NAME}")


FACTS = {"name": NAME, "snapshot": "s-1", "time": "2026-01-02T03:04:05+00:00", "database": True, "files": 3,
         "bytes": 15, "more": False}  # fmt: skip


def test_named_shown_removed(home: Any) -> None:
    before = home.tree()
    listed = home.restore("--list-saved")
    shown = home.restore("--drop-saved", NAME, "--dry-run")
    assert (listed["outcome"], listed["saved_copies"]) == ("done", [FACTS])
    assert (shown["outcome"], shown["would_delete"]) == ("dry-run", FACTS)
    assert home.tree() == before

    done = home.restore("--drop-saved", NAME)
    assert (done["outcome"], done["deleted"]) == ("done", FACTS)
    assert home.tree() == {}
    assert home.restore("--list-saved")["saved_copies"] == []
    with pytest.raises(AbsentError, match="there is: nothing"):
        home.restore("--drop-saved", NAME)


@pytest.mark.parametrize("words", [("--drop-saved", NAME), ("--drop-saved", NAME, "--dry-run")])
def test_not_while_an_undo_may_need_it(home: Any, words: tuple[str, ...]) -> None:
    RestoreJournalFile(beside(home.destination)).begin(
        RestoreInProgress("undo-artifacts", "s-1", "2026-01-03", "x:1", kept=NAME)
    )
    before = home.tree()
    with pytest.raises(BusyError, match="may need it"):
        home.restore(*words)
    assert home.tree() == before


def test_an_empty_name_is_no_restore(home: Any) -> None:
    with pytest.raises(AbsentError, match="kept aside as ''"):
        home.restore("--drop-saved", "")


@pytest.mark.parametrize("words", ["--list-saved --undo", "--list-saved --replace", "--list-saved --drop-saved x"])
def test_words_that_contradict_each_other(words: str) -> None:
    with pytest.raises(UsageError):
        cli.parse(["restore", *words.split()])
