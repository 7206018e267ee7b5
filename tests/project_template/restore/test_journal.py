"""The restore journal: what it remembers, and what is refused in a file that others may be able to write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import RepositoryFailed, SnapshotDamaged
from mlflow_ae5_server.restore import journal
from mlflow_ae5_server.restore.journal import RestoreInProgress, RestoreJournal, RestoreJournalFile, SavedCopy
from mlflow_ae5_server.restore.open import open_saved_copies
from mlflow_ae5_server.restore.saved_copies import FolderSavedCopies

from tests.project_template.repository.hostile import KINDS
from tests.project_template.restore.conftest import Home, tree

NAME = "saved_20260101_000000_abcdef"
RUNNING = {
    "step": "load-database",
    "snapshot": "20260101T000000Z-abcdef",
    "started": "2026-01-01T00:00:00+00:00",
    "started_by": "here:1",
    "save_as": None,
    "original": None,
    "artifacts_stay": False,
}
COPY = {
    "name": NAME,
    "snapshot": "20260101T000000Z-abcdef",
    "time": "2026-01-01T00:00:00+00:00",
    "database": True,
    "artifacts": True,
    "artifacts_stay": False,
    "store": "",
}
VERBS = (
    "restore --dry-run",
    "restore --replace",
    "restore --undo",
    "restore --undo --dry-run",
    "restore --list-saved",
    f"restore --drop-saved {NAME}",
    "backup create --allow-external",
    "backup prune --keep-last 1 --yes",
)


def content(running: object = None, *saved: object, **more: object) -> Callable[[Path], object]:
    data = {"format": 1, "what": "", "running": running, "saved": list(saved), **more}
    return lambda path: path.write_text(json.dumps(data))


JOURNALS: dict[str, Callable[[Path], object]] = {
    **KINDS,
    "a link": lambda path: (path.with_name("another").write_text("{}"), path.symlink_to("another")),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "an empty file": lambda path: path.write_bytes(b""),
    "no object at all": lambda path: path.write_text("[]"),
    "brackets without end": lambda path: path.write_text("[" * 100_000),
    "a copy without all fields": content(None, {"name": NAME}),
    "another format": content(format=2),
    "more fields": content({**RUNNING, "more": 1}),
    "no object": content([]),
    "an unknown step": content({**RUNNING, "step": "x"}),
    "an undo of nothing": content({**RUNNING, "step": "bring-back-artifacts"}),
    **{
        f"{name}: {value!r}": content({**RUNNING, name: value})
        for name in RUNNING
        for value in ({"a": 1}, 5, "\x1b[2J")
    },
    **{
        f"saved copy, {name}: {value!r}": content(None, {**COPY, name: value})
        for name in COPY
        for value in ({}, 5, "\x07")
        if (name, value) != ("store", "\x07")  # which no message shows
    },
    **{f"a name that leads out: {name}": content(None, {**COPY, "name": name}) for name in ("..", "x", f"{NAME}/..")},
}


@pytest.mark.parametrize("how", JOURNALS)
def test_every_job_refuses_a_journal_that_no_restore_wrote(
    here: Home, pilot: Any, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    here.artifacts.mkdir(parents=True)
    (here.artifacts / "a").write_text("a")
    here.store_folder()
    JOURNALS[how](Path(f"{here.destination}.restore.json"))
    before = sorted(here.folder.glob("*")), here.files(), tree(Path(pilot.home.backups, "snapshots"))
    for verb in VERBS:
        with pytest.raises(SnapshotDamaged, match="restore journal of"):
            here.job(*verb.split())
    after = sorted(here.folder.glob("*")), here.files(), tree(Path(pilot.home.backups, "snapshots"))
    assert after == before
    assert not {"\x1b", "\x07"} & set("".join(capfd.readouterr()))


def test_the_journal_remembers_the_restore_in_progress_and_the_saved_copies(tmp_path: Path) -> None:
    url = str(tmp_path / "artifacts")
    first = RestoreJournalFile(open_saved_copies(url))
    assert (first.running, first.last_saved(), journal.interrupted(url)) == (None, None, None)
    name = journal.new_name("saved")
    running = RestoreInProgress("save-database", "20261123T001122Z-abcdef", journal.now(), "here:1", name, name)
    first.begin(running, SavedCopy(name, running.snapshot, running.started, database=True, artifacts=False))
    first.enter("restore-artifacts")

    second = RestoreJournalFile(open_saved_copies(url))
    assert second.content == first.content
    assert second.require_running().step == "restore-artifacts"
    assert "here:1" in (journal.interrupted(url) or "")
    second.end()
    assert journal.interrupted(url) is None
    second.add(SavedCopy(journal.new_name("failed"), "s", "t", database=True, artifacts=True))
    third = RestoreJournalFile(open_saved_copies(url))
    assert third.last_saved() == first.find(name)  # not the data of an interrupted restore
    for copy in third.saved:
        third.end(drop=copy.name)
    assert third.last_saved() is None
    assert not (tmp_path / "artifacts.restore.json").exists()


def no_answer() -> list[str]:
    raise RepositoryFailed("the database does not answer", "")


@pytest.mark.parametrize(
    ("saved_names", "stays"),
    [(list, False), (lambda: [NAME], True), (no_answer, True)],
    ids=["none", "made", "unknown"],
)
def test_a_refused_first_step_is_forgotten_unless_its_saved_copy_may_be_there(
    tmp_path: Path, saved_names: Callable[[], list[str]], stays: bool
) -> None:
    file = RestoreJournalFile(open_saved_copies(str(tmp_path / "artifacts")))
    running = RestoreInProgress("save-database", "20261123T001122Z-abcdef", journal.now(), "here:1", NAME, NAME)
    file.begin(running, SavedCopy(NAME, running.snapshot, running.started, database=True, artifacts=False))

    with pytest.raises(RepositoryFailed, match="lost"), file.reverted_if_refused(saved_names):
        raise RepositoryFailed("the answer was lost", "")

    again = RestoreJournalFile(open_saved_copies(str(tmp_path / "artifacts")))
    assert (again.running is not None, [copy.name for copy in again.saved]) == (stays, [NAME] if stays else [])


def test_a_journal_reads_what_it_writes() -> None:
    running = RestoreInProgress("bring-back-artifacts", "s", "t", "w", NAME.replace("saved", "undone"), NAME)
    written = RestoreJournal(running, (SavedCopy(NAME, "s", "t", database=True, artifacts=False),))
    assert RestoreJournal.from_bytes(written.to_bytes(), "here") == written


def test_writing_the_journal_follows_no_link(tmp_path: Path) -> None:
    folder, precious = tmp_path / "artifacts", tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "artifacts.restore.json.tmp").symlink_to(precious)
    copies = FolderSavedCopies(folder)
    copies.write_journal(b"{}")
    assert (copies.read_journal(), precious.read_text()) == (b"{}", "precious")


@pytest.mark.parametrize("verb", ["exists", "contents", "drop", "bring_back"])
def test_a_link_is_no_saved_copy(tmp_path: Path, verb: str) -> None:
    folder, outside = tmp_path / "artifacts", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    (tmp_path / f"artifacts.{NAME}").symlink_to(outside)
    copies = FolderSavedCopies(folder)
    assert not getattr(copies, verb)(NAME)
    assert tree(outside).keys() == {"precious"}
