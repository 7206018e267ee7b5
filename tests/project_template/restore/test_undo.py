"""An undo brings a saved copy back, and can be undone itself; artifacts that are there already stay."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import NotFound, SnapshotDamaged, TargetInUse, TargetNotEmpty
from mlflow_ae5_server.database import dump, saved_copy
from mlflow_ae5_server.database.connection import connect_engine

from tests.project_template.restore.restoring import is_identical, refused, serving, work_on


def test_undo_brings_the_replaced_data_back(filled: Any, pilot: Any) -> None:
    home, before = filled, (dump.digests(filled.store), filled.files())
    done = home.restore("--replace")
    assert done["outcome"] == "done"
    assert is_identical(home, pilot)
    assert done["saved_copy"] in saved_copy.saved_names(home.store)
    later = work_on(home, pilot)  # a server has gone on from there
    with serving(home.store):
        assert "a tracking server" in refused(home, TargetInUse, "--undo")

    undone = home.restore("--undo")
    assert (undone["outcome"], undone["restored_copy"]) == ("undone", done["saved_copy"])
    assert (dump.digests(home.store), home.files()) == before
    assert undone["saved_copy"] in saved_copy.saved_names(home.store)  # the replaced data is not lost either
    assert home.tree(home.artifacts.with_name(f"artifacts.{undone['saved_copy']}")) == later[1]

    assert "has already been undone" in refused(home, NotFound, "--undo")
    assert undone["saved_copy"] in refused(home, NotFound, "--drop-saved", "saved_20200101_000000_000000")
    assert home.restore("--drop-saved", undone["saved_copy"])["deleted"]["name"] == undone["saved_copy"]
    assert "nothing to bring back" in refused(home, NotFound, "--undo")
    assert saved_copy.saved_names(home.store) == ()
    assert {path.name for path in home.folder.iterdir()} <= {"artifacts", "store"}
    assert (dump.digests(home.store), home.files()) == before


def test_an_incomplete_database_is_saved_and_the_snapshot_restored(filled: Any, pilot: Any) -> None:
    """After an interrupted migration: rows gone, a table missing, the revision as it was."""
    with connect_engine(filled.store).begin() as connection:
        connection.exec_driver_sql("DELETE FROM metrics")
        connection.exec_driver_sql("DROP TABLE trace_tags")
    with pytest.raises(TargetNotEmpty, match="tables with"):
        filled.restore("--snapshot", "latest")
    assert filled.restore("--replace")["saved_copy"] in saved_copy.saved_names(filled.store)
    assert is_identical(filled, pilot)


def test_an_undo_can_be_undone_and_is_not_repeated_unnamed(here: Any, pilot: Any) -> None:
    work_on(here, pilot)
    first = here.restore("--replace")["saved_copy"]
    later = work_on(here, pilot)
    second = here.restore("--replace")["saved_copy"]
    undone = here.restore("--undo")["saved_copy"]
    assert (dump.digests(here.store), here.files()) == later
    message = refused(here, NotFound, "--undo")
    assert "has already been undone" in message
    assert f"--saved {undone}; for an earlier state, use one of {first}" in message
    assert second not in message

    again = here.restore("--undo", "--saved", undone)
    assert again["restored_copy"] == undone
    assert is_identical(here, pilot)
    assert here.restore("--undo", "--dry-run", "--saved", first)["would_restore"] == first
    here.restore("--undo", "--saved", again["saved_copy"])
    assert (dump.digests(here.store), here.files()) == later
    assert "there are: " in refused(here, NotFound, "--undo", "--saved", "saved_20200101_000000_000000")


def test_an_undo_does_not_leave_a_server_without_data(here: Any, pilot: Any, tmp_path: Path) -> None:
    """After a restore into another, empty database, which saved the artifacts."""
    before = work_on(here, pilot)
    uri = f"sqlite:///{tmp_path}/elsewhere/mydb.sqlite"
    moved = dataclasses.replace(here, uri=uri)
    saved = moved.restore("--replace")["saved_copy"]
    for options in (("--undo",), ("--undo", "--dry-run")):
        assert f"was empty: {saved} has no database" in refused(moved, TargetNotEmpty, *options)
    assert is_identical(moved, pilot)

    assert here.restore("--undo")["restored_copy"] == saved
    assert (dump.digests(here.store), here.files()) == before
    assert dump.digests(moved.store) == pilot.digests


# Artifacts that stay, as when an upgrade is rolled back


def test_matching_artifacts_stay_and_only_the_database_is_replaced(here: Any, pilot: Any) -> None:
    work_on(here, pilot)
    shutil.copytree(pilot.home.artifacts, here.artifacts, dirs_exist_ok=True)
    before = dump.digests(here.store), here.files()
    assert before[1].keys() > pilot.files.keys()
    done = here.restore("--replace", "--same-artifacts")
    assert (done["outcome"], done["written_files"], done["artifacts"]) == ("done", 0, len(pilot.files))
    assert (dump.digests(here.store), here.files()) == (pilot.digests, before[1])
    assert not here.artifacts.with_name(f"artifacts.{done['saved_copy']}").exists()

    undone = here.restore("--undo")
    assert (dump.digests(here.store), here.files()) == before
    here.restore("--undo", "--saved", undone["saved_copy"])
    assert (dump.digests(here.store), here.files()) == (pilot.digests, before[1])


@pytest.mark.parametrize("step", ["save-database", "save-artifacts", "load-database"])
def test_an_interrupted_restore_resumes_with_the_artifacts_that_stay(step: str, here: Any, pilot: Any) -> None:
    work_on(here, pilot)
    shutil.copytree(pilot.home.artifacts, here.artifacts, dirs_exist_ok=True)
    before = here.files()
    here.interrupt(step, "--replace", "--same-artifacts")
    assert here.restore("--replace")["written_files"] == 0
    assert (dump.digests(here.store), here.files()) == (pilot.digests, before)


def test_changed_artifacts_are_restored(here: Any, pilot: Any) -> None:
    work_on(here, pilot)
    shutil.copytree(pilot.home.artifacts, here.artifacts, dirs_exist_ok=True)
    changed = next(path for path in here.artifacts.rglob("weights.bin"))
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    before = here.files()
    done = here.restore("--replace", "--same-artifacts")
    assert is_identical(here, pilot)
    assert here.tree(here.artifacts.with_name(f"artifacts.{done['saved_copy']}")) == before


def test_without_a_saved_copy_there_is_nothing_to_undo(here: Any) -> None:
    assert "nothing to bring back" in refused(here, NotFound, "--undo")
    here.restore("--replace")  # into an empty target there is nothing to save
    assert "nothing to bring back" in refused(here, NotFound, "--undo")


def test_a_deleted_saved_copy_is_named(here: Any, pilot: Any) -> None:
    work_on(here, pilot)
    saved = here.restore("--replace")["saved_copy"]
    shutil.rmtree(here.artifacts.with_name(f"artifacts.{saved}"))
    assert f"artifacts of {here.destination}" in refused(here, SnapshotDamaged, "--undo")


# Dry runs


def test_a_dry_run_without_a_saved_copy_changes_nothing(older: Any, tmp_path: Path) -> None:
    home = older(tmp_path / "home")
    before = home.tree()
    with pytest.raises(NotFound, match="no saved copy"):
        home.restore("--undo", "--dry-run")
    assert home.tree() == before


def test_a_refused_restore_writes_no_journal(older: Any, take: Any, tmp_path: Path) -> None:
    home = older(tmp_path / "home")
    take(home)
    with closing(sqlite3.connect(home.store.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refusals = home.restore("--dry-run", "--replace")["would_refuse"]
        assert [refusal["name"] for refusal in refusals] == ["held"]
        with pytest.raises(TargetInUse):
            home.restore("--replace")
    assert home.saved_copies().read_journal() is None
    assert home.interrupted() is None
