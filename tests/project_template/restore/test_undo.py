"""What a restore keeps aside comes back, and an undo too; and what stays where it is."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import AbsentError, DamagedError, InUseError, NotEmptyError
from mlflow_ae5_server.database import dialects

from tests.project_template.restore.restoring import is_identical, refused, serving, work_on


def test_replace_and_undo(filled: Any, pilot: Any) -> None:
    home, before = filled, (dialects.digests(filled.store), filled.files())
    done = home.restore("--replace")
    assert done["outcome"] == "done"
    assert is_identical(home, pilot)
    assert done["saved_copy"] in dialects.kept(home.store)
    later = work_on(home, pilot)  # a server has gone on from there
    with serving(home.store):
        assert "a tracking server" in refused(home, InUseError, "--undo")

    undone = home.restore("--undo")
    assert (undone["outcome"], undone["restored_copy"]) == ("undone", done["saved_copy"])
    assert (dialects.digests(home.store), home.files()) == before
    assert undone["saved_copy"] in dialects.kept(home.store)  # what was displaced is not lost either
    assert home.tree(home.artifacts.with_name(f"artifacts.{undone['saved_copy']}")) == later[1]

    assert "is undone already" in refused(home, AbsentError, "--undo")
    assert undone["saved_copy"] in refused(home, AbsentError, "--drop-saved", "kept_20200101_000000_000000")
    assert home.restore("--drop-saved", undone["saved_copy"])["deleted"]["name"] == undone["saved_copy"]
    assert "nothing to bring back" in refused(home, AbsentError, "--undo")
    assert dialects.kept(home.store) == ()
    assert {path.name for path in home.folder.iterdir()} <= {"artifacts", "store"}
    assert (dialects.digests(home.store), home.files()) == before


def test_an_undo_can_be_taken_back_and_is_not_made_twice_unasked(here: Any, pilot: Any) -> None:
    work_on(here, pilot)
    first = here.restore("--replace")["saved_copy"]
    later = work_on(here, pilot)
    second = here.restore("--replace")["saved_copy"]
    undone = here.restore("--undo")["saved_copy"]
    assert (dialects.digests(here.store), here.files()) == later
    told = refused(here, AbsentError, "--undo")
    assert "is undone already" in told
    assert f"--saved {undone}; to go back further, name one of {first}" in told
    assert second not in told

    again = here.restore("--undo", "--saved", undone)
    assert again["restored_copy"] == undone
    assert is_identical(here, pilot)
    assert here.restore("--undo", "--dry-run", "--saved", first)["would_restore"] == first
    here.restore("--undo", "--saved", again["saved_copy"])
    assert (dialects.digests(here.store), here.files()) == later
    assert "there are: " in refused(here, AbsentError, "--undo", "--saved", "kept_20200101_000000_000000")


def test_an_undo_does_not_leave_a_server_without_data(here: Any, pilot: Any, tmp_path: Path) -> None:
    """What was restored into another, empty database, with the artifacts kept aside."""
    before = work_on(here, pilot)
    uri = f"sqlite:///{tmp_path}/elsewhere/mydb.sqlite"
    moved = dataclasses.replace(here, uri=uri)
    kept = moved.restore("--replace")["saved_copy"]
    assert f"was empty: with what was kept as {kept} no database comes back" in refused(moved, NotEmptyError, "--undo")
    assert "no database comes back" in refused(moved, NotEmptyError, "--undo", "--dry-run")
    assert is_identical(moved, pilot)

    assert here.restore("--undo")["restored_copy"] == kept
    assert (dialects.digests(here.store), here.files()) == before
    assert dialects.digests(moved.store) == pilot.digests


# With the artifacts in place, as when an upgrade goes back


def test_artifacts_that_are_there_stay_and_only_the_database_is_replaced(here: Any, pilot: Any) -> None:
    work_on(here, pilot)
    shutil.copytree(pilot.home.artifacts, here.artifacts, dirs_exist_ok=True)
    before = dialects.digests(here.store), here.files()
    assert before[1].keys() > pilot.files.keys()
    done = here.restore("--replace", "--same-artifacts")
    assert (done["outcome"], done["written_files"], done["artifacts"]) == ("done", 0, len(pilot.files))
    assert (dialects.digests(here.store), here.files()) == (pilot.digests, before[1])
    assert not here.artifacts.with_name(f"artifacts.{done['saved_copy']}").exists()

    undone = here.restore("--undo")
    assert (dialects.digests(here.store), here.files()) == before
    here.restore("--undo", "--saved", undone["saved_copy"])
    assert (dialects.digests(here.store), here.files()) == (pilot.digests, before[1])


@pytest.mark.parametrize("phase", ["save-database", "save-artifacts", "database"])
def test_cut_off_it_goes_on_with_the_artifacts_in_place(phase: str, here: Any, pilot: Any) -> None:
    work_on(here, pilot)
    shutil.copytree(pilot.home.artifacts, here.artifacts, dirs_exist_ok=True)
    before = here.files()
    here.cut_off(phase, "--replace", "--same-artifacts")
    assert here.restore("--replace")["written_files"] == 0
    assert (dialects.digests(here.store), here.files()) == (pilot.digests, before)


def test_artifacts_that_have_changed_are_restored(here: Any, pilot: Any) -> None:
    work_on(here, pilot)
    shutil.copytree(pilot.home.artifacts, here.artifacts, dirs_exist_ok=True)
    changed = next(path for path in here.artifacts.rglob("weights.bin"))
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    before = here.files()
    done = here.restore("--replace", "--same-artifacts")
    assert is_identical(here, pilot)
    assert here.tree(here.artifacts.with_name(f"artifacts.{done['saved_copy']}")) == before


def test_nothing_to_undo(here: Any) -> None:
    assert "nothing to bring back" in refused(here, AbsentError, "--undo")
    here.restore("--replace")  # into an empty place there is nothing to keep
    assert "nothing to bring back" in refused(here, AbsentError, "--undo")


def test_undo_when_somebody_has_removed_what_was_kept(here: Any, pilot: Any) -> None:
    work_on(here, pilot)
    kept = here.restore("--replace")["saved_copy"]
    shutil.rmtree(here.artifacts.with_name(f"artifacts.{kept}"))
    assert f"artifacts of {here.destination}" in refused(here, DamagedError, "--undo")
