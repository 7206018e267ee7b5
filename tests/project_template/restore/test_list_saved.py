"""Saved copies are listed, and deleted by name only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import Locked, NotFound
from mlflow_ae5_server.restore.journal import RestoreInProgress, RestoreJournalFile, SavedCopy
from mlflow_ae5_server.restore.open import open_saved_copies

NAME = "saved_20260102_030405_abcdef"


@pytest.fixture
def home(home_at: Any, tmp_path: Path) -> Any:
    """A saved copy of a SQLite database and of a folder; nothing else is there."""
    home = home_at(tmp_path, str(tmp_path / "backups"))
    home.store_folder()
    database_file(home).write_bytes(b"database")
    for number in range(3):
        file = home.artifacts.with_name(f"artifacts.{NAME}") / "0" / "run" / str(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"12345")
    RestoreJournalFile(open_saved_copies(home.destination)).add(
        SavedCopy(NAME, "s-1", "2026-01-02T03:04:05+00:00", True, True)
    )
    return home


def database_file(home: Any) -> Path:
    file: Path = home.store.file
    return file.with_name(f"{file.name}.mlflow_ae5_saved_{NAME}")


FIELDS = {"name": NAME, "snapshot": "s-1", "time": "2026-01-02T03:04:05+00:00", "database": True, "files": 3,
         "bytes": 15, "more": False}  # fmt: skip


def test_a_copy_is_listed_shown_and_deleted(home: Any) -> None:
    before = home.tree()
    listed = home.restore("--list-saved")
    shown = home.restore("--drop-saved", NAME, "--dry-run")
    assert (listed["outcome"], listed["saved_copies"]) == ("done", [FIELDS])
    assert (shown["outcome"], shown["would_delete"]) == ("dry-run", FIELDS)
    assert home.tree() == before

    done = home.restore("--drop-saved", NAME)
    assert (done["outcome"], done["deleted"]) == ("done", FIELDS)
    assert home.tree() == {}
    assert home.restore("--list-saved")["saved_copies"] == []
    with pytest.raises(NotFound, match="lists them: none"):
        home.restore("--drop-saved", NAME)


@pytest.mark.parametrize("options", [("--drop-saved", NAME), ("--drop-saved", NAME, "--dry-run")])
def test_a_copy_that_an_undo_may_need_is_not_deleted(home: Any, options: tuple[str, ...]) -> None:
    RestoreJournalFile(open_saved_copies(home.destination)).begin(
        RestoreInProgress("bring-back-artifacts", "s-1", "2026-01-03", "x:1", original=NAME)
    )
    before = home.tree()
    with pytest.raises(Locked, match="may need it"):
        home.restore(*options)
    assert home.tree() == before


def test_an_empty_name_does_not_start_a_restore(home: Any) -> None:
    with pytest.raises(NotFound, match="no saved copy ''"):
        home.restore("--drop-saved", "")


@pytest.mark.parametrize(("kind", "by"), [("failed", "the restore"), ("undone", "the undo of the restore")])
def test_a_copy_is_listed_with_the_operation_that_made_it(home: Any, capsys: Any, kind: str, by: str) -> None:
    name = f"{kind}_20260103_030405_abcdef"
    RestoreJournalFile(open_saved_copies(home.destination)).add(SavedCopy(name, "s-2", "2026-01-03", True, False))

    home.restore("--list-saved")

    assert f"{by} of s-2" in next(line for line in capsys.readouterr().err.splitlines() if name in line)


def test_a_copy_that_was_listed_and_never_made_holds_nothing_and_can_be_deleted(home: Any, capsys: Any) -> None:
    """A restore lists a copy before it makes it, and may be killed in between."""
    never = "failed_20260103_030405_abcdef"
    RestoreJournalFile(open_saved_copies(home.destination)).add(SavedCopy(never, "s-2", "2026-01-03", True, False))

    listed = home.restore("--list-saved")["saved_copies"][-1]
    log = capsys.readouterr().err
    deleted = home.restore("--drop-saved", never)

    assert (listed["name"], listed["database"], listed["files"]) == (never, False, 0)
    assert f"{never}: holds nothing, listed " in log
    assert deleted["outcome"] == "done"
    assert home.restore("--list-saved")["saved_copies"] == [FIELDS]
