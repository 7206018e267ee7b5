"""Kept aside and brought back, scratch places, and who is at work on a database."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from mlflow_ae5_server import presence
from mlflow_ae5_server.database import Database, connect_engine
from mlflow_ae5_server.errors import ConfigurationError, InUseError, NotEmptyError, UsageError
from mlflow_ae5_server.snapshot import dump

from tests.project_template.mariadb import with_mysql
from tests.project_template.snapshot.dump.support import Objects, execute

DIALECTS = with_mysql("sqlite", "postgresql")


@pytest.fixture(params=DIALECTS)
def database(request: pytest.FixtureRequest, filled: Callable[[str], Database]) -> Database:
    return filled(request.param)


def test_kept_aside_and_brought_back(database: Database, native: dict[str, Database]) -> None:
    before, objects = dump.digests(database), Objects()
    part = dump.dump(native["sqlite"], objects)
    assert dump.kept(database) == ()
    if database.file is None:
        execute(database, "CREATE TABLE zebra (a int)")
    dump.keep_aside(database, "2024-05-06T07-08-09Z-a1b2c3")
    assert dump.kept(database) == ("2024-05-06T07-08-09Z-a1b2c3",)
    assert dump.state(database) == dump.State("empty", others=("zebra",) if database.file is None else ())

    dump.load(part, objects, database)
    assert dump.state(database).others == (("zebra",) if database.file is None else ())
    execute(database, "DELETE FROM tags")
    with pytest.raises(NotEmptyError):
        dump.keep_aside(database, "2024-05-06T07-08-09Z-a1b2c3")
    dump.bring_back(database, "2024-05-06T07-08-09Z-a1b2c3")
    assert dump.digests(database) == before
    assert dump.kept(database) == ()

    dump.keep_aside(database, "again")
    dump.drop_kept(database, "again")
    dump.drop_kept(database, "again")
    assert dump.kept(database) == ()
    with pytest.raises(ConfigurationError):
        dump.bring_back(database, "again")
    assert dump.state(database).kind == "empty"


def test_numbering_goes_on_after_coming_back(database: Database) -> None:
    dump.keep_aside(database, "x")
    dump.bring_back(database, "x")
    execute(database, "INSERT INTO experiments (name, lifecycle_stage, workspace) VALUES ('n', 'active', 'default')")
    with closing(connect_engine(database).connect()) as connection:
        query = "SELECT experiment_id FROM experiments ORDER BY experiment_id"
        numbers = [row[0] for row in connection.exec_driver_sql(query)]
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("name", ["", "../x", 'a"b', "a b", "x" * 41, "-x"])
def test_names_that_could_lead_elsewhere(name: str, native: dict[str, Database]) -> None:
    for database in native.values():
        for act in (dump.keep_aside, dump.bring_back, dump.drop_kept):
            with pytest.raises(UsageError):
                act(database, name)


def test_a_table_in_use_is_not_moved(native: dict[str, Database], copied: Database) -> None:
    file = copied.file
    assert file is not None
    before = dump.digests(copied)
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("UPDATE runs SET user_id = user_id")
        with pytest.raises(InUseError):
            dump.keep_aside(copied, "x")
    assert dump.digests(copied) == before
    dump.keep_aside(copied, "x")
    dump.bring_back(copied, "x")
    assert dump.digests(copied) == before


def test_a_scratch_place_is_apart_and_goes_away(database: Database) -> None:
    before, objects = dump.digests(database), Objects()
    part = dump.dump(database, objects)
    with dump.scratch(database) as place:
        assert dump.state(place) == dump.State("empty")
        dump.load(part, objects, place)
        execute(place, "DELETE FROM tags")
        assert dump.digests(place) != before
        assert dump.digests(database) == before
        with dump.scratch(database) as second:
            assert dump.state(second).kind == "empty"
            assert dump.state(place).kind == "ours"
    assert dump.digests(database) == before
    with dump.scratch(database) as place:
        assert dump.state(place) == dump.State("empty")
    assert dump.state(database).others == ()


def test_a_server_is_known_by_its_mark(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGAPPNAME", "")  # put back afterwards
    assert dump.in_use(database) is None
    with presence.serving(database):
        told = dump.in_use(database)
        assert told is not None
        assert "tracking server" in told
        with dump.scratch(database) as place:
            assert dump.in_use(place) is None
            with presence.serving(place):
                assert dump.in_use(place) is not None
    assert dump.in_use(database) is None
    assert database.dialect != "postgresql" or os.environ["PGAPPNAME"].startswith("mlflow-ae5-server")
