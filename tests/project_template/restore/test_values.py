"""Values that SQLite holds and another kind of database refuses are all listed before anything is moved."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import uuid
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import Configuration
from mlflow_ae5_server.database import dump, load, saved_copy
from mlflow_ae5_server.database.connection import connect_engine
from mlflow_ae5_server.database.contents import DatabasePart
from mlflow_ae5_server.repository.repository import open_repository

from tests.project_template.mariadb import needed, with_mysql
from tests.project_template.restore.restoring import is_identical, refused, work_on

PG, MYSQL = "postgresql", "mysql"
BOTH = (PG, MYSQL)
MODEL = "INSERT INTO registered_models (name, workspace) VALUES ({}, 'default')"
EXPERIMENT = (
    "INSERT INTO experiments (experiment_id, name, artifact_location, workspace, lifecycle_stage) "
    "VALUES ({}, {}, {}, 'default', 'active')"
)


def text(length: int, letter: str = "x") -> str:
    return f"printf('%.*c', {length}, '{letter}')"


def set_to(column: str, value: str, where: str = "true") -> str:
    table, _, name = column.partition(".")
    return f"UPDATE {table} SET {name} = {value} WHERE {where}"  # noqa: S608


def note_of(number: int) -> str:
    """The tag of one of the six runs."""
    return f"key = 'note' AND run_uuid = (SELECT run_uuid FROM runs ORDER BY run_uuid LIMIT 1 OFFSET {number})"  # noqa: S608


# statement; refused by; table.column; length, limit; whether it is free text
Row = tuple[str, tuple[str, ...], str, int | None, int | None, bool]
ROWS: list[Row] = [
    (set_to("runs.name", text(251)), BOTH, "runs.name", 251, 250, True),
    (EXPERIMENT.format(71, text(257), "'a'"), BOTH, "experiments.name", 257, 256, False),
    (EXPERIMENT.format(72, "'e72'", text(300)), BOTH, "experiments.artifact_location", 300, 256, False),
    (MODEL.format(text(300)), BOTH, "registered_models.name", 300, 256, False),
    (set_to("registered_models.description", text(5001)), BOTH, "registered_models.description", 5001, 5000, True),
    (set_to("model_versions.source", text(501)), BOTH, "model_versions.source", 501, 500, False),
    (set_to("runs.artifact_uri", text(201)), BOTH, "runs.artifact_uri", 201, 200, False),
    (set_to("params.value", "'a' || char(0) || 'b'"), (PG,), "params.value", None, None, True),
    (set_to("tags.value", "char(0)", note_of(0)), (PG,), "tags.value", None, None, True),
    # as a NUL ends what SQLite's length() counts
    (set_to("tags.value", f"char(0) || {text(8000)}", note_of(1)), BOTH, "tags.value", 8001, 8000, True),
    (set_to("tags.value", "CAST(x'ff41' AS TEXT)", note_of(2)), BOTH, "tags.value", None, None, False),
    (
        set_to("tags.key", f"'mlflow.log-model.history', value = {text(8002)}", note_of(3)),
        BOTH,
        "tags.value",
        8002,
        8000,
        False,
    ),
    (
        f"INSERT INTO tags SELECT 'NOTE', 'v', run_uuid FROM tags WHERE {note_of(4)}",  # noqa: S608
        (MYSQL,),
        "tags.key",
        None,
        None,
        False,
    ),
    ("INSERT INTO tags VALUES ('k', 'v', 'no such run')", (PG,), "tags.run_uuid", None, None, False),
    (set_to("experiment_tags.value", text(2**24)), (MYSQL,), "experiment_tags.value", 2**24, 2**24 - 1, True),
    (set_to("params.key", "'k' || char(0)"), (PG,), "params.key", None, None, False),
    (EXPERIMENT.format(73, "'PILOT ✓'", "'a'"), (MYSQL,), "experiments.name", None, None, False),
    (
        set_to("evaluation_dataset_records.inputs", "'NaN'"),
        BOTH,
        "evaluation_dataset_records.inputs",
        None,
        None,
        False,
    ),
    (set_to("latest_metrics.value", "9e999"), (MYSQL,), "latest_metrics.value", None, None, False),
]
RECORD = (
    "INSERT INTO evaluation_datasets (dataset_id, name, created_time, last_update_time, workspace) "
    "VALUES ('d', 'd', 1, 1, 'default')",
    "INSERT INTO evaluation_dataset_records (dataset_record_id, dataset_id, inputs, created_time, last_update_time, "
    "input_hash) VALUES ('r', 'd', '{}', 1, 1, 'h')",
)


def server_of(dialect: str, request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("postgres" if dialect == PG else "mariadb")


@pytest.fixture
def changed(pilot: Any, tmp_path: Any, take: Any, home_at: Any) -> Any:
    """Takes a snapshot of the pilot after these statements; returns where its backups are."""

    def make(*statements: str) -> str:
        home = home_at(tmp_path / uuid.uuid4().hex, str(tmp_path / uuid.uuid4().hex))
        shutil.copytree(pilot.home.folder, home.folder, ignore=shutil.ignore_patterns("backups"))
        with contextlib.closing(sqlite3.connect(home.store.file, isolation_level=None)) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            for statement in statements:
                connection.execute(statement)
        take(home)
        backups: str = home.backups
        return backups

    return make


@pytest.mark.parametrize("dialect", with_mysql(PG))
def test_a_dry_run_lists_all_values_and_a_restore_is_refused(
    dialect: str, changed: Any, pilot: Any, tmp_path: Any, home_at: Any, request: pytest.FixtureRequest
) -> None:
    """Into a target that holds something."""
    filled = request.getfixturevalue("filled_uri" if dialect == PG else "filled_mysql")
    home = home_at(tmp_path / "home", changed(*RECORD, *(row[0] for row in ROWS)), filled())
    work_on(home, pilot)
    message = home.restore("--dry-run", "--replace")
    values = message["refused_values"]
    listed = {(f"{v['table']}.{v['column']}", v["length"], v["limit"], v["free_text"]) for v in values}
    for _statement, refused_by, *expected in ROWS:
        assert (tuple(expected) in listed) == (dialect in refused_by), expected
    assert message["refused_total"] == len(values)
    assert len({v["row"]["run_uuid"] for v in values if v["column"] == "artifact_uri"}) == 6
    (refusal,) = message["would_refuse"]
    assert (refusal["name"], refusal["exit_code"]) == ("values", 3)
    assert "what to do: `restore --dry-run` lists all" in refused(home, Configuration, "--replace")


@pytest.mark.parametrize("dialect", with_mysql(PG))
def test_only_free_text_is_shortened_and_only_on_request(
    dialect: str, changed: Any, pilot: Any, tmp_path: Any, home_at: Any, request: pytest.FixtureRequest
) -> None:
    free = [
        set_to("runs.name", text(251, "é")),
        set_to("registered_models.description", text(6000)),
        set_to("tags.value", f"char(0) || {text(8005)}", "key = 'note'"),
    ]
    uri = server_of(dialect, request).create(f"v{uuid.uuid4().hex[:12]}")
    mixed = home_at(tmp_path / "home", changed(*free, MODEL.format(text(300))), uri)
    assert "registered_models.name is longer than 256" in refused(mixed, Configuration, "--shorten-text")

    home = home_at(tmp_path / "home", changed(*free), uri)
    assert "--shorten-text shortens" in refused(home, Configuration)
    done = home.restore("--shorten-text")
    assert (done["outcome"], done["database_identical"], done["refused_total"]) == ("done", False, 0)
    assert {f"{item['table']}.{item['column']}" for item in done["shortened_values"]} == {
        "runs.name", "registered_models.description", "tags.value"
    }  # fmt: skip
    assert done["shortened_total"] == len(done["shortened_values"])
    with contextlib.closing(connect_engine(home.store).connect()) as connection:
        (name,) = set(connection.exec_driver_sql("SELECT name FROM runs").scalars())
        (note,) = {value.strip("\0") for value in connection.exec_driver_sql(
            "SELECT value FROM tags WHERE value LIKE '%%xxxx'").scalars()}  # fmt: skip
    assert name == "é" * 250
    assert len(note) in {8000, 7999}  # MySQL keeps the NUL, which counts
    now = dump.digests(home.store)
    assert {table for table in now if now[table] != pilot.digests[table]} == {"runs", "registered_models", "tags"}
    assert home.files() == pilot.files


def test_an_interrupted_restore_that_shortens_is_resumed(
    changed: Any, tmp_path: Any, home_at: Any, postgres: Any
) -> None:
    backups = changed(set_to("runs.name", text(400)))
    home = home_at(tmp_path / "home", backups, postgres.create(f"v{uuid.uuid4().hex[:12]}"))
    home.interrupt("load-database", "--shorten-text")
    with pytest.raises(Configuration, match="--shorten-text"):
        home.restore()
    repository = open_repository(backups)
    source = DatabasePart.from_json(repository.snapshot("latest").database)
    load.load(source, repository.reader(), home.store, shorten=True)  # as a run that is killed right after it does
    copy = home.restore("--shorten-text")["saved_copy"]
    assert (copy, saved_copy.saved_names(home.store)) == (None, ())  # the rows count as its own
    assert home.interrupted() is None


@needed
def test_mysql_and_postgresql_refuse_values_of_each_other(
    pilot: Any, take: Any, tmp_path: Any, home_at: Any, request: pytest.FixtureRequest
) -> None:
    filled = {PG: request.getfixturevalue("filled_uri"), MYSQL: request.getfixturevalue("filled_mysql")}
    changes = {
        PG: ("INSERT INTO experiment_tags VALUES ('TEAM', 'v', 1)", "experiment_tags.key"),
        MYSQL: ("UPDATE params SET value = CONCAT('a', CHAR(0), 'b')", "params.value"),
    }
    for source, target in ((PG, MYSQL), (MYSQL, PG)):
        origin = home_at(tmp_path / source, str(tmp_path / f"of-{source}"), filled[source]())
        shutil.copytree(pilot.home.artifacts, origin.artifacts)
        statement, column = changes[source]
        with connect_engine(origin.store).begin() as connection:
            connection.exec_driver_sql(statement)
        take(origin)
        empty = server_of(target, request).create(f"v{uuid.uuid4().hex[:12]}")
        home = home_at(tmp_path / f"into-{target}", origin.backups, empty)
        message = home.restore("--dry-run")
        assert {f"{item['table']}.{item['column']}" for item in message["refused_values"]} == {column}
        if target == PG:
            assert home.restore("--shorten-text")["shortened_total"] == 6
    same = home_at(tmp_path / "same", origin.backups)
    assert same.restore()["database_identical"] is True
    assert is_identical(same, pilot) is False
