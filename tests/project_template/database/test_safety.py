"""All or nothing, whatever goes wrong; nothing of others is touched."""

from __future__ import annotations

import re
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import (
    Configuration,
    LoginFailed,
    SchemaMismatch,
    SnapshotDamaged,
    TargetNotEmpty,
    Unreachable,
)
from mlflow_ae5_server.database import dump, load, locks, saved_copy, sqlite_file
from mlflow_ae5_server.database.connection import Database, check_uri
from mlflow_ae5_server.database.contents import DatabasePart, DatabaseState

from tests.project_template.database.support import Objects, execute, sqlite_database
from tests.project_template.mariadb import needed, with_mysql

DIALECTS = with_mysql("sqlite", "postgresql")


@pytest.mark.parametrize(
    ("dialect", "mode"),
    [("sqlite", "delete"), ("sqlite", "wal"), ("postgresql", ""), pytest.param("mysql", "", marks=needed)],
)
def test_a_snapshot_is_of_one_moment(
    dialect: str, mode: str, native: dict[str, Database], filled: Callable[[str], Database]
) -> None:
    """Each transaction of the writer adds a row to two tables; a snapshot between the two would show."""
    objects, database = Objects(), filled(dialect)
    if database.file is not None:
        with closing(sqlite3.connect(database.file)) as connection:
            assert connection.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode,)
    run, key = "SELECT min(run_uuid) FROM runs", '"key"'
    stop, started = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            execute_together(
                database,
                f"INSERT INTO tags ({key}, value, run_uuid) SELECT 'w{number}', 'x', ({run})",
                f"INSERT INTO params ({key}, value, run_uuid) SELECT 'w{number}', 'x', ({run})",
            )
            number += 1
            started.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        started.wait(10)
        parts = [dump.dump(database, objects) for _ in range(3)]
    finally:
        stop.set()
        writer.join()
    before = dump.dump(native[dialect], objects).digests()
    grown = [[part.digests()[table][0] - before[table][0] for table in ("tags", "params")] for part in parts]
    assert all(tags == params for tags, params in grown), grown
    assert grown[-1][0] > 0


def test_page_by_page_is_the_same(copied: Database, tmp_path: Path) -> None:
    assert copied.file is not None
    backup, file = dump.digests(copied), tmp_path / "pages.sqlite"
    sqlite_file.page_by_page(copied.file, file)
    assert dump.digests(sqlite_database(file)) == backup


def test_what_a_killed_writer_left_half_done_is_not_in_the_snapshot(copied: Database, tmp_path: Path) -> None:
    before = dump.digests(copied)
    assert copied.file is not None
    with closing(sqlite3.connect(copied.file)) as writer:
        writer.execute("PRAGMA cache_size = 1")  # it writes into the file before it commits
        writer.execute("PRAGMA cache_spill = 1")
        writer.execute("UPDATE spans SET content = content || replace(hex(zeroblob(200000)), '0', 'x')")
        writer.execute("DELETE FROM tags")
        torn = tmp_path / "torn.sqlite"
        for side in ("", "-journal"):  # as the disk looks when the writer is killed now
            shutil.copy(f"{copied.file}{side}", f"{torn}{side}")
    assert torn.read_bytes() != copied.file.read_bytes()
    assert dump.dump(sqlite_database(torn), Objects()).digests() == before


def execute_together(database: Database, *statements: str) -> None:
    if database.file is not None:
        with closing(sqlite3.connect(database.file, timeout=30)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()
    elif database.dialect == "mysql":
        execute(database, *statements)  # each call is a transaction
    else:
        execute(database, "; ".join(statements))


def test_an_unchanged_sqlite_database_adds_no_objects(copied: Database) -> None:
    objects = Objects()
    first = dump.dump(copied, objects)
    kept = set(objects.kept)
    assert set(first.objects()) == kept
    assert dump.dump(copied, objects) == first
    assert set(objects.kept) == kept


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("sqlite", "sqlite"),
        ("sqlite", "postgresql"),
        ("postgresql", "postgresql"),
        pytest.param("postgresql", "mysql", marks=needed),
    ],
)
def test_a_missing_object_leaves_the_target_empty(
    source: str, target: str, native: dict[str, Database], empty: Callable[[str], Database]
) -> None:
    objects, database = Objects(), empty(target)
    part = dump.dump(native[source], objects)
    del objects.kept[list(part.objects())[-1]]
    with pytest.raises(SnapshotDamaged, match="is missing"):
        load.load(part, objects, database)
    assert dump.state(database) == DatabaseState("empty")
    assert database.file is None or not list(database.file.parent.glob(".mlflow-ae5-work-*"))


