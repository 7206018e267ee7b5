"""SIGKILL at any point of a restore: never a database without its files, and the same command again completes it.

The points are file operations of the job, spread over all of a run (see killing.py), its first and last among them.
"""

from __future__ import annotations

import resource
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server import database
from mlflow_ae5_server.errors import StorageError
from mlflow_ae5_server.snapshot import dump, recover_ledger
from mlflow_ae5_server.snapshot.repository import open_repository

from tests.project_template.snapshot.recover import killing

COUNT = {"sqlite": 10, "postgresql": 2}


def moments(events: int, dialect: str) -> list[int]:
    """For PostgreSQL, where each takes seconds, two in the middle."""
    if dialect == "postgresql":
        return [events // 3, 4 * events // 5]
    return killing.points(events, COUNT[dialect])


@pytest.fixture(params=["sqlite", "postgresql"])
def homes(request: pytest.FixtureRequest, tmp_path: Path, home_at: Any, pilot: Any) -> Callable[[], Any]:
    """Makes one empty home after another."""
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else None

    def make() -> Any:
        name = f"k{uuid.uuid4().hex[:12]}"
        return home_at(tmp_path / name, pilot.home.backups, postgres.create(name) if postgres else "")

    return make


def facts(home: Any) -> tuple[object, object]:
    """Digests of the tables, None where there are none, and of the files."""
    return None if dump.state(home.store).kind == "empty" else dump.digests(home.store), home.files()


def is_identical(home: Any, pilot: Any) -> bool:
    return facts(home) == (pilot.digests, pilot.files)


def load(home: Any, pilot: Any) -> tuple[object, object]:
    """Other data in a home, quickly; its digests."""
    from sqlalchemy import text

    home.store_folder()
    part = dump.DatabasePart.from_json(pilot.snapshot.database)
    dump.load(part, open_repository(home.backups).reader(), home.store)
    with database.connect_engine(home.store).begin() as connection:
        connection.execute(text("UPDATE runs SET name = 'before'"))
    for number in range(3):
        (home.artifacts / str(number)).mkdir(parents=True)
        (home.artifacts / str(number) / "precious").write_text("x" * number)
    return dump.digests(home.store), home.files()


def events_of(work: Callable[[], object]) -> int:
    signal, events = killing.run(work)
    assert signal == 0
    return events


def test_restore(homes: Callable[[], Any], pilot: Any) -> None:
    first = homes()
    events = events_of(lambda: first.restore("--snapshot", "latest"))
    killed = 0
    for at in moments(events, first.store.dialect):
        home = homes()
        killed += killing.run(lambda home=home: home.restore("--snapshot", "latest"), at)[0] != 0
        if dump.state(home.store).kind != "empty":
            assert home.files() == pilot.files, at
        if home.unfinished() or not is_identical(home, pilot):
            done = home.restore("--snapshot", "latest")
            assert (done["artifacts_identical"], done["database_identical"]) == (True, True), at
        assert is_identical(home, pilot), at
        assert not home.unfinished(), at
    assert killed >= COUNT[first.store.dialect] - 1  # one run has a few more events than another


def test_replace_and_undo(homes: Callable[[], Any], pilot: Any) -> None:
    first = homes()
    load(first, pilot)
    events = events_of(lambda: first.restore("--replace"))
    undo_events = events_of(lambda: first.restore("--undo"))
    dialect = first.store.dialect
    pairs = zip(moments(events, dialect), moments(undo_events, dialect), strict=False)
    for number, (at, undo_at) in enumerate(pairs):
        home = homes()
        before = load(home, pilot)
        killing.run(lambda home=home: home.restore("--replace"), at)
        assert_nothing_lost(home, before, at)
        kept = recover_ledger.Book(home.place()).last_kept()
        if number % 2 or kept is None:  # else back from where the kill has left it
            if home.unfinished() or not is_identical(home, pilot):
                home.restore("--replace")
            assert is_identical(home, pilot), at
        killing.run(lambda home=home: home.restore("--undo"), undo_at)
        assert_nothing_lost(home, before, undo_at)
        if home.unfinished() or facts(home) != before:
            home.restore("--undo")
        assert facts(home) == before, (at, undo_at)
        assert not home.unfinished(), (at, undo_at)


def assert_nothing_lost(home: Any, before: tuple[object, Any], at: int) -> None:
    """The files that were there are there, or aside, or some here and some there; and so are the tables."""
    found = home.files()
    for aside in home.folder.glob("artifacts.kept_*"):
        found |= home.tree(aside) if aside.is_dir() else {}
    assert before[1].items() <= found.items(), at
    assert dump.state(home.store).kind != "empty" or dump.kept(home.store), at


def test_the_upgrade_of_an_older_schema(tmp_path: Path, home_at: Any, older: Any, take: Any) -> None:
    source = older(tmp_path / "old")
    take(source)

    for later in (40,):  # events after the upgrade has begun
        home = home_at(tmp_path / str(later), source.backups)
        seen: list[int] = []

        def when(home: Any = home, seen: list[int] = seen, later: int = later) -> bool:
            if home.phase() == "upgrade":
                seen.append(1)
            return len(seen) == later

        assert killing.run(lambda home=home: home.restore("--snapshot", "latest"), when=when)[0]
        done = home.restore("--snapshot", "latest")
        schema = database.inspect_schema(database.connect_engine(home.store))
        assert (schema.state, done["upgraded"]["to"]) == ("current", schema.expected)
        assert done["database_identical"] in {True, None}
        assert not home.unfinished()


def test_a_full_disk_is_named_and_gone_on_from(tmp_path: Path, home_at: Any, pilot: Any) -> None:
    home = home_at(tmp_path / "home", pilot.home.backups)

    def in_little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # no file may grow beyond
        with pytest.raises(StorageError, match=r"cannot write .*weights\.bin.* in .*: file too large"):
            home.restore("--snapshot", "latest")

    assert killing.run(in_little_room)[0] == 0
    assert dump.state(home.store).kind == "empty"
    assert home.unfinished()
    done = home.restore("--snapshot", "latest")
    assert 0 < done["written_files"] <= done["artifacts"]
    assert is_identical(home, pilot)
