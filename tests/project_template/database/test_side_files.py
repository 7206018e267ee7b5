"""What lies beside a SQLite file: an empty journal is nothing, a hot one is brought in, a writer is left alone."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow_ae5_server.common.errors import TargetInUse
from mlflow_ae5_server.database import dump, saved_copy, sqlite_file
from mlflow_ae5_server.database.connection import Database, check_uri


@pytest.fixture
def store(tmp_path: Path) -> Database:
    with closing(sqlite3.connect(tmp_path / "db.sqlite")) as connection:
        connection.execute("CREATE TABLE t (a INTEGER, b BLOB)")
        connection.executemany("INSERT INTO t VALUES (?, randomblob(2000))", [(n,) for n in range(200)])
        connection.commit()
    return check_uri(f"sqlite:///{tmp_path / 'db.sqlite'}")


def file_of(store: Database) -> Path:
    assert store.file is not None
    return store.file


def journal(store: Database) -> Path:
    return file_of(store).with_name("db.sqlite-journal")


def total(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        return int(connection.execute("SELECT sum(a) FROM t").fetchone()[0])


def sides(store: Database) -> list[str]:
    file = file_of(store)
    return [side for side in sqlite_file.SIDE_FILES if file.with_name(file.name + side).exists()]


def moved(store: Database) -> Path:
    saved_copy.save_copy(store, "x")
    assert not file_of(store).exists()
    assert sides(store) == []
    (kept,) = file_of(store).parent.glob("*mlflow_ae5_saved_x")
    return kept


@pytest.mark.parametrize("mode", ["TRUNCATE", "PERSIST"])
def test_a_journal_left_for_the_next_writer_is_no_use(store: Database, mode: str) -> None:
    with closing(sqlite3.connect(file_of(store))) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("UPDATE t SET a = a + 1")
        connection.commit()
    assert journal(store).exists()
    before = journal(store).read_bytes()
    saved_copy.require_free(store)
    assert journal(store).read_bytes() == before, "a look changes nothing"
    assert total(moved(store)) == sum(range(200)) + 200
    saved_copy.bring_back(store, "x")
    assert total(file_of(store)) == sum(range(200)) + 200


def test_an_empty_journal_without_its_database_is_nothing(store: Database) -> None:
    file_of(store).unlink()
    journal(store).touch()
    assert dump.state(store).kind == "empty"
    journal(store).write_bytes(b"x" * 1000)
    assert dump.state(store).kind == "foreign"


def writing(store: Database) -> int:
    """A process in the middle of a change that has reached the file already; its id."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        connection = sqlite3.connect(file_of(store), isolation_level=None)
        connection.execute("PRAGMA cache_size=1")
        connection.execute("BEGIN")
        connection.execute("UPDATE t SET a = a + 1, b = randomblob(2000)")
        os.write(write, b"x")
        signal.pause()
    os.read(read, 1)
    for end in (read, write):
        os.close(end)
    return child


def test_an_interrupted_change_is_undone_and_a_running_one_left_alone(store: Database) -> None:
    child = writing(store)
    try:
        assert journal(store).stat().st_size > 0
        for act in (saved_copy.require_free, lambda store: saved_copy.save_copy(store, "x")):
            with pytest.raises(TargetInUse, match="in use"):
                act(store)
        assert (file_of(store).exists(), journal(store).exists()) == (True, True)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert journal(store).stat().st_size > 0, "hot"
    saved_copy.require_free(store)
    assert total(moved(store)) == sum(range(200))


def test_a_writer_that_has_not_written_yet_holds_the_file(store: Database) -> None:
    with closing(sqlite3.connect(file_of(store), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for act in (saved_copy.require_free, saved_copy.settle):
            with pytest.raises(TargetInUse, match="holds a lock"):
                act(store)
        other.execute("ROLLBACK")
    saved_copy.settle(store)


def test_a_log_that_a_crash_left_is_brought_in(store: Database) -> None:
    child = os.fork()
    if child == 0:
        connection = sqlite3.connect(file_of(store), isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("UPDATE t SET a = a + 1")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert "-wal" in sides(store)
    saved_copy.require_free(store)
    assert total(moved(store)) == sum(range(200)) + 200


def test_what_is_no_database_is_moved_as_it_is(store: Database) -> None:
    file_of(store).write_bytes(b"rubbish" * 1000)
    saved_copy.require_free(store)
    assert moved(store).read_bytes() == b"rubbish" * 1000