def test_a_database_that_vanishes_half_way(
    native: dict[str, Database], empty: Callable[[str], Database], filled: Callable[[str], Database]
) -> None:
    kill = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND application_name = 'mlflow-ae5-maintenance'"
    )
    database = empty("postgresql")
    objects = Objects()
    part = dump.dump(native["postgresql"], objects)
    objects.on_call = lambda number: execute(database, kill) if number == objects_before + 5 else None
    objects_before = objects.calls
    with pytest.raises(Unreachable, match="was lost"):
        load.load(part, objects, database)
    assert dump.state(database) == DatabaseState("empty")

    full = filled("postgresql")
    failing = Objects(lambda number: execute(full, kill) if number == 5 else None)
    with pytest.raises(Unreachable):
        dump.dump(full, failing)


def test_a_database_that_is_not_there(native: dict[str, Database], empty: Callable[[str], Database]) -> None:
    objects = Objects()
    part = dump.dump(native["sqlite"], objects)
    nowhere = check_uri("postgresql://u:p4ss@127.0.0.1:1/d")
    for act in (
        lambda: dump.dump(nowhere, objects),
        lambda: load.load(part, objects, nowhere),
        lambda: dump.state(nowhere),
        lambda: dump.digests(nowhere),
        lambda: locks.in_use(nowhere),
        lambda: saved_copy.save_copy(nowhere, "x"),
    ):
        with pytest.raises(Unreachable) as caught:
            act()
        assert "p4ss" not in str(caught.value)
    with pytest.raises(Unreachable, match="there is no database file"):
        dump.dump(empty("sqlite"), objects)


