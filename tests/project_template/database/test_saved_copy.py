"""Saved copies, scratch databases, and the mark of a server on its database."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from mlflow_ae5_server.common.errors import Configuration, TargetInUse, TargetNotEmpty, Usage
from mlflow_ae5_server.database import dump, load, locks, saved_copy
from mlflow_ae5_server.database.connection import Database, connect_engine
from mlflow_ae5_server.database.contents import DatabaseState

from tests.project_template.database.support import Objects, execute
from tests.project_template.mariadb import with_mysql

DIALECTS = with_mysql("sqlite", "postgresql")


@pytest.fixture(params=DIALECTS)
def database(request: pytest.FixtureRequest, filled: Callable[[str], Database]) -> Database:
    return filled(request.param)


def test_a_saved_copy_is_brought_back(database: Database, native: dict[str, Database]) -> None:
    before, objects = dump.digests(database), Objects()
    part = dump.dump(native["sqlite"], objects)
    assert saved_copy.saved_names(database) == ()
    if database.file is None:
        execute(database, "CREATE TABLE zebra (a int)")
    saved_copy.save_copy(database, "2024-05-06T07-08-09Z-a1b2c3")
    assert saved_copy.saved_names(database) == ("2024-05-06T07-08-09Z-a1b2c3",)
    assert dump.state(database) == DatabaseState("empty", others=("zebra",) if database.file is None else ())

    load.load(part, objects, database)
    assert dump.state(database).others == (("zebra",) if database.file is None else ())
    execute(database, "DELETE FROM tags")
    with pytest.raises(TargetNotEmpty):
        saved_copy.save_copy(database, "2024-05-06T07-08-09Z-a1b2c3")
    saved_copy.bring_back(database, "2024-05-06T07-08-09Z-a1b2c3")
    assert dump.digests(database) == before
    assert saved_copy.saved_names(database) == ()

    saved_copy.save_copy(database, "again")
    saved_copy.drop_saved(database, "again")
    saved_copy.drop_saved(database, "again")
    assert saved_copy.saved_names(database) == ()
    with pytest.raises(Configuration):
        saved_copy.bring_back(database, "again")
    assert dump.state(database).kind == "empty"


def test_numbering_goes_on_after_coming_back(database: Database) -> None:
    saved_copy.save_copy(database, "x")
    saved_copy.bring_back(database, "x")
    execute(database, "INSERT INTO experiments (name, lifecycle_stage, workspace) VALUES ('n', 'active', 'default')")
    with closing(connect_engine(database).connect()) as connection:
        query = "SELECT experiment_id FROM experiments ORDER BY experiment_id"
        numbers = [row[0] for row in connection.exec_driver_sql(query)]
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("name", ["", "../x", 'a"b', "a b", "x" * 41, "-x"])
def test_names_that_could_lead_elsewhere(name: str, native: dict[str, Database]) -> None:
    for database in native.values():
        for act in (saved_copy.save_copy, saved_copy.bring_back, saved_copy.drop_saved):
            with pytest.raises(Usage):
                act(database, name)


def test_a_table_in_use_is_not_moved(native: dict[str, Database], copied: Database) -> None:
    file = copied.file
    assert file is not None
    before = dump.digests(copied)
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("UPDATE runs SET user_id = user_id")
        with pytest.raises(TargetInUse):
            saved_copy.save_copy(copied, "x")
    assert dump.digests(copied) == before
    saved_copy.save_copy(copied, "x")
    saved_copy.bring_back(copied, "x")
    assert dump.digests(copied) == before


def test_a_scratch_database_is_separate_and_removed(database: Database) -> None:
    before, objects = dump.digests(database), Objects()
    part = dump.dump(database, objects)
    with saved_copy.scratch(database) as scratch:
        assert dump.state(scratch) == DatabaseState("empty")
        load.load(part, objects, scratch)
        execute(scratch, "DELETE FROM tags")
        assert dump.digests(scratch) != before
        assert dump.digests(database) == before
        with saved_copy.scratch(database) as second:
            assert dump.state(second).kind == "empty"
            assert dump.state(scratch).kind == "ours"
    assert dump.digests(database) == before
    with saved_copy.scratch(database) as scratch:
        assert dump.state(scratch) == DatabaseState("empty")
    assert dump.state(database).others == ()


def test_a_server_marks_its_database(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGAPPNAME", "")  # put back afterwards
    assert locks.in_use(database) is None
    with locks.serving(database):
        server = locks.in_use(database)
        assert server is not None
        assert "tracking server" in server
        with saved_copy.scratch(database) as scratch:
            assert locks.in_use(scratch) is None
            with locks.serving(scratch):
                assert locks.in_use(scratch) is not None
    assert locks.in_use(database) is None
    assert database.dialect != "postgresql" or os.environ["PGAPPNAME"].startswith("mlflow-ae5-server")
