"""SIGKILL at any point of a restore: never a database without its files, and the same command again completes it.

The points are file operations of the job (see killing.py): its first and last, and one in the middle of each step.
"""

from __future__ import annotations

import itertools
import resource
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import RepositoryFailed
from mlflow_ae5_server.database import dump, saved_copy
from mlflow_ae5_server.database.connection import connect_engine
from mlflow_ae5_server.database.schema import inspect_schema
from mlflow_ae5_server.restore import journal

from tests.project_template.restore import killing


@dataclass(frozen=True)
class Moment:
    """When a restore is killed: at its event number `at`, at number `later` of a step, or after opening a file."""

    at: int | None = None
    step: str = ""
    later: int = 1
    after: str = ""

    def kill(self, home: Any, *words: str) -> bool:
        """Whether there was such a moment."""
        events = itertools.count(1)

        def when() -> bool:
            return self.step != "" and home.step() == self.step and next(events) == self.later

        return killing.run(lambda: home.restore(*words), self.at, when, self.after)[0] != 0


# For PostgreSQL: in the transaction, between the tables and their rows; and while tables are moved.
IN_POSTGRESQL = {"--undo": Moment(step="bring-back-database")}
LOADING = Moment(after="pinned_schema.postgresql.sql")


def moments(home: Any, word: str) -> list[Moment]:
    """The first event, one in the middle of each step, and one of the last; of a restore that is done, to see them."""
    if home.store.dialect == "postgresql":
        return [IN_POSTGRESQL.get(word, LOADING)]
    file = home.folder.with_name(f"{home.folder.name}.steps")

    def note() -> bool:
        with file.open("a") as stream:
            stream.write(f"{home.step()}\n")
        return False

    assert killing.run(lambda: home.restore(word), when=note)[0] == 0
    steps = file.read_text().splitlines()
    events = {step: [number for number, other in enumerate(steps, 1) if other == step] for step in steps}
    middles = {numbers[len(numbers) // 2] for numbers in events.values()}
    # A few events from the end: two threads may be at one at a time, which is then counted as one.
    return [Moment(at) for at in sorted({1, *middles, len(steps) - 5})]


@pytest.fixture(params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def homes(
    dialect: str, request: pytest.FixtureRequest, tmp_path: Path, home_at: Any, pilot: Any
) -> Callable[[bool], Any]:
    """Makes one home after another; with other data in it where it is to be `filled`."""
    made = itertools.count()

    if dialect == "sqlite":  # what this process has imported, no fork of it opens: the events are the same every time
        home_at(tmp_path / "warm", pilot.home.backups).restore()

    def make(filled: bool = False) -> Any:
        uri = ""
        if dialect == "postgresql" and filled:
            uri = request.getfixturevalue("filled_uri")()
        elif dialect == "postgresql":
            uri = request.getfixturevalue("postgres").create(f"k{uuid.uuid4().hex[:12]}")
        home = home_at(tmp_path / str(next(made)), pilot.home.backups, uri)
        if filled:
            fill(home, pilot)
        return home

    return make


def fields(home: Any) -> tuple[object, object]:
    """Digests of the tables, None where there are none, and of the files."""
    return None if dump.state(home.store).kind == "empty" else dump.digests(home.store), home.files()


def is_identical(home: Any, pilot: Any) -> bool:
    return fields(home) == (pilot.digests, pilot.files)


def fill(home: Any, pilot: Any) -> None:
    """Other data in a home, quickly."""
    from sqlalchemy import text

    home.store_folder()
    if home.store.dialect == "sqlite":
        shutil.copy(pilot.home.store.file, home.store.file)
    with connect_engine(home.store).begin() as connection:
        connection.execute(text("UPDATE runs SET name = 'before'"))
    for number in range(3):
        (home.artifacts / str(number)).mkdir(parents=True)
        (home.artifacts / str(number) / "precious").write_text("x" * number)


def test_restore(homes: Callable[..., Any], pilot: Any) -> None:
    for moment in moments(homes(), "--snapshot=latest"):
        home = homes()
        assert moment.kill(home, "--snapshot=latest"), moment
        if dump.state(home.store).kind != "empty":
            assert home.files() == pilot.files, moment
        if home.interrupted() or not is_identical(home, pilot):
            done = home.restore("--snapshot", "latest")
            assert (done["artifacts_identical"], done["database_identical"]) == (True, True), moment
        assert is_identical(home, pilot), moment
        assert not home.interrupted(), moment


def test_replace_and_undo(homes: Callable[..., Any], pilot: Any) -> None:
    first = homes(True)
    replaces, undos = moments(first, "--replace"), moments(first, "--undo")
    for number, (moment, undo) in enumerate(itertools.zip_longest(replaces, undos)):
        home = homes(True)
        before = fields(home)
        if moment is not None:
            assert moment.kill(home, "--replace"), moment
            assert_nothing_lost(home, before, moment)
        copy = journal.RestoreJournalFile(home.saved_copies()).last_saved()
        if (
            moment is None or number % 2 or copy is None or not copy.name.startswith("saved_")
        ):  # else back from where the kill has left it
            if home.interrupted() or not is_identical(home, pilot):
                home.restore("--replace")
            assert is_identical(home, pilot), moment
        if undo is not None:
            undo.kill(home, "--undo")
            assert_nothing_lost(home, before, undo)
        if home.interrupted() or fields(home) != before:
            home.restore("--undo")
        assert fields(home) == before, (moment, undo)
        assert not home.interrupted(), (moment, undo)


def test_a_saved_copy_is_listed_before_it_is_made(tmp_path: Path, home_at: Any, pilot: Any) -> None:
    from sqlalchemy import text

    home = home_at(tmp_path / "home", pilot.home.backups)

    def is_loaded() -> bool:
        return home.step() == "load-database" and dump.state(home.store).kind != "empty"

    assert killing.run(lambda: home.restore("--snapshot", "latest"), when=is_loaded)[0] != 0
    with connect_engine(home.store).begin() as connection:
        connection.execute(text("UPDATE runs SET name = 'written since'"))

    assert killing.run(lambda: home.restore("--replace"), when=lambda: is_unlisted(home))[0] == 0
    assert [name[:7] for name in saved_copy.saved_names(home.store)] == ["failed_"]


def test_a_saved_copy_of_an_undo_is_listed_before_it_is_made(tmp_path: Path, home_at: Any, pilot: Any) -> None:
    home = home_at(tmp_path / "home", pilot.home.backups)
    fill(home, pilot)
    before = fields(home)
    home.restore("--replace")
    assert Moment(step="bring-back-database").kill(home, "--undo")
    shutil.copy(pilot.home.store.file, home.store.file)  # written since

    assert killing.run(lambda: home.restore("--undo"), when=lambda: is_unlisted(home))[0] == 0
    assert fields(home) == before
    assert sorted(name[:7] for name in saved_copy.saved_names(home.store)) == ["failed_", "undone_"]


def is_unlisted(home: Any) -> bool:
    """Whether there is a saved copy that the journal does not list."""
    listed = {copy.name for copy in journal.RestoreJournalFile(home.saved_copies()).saved}
    return not set(saved_copy.saved_names(home.store)) <= listed


def assert_nothing_lost(home: Any, before: tuple[object, Any], at: Moment) -> None:
    """The files that were there are there or in a saved copy, also some here and some there; so are the tables."""
    found = home.files()
    for copy in home.folder.glob("artifacts.saved_*"):
        found |= home.tree(copy) if copy.is_dir() else {}
    assert before[1].items() <= found.items(), at
    assert dump.state(home.store).kind != "empty" or saved_copy.saved_names(home.store), at


def test_the_upgrade_of_an_older_schema(tmp_path: Path, home_at: Any, older: Any, take: Any) -> None:
    source = older(tmp_path / "old")
    take(source)

    home = home_at(tmp_path / "home", source.backups)
    assert Moment(step="upgrade-schema", later=40).kill(home, "--snapshot", "latest")
    done = home.restore("--snapshot", "latest")
    schema = inspect_schema(connect_engine(home.store))
    assert (schema.state, done["upgraded"]["new_revision"]) == ("current", schema.expected)
    assert done["database_identical"] in {True, None}
    assert not home.interrupted()


def test_a_restore_resumes_after_a_full_disk(tmp_path: Path, home_at: Any, pilot: Any) -> None:
    home = home_at(tmp_path / "home", pilot.home.backups)

    def in_little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_400_000, 1_400_000))  # less than the largest artifact
        with pytest.raises(RepositoryFailed, match=r"cannot write .*weights\.bin.* in .*: file too large"):
            home.restore("--snapshot", "latest")

    assert killing.run(in_little_room)[0] == 0
    assert dump.state(home.store).kind == "empty"
    assert home.interrupted()
    done = home.restore("--snapshot", "latest")
    assert 0 < done["written_files"] <= done["artifacts"]
    assert is_identical(home, pilot)