def test_a_user_without_rights(native: dict[str, Database], postgres: Any) -> None:
    postgres.sql("CREATE DATABASE foreign_owner")  # of the administrator; nobody else may create in its schema
    objects = Objects()
    with pytest.raises(LoginFailed, match="lacks a right"):
        load.load(dump.dump(native["sqlite"], objects), objects, check_uri(postgres.uri("foreign_owner")))
    with pytest.raises(LoginFailed, match="refused the login"):
        dump.state(check_uri(postgres.uri("foreign_owner", "wrong")))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_newer_schema_is_refused_by_name_before_anything_is_touched(
    dialect: str, copied: Database, filled: Callable[[str], Database], empty: Callable[[str], Database]
) -> None:
    objects, target = Objects(), empty(dialect)
    part = dump.dump(copied, objects)
    calls = objects.calls
    with pytest.raises(SchemaMismatch, match="ffffffffffff"):
        load.load(replace(part, revision="ffffffffffff"), objects, target)
    assert objects.calls == calls
    assert dump.state(target) == DatabaseState("empty")
    target = filled(dialect)
    execute(target, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(SchemaMismatch, match="ffffffffffff"):
        dump.dump(target, objects)
    assert dump.state(target).kind == "foreign"


REFUSED = [
    ("tags SET value = 'a' || char(0) || 'b' WHERE key = 't1'", "tags.value holds the character NUL.*key='t1'"),
    ("params SET value = replace(hex(zeroblob(4001)), '0', 'x')", "params.value is longer than 8000 characters"),
    ("experiment_tags SET value = x'ff'", "experiment_tags.value holds bytes that are no text"),
    ("model_versions SET version = 3000000000 WHERE version = 2", "model_versions.version is too large"),
    ("assessments SET valid = 2", "assessments.valid is neither true nor false"),
    ("runs SET start_time = 'noon'", "runs.start_time is not a whole number.*run_uuid="),
]


def test_values_that_postgresql_refuses_are_named_before_anything_is_written(
    copied: Database, empty: Callable[[str], Database], untouched: Database
) -> None:
    execute(copied, "PRAGMA ignore_check_constraints = ON", *(f"UPDATE {change}" for change, _ in REFUSED))
    objects, target, same = Objects(), untouched, empty("sqlite")
    part = dump.dump(copied, objects)
    refused = [str(item) for item in load.refused(part, objects, target)]
    assert [words for _, words in REFUSED if not any(re.match(words, item) for item in refused)] == []
    with pytest.raises(Configuration, match=rf"cannot store {len(refused)} values of the snapshot: .*; and \d+ more"):
        load.load(part, objects, target)
    assert dump.state(target) == DatabaseState("empty")
    load.load(part, objects, same)
    assert dump.digests(same) == part.digests()


def test_text_that_is_no_utf8_is_kept_in_sqlite(
    copied: Database, empty: Callable[[str], Database], untouched: Database
) -> None:
    execute(copied, "UPDATE tags SET value = CAST(x'ff41' AS TEXT) WHERE key = 't1'")
    objects, same = Objects(), empty("sqlite")
    part = dump.dump(copied, objects)
    load.load(part, objects, same)
    assert dump.digests(same) == part.digests()
    with pytest.raises(Configuration, match="UTF-8"):
        load.load(part, objects, untouched)
    assert dump.state(untouched) == DatabaseState("empty")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_other_tables_are_named_and_left_alone(
    dialect: str, native: dict[str, Database], filled: Callable[[str], Database]
) -> None:
    """That a database can be loaded into with such a table in it is tested in test_saved_copy.py."""
    objects, database = Objects(), filled(dialect)
    execute(database, "CREATE TABLE zebra (a int)", "CREATE VIEW aview AS SELECT name FROM runs")
    with_others = dump.dump(database, objects)
    assert with_others.others == ("aview", "zebra")
    assert with_others.digests() == dump.digests(native[dialect])
    assert dump.state(database).others == ("aview", "zebra")
    assert dump.state(database).kind == "ours"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_target_that_holds_something_is_refused(dialect: str, filled: Callable[[str], Database]) -> None:
    objects, target = Objects(), filled(dialect)
    part = dump.dump(target, objects)
    with pytest.raises(TargetNotEmpty, match="is not empty"):
        load.load(part, objects, target)
    assert dump.digests(target) == part.digests()


def test_files_that_are_no_databases(native: dict[str, Database], empty: Callable[[str], Database]) -> None:
    objects, text, orphan = Objects(), empty("sqlite"), empty("sqlite")
    part = dump.dump(native["sqlite"], objects)
    assert text.file is not None
    assert orphan.file is not None
    text.file.write_text("not a database, but long enough to have a header" * 10)
    orphan.file.with_name(orphan.file.name + "-wal").write_bytes(b"changes to a file that is gone")
    for target in (text, orphan):
        assert dump.state(target).kind == "foreign"
        with pytest.raises(TargetNotEmpty):
            load.load(part, objects, target)
    with pytest.raises(SnapshotDamaged, match="not a valid SQLite database"):
        dump.dump(text, objects)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("revision"),
        lambda data: data.update(extra=1),
        lambda data: data.update(dialect="oracle"),
        lambda data: data.update(tables={}),
        lambda data: data.update(file=[]),
        lambda data: data.update(file=["nonsense"]),
        lambda data: data["tables"][0].update(rows=-1),
        lambda data: data["tables"][0].update(rows=True),
        lambda data: data["tables"][0].update(digest="x" * 64),
        lambda data: data["tables"].append(data["tables"][0]),
    ],
)
def test_a_description_that_makes_no_sense(
    damage: Callable[[dict[str, Any]], Any], native: dict[str, Database]
) -> None:
    data = dump.dump(native["sqlite"], Objects()).to_json()
    assert DatabasePart.from_json(data).to_json() == data
    damage(data)
    with pytest.raises(SnapshotDamaged, match="is malformed"):
        DatabasePart.from_json(data)


def test_a_snapshot_that_lacks_a_table(native: dict[str, Database], empty: Callable[[str], Database]) -> None:
    objects, target = Objects(), empty("sqlite")
    part = dump.dump(native["postgresql"], objects)
    with pytest.raises(SnapshotDamaged, match="assessments"):
        load.load(replace(part, tables=tuple(t for t in part.tables if t.name != "assessments")), objects, target)
    assert dump.state(target).kind == "empty"
