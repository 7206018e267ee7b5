"""From each dialect into each: everything arrives, proven by digests and read back through MLflow."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.database import dump, load, pinned_schema, schema
from mlflow_ae5_server.database.connection import Database, connect_engine
from mlflow_ae5_server.database.contents import DatabasePart
from mlflow_ae5_server.database.schema import inspect_schema

from tests.project_template.database.support import OLD, Objects, execute, old_database
from tests.project_template.fixtures import pin_schema
from tests.project_template.mariadb import needed, with_mysql

DIALECTS = with_mysql("sqlite", "postgresql")
# What `populate.py` writes; a table that stays empty proves nothing.
FILLED = {
    *("alembic_version", "assessments", "datasets", "entity_associations", "evaluation_dataset_records"),
    *("evaluation_dataset_tags", "evaluation_datasets", "experiment_tags", "experiments", "input_tags", "inputs"),
    *("latest_metrics", "logged_model_metrics", "logged_model_params", "logged_model_tags", "logged_models", "metrics"),
    *("model_version_tags", "model_versions", "params", "registered_model_aliases", "registered_model_tags"),
    *("registered_models", "runs", "spans", "tags", "trace_info", "trace_request_metadata", "trace_tags", "workspaces"),
    "sql_trace_metric_daily_rollups",
}


def through_mlflow(database: Database) -> dict[str, Any]:
    """What a user sees of it, from MLflow's own stores on that database."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

    tracking, registry = Tracking(database.uri, "mlflow-artifacts:/"), Registry(database.uri)
    runs = tracking.search_runs(["1"], "", 3)
    seen = {
        "runs": sorted(json.dumps(run.to_dictionary(), sort_keys=True) for run in runs),
        "history": [
            [(repr(m.value + 0.0), m.timestamp, m.step) for m in tracking.get_metric_history(run.info.run_id, key)]
            for run in sorted(runs, key=lambda run: run.info.run_name)
            for key in sorted(run.data.metrics)
        ],
        "versions": [repr(dict(v)) for v in registry.search_model_versions("name = 'registered'")],
        "models": [repr(dict(m)) for m in registry.search_registered_models()],
        "traces": [repr(t.to_dict()) for t in tracking.search_traces(["1"])[0]],
    }
    tracking.engine.dispose()
    registry.engine.dispose()
    return seen


def next_experiment(database: Database) -> int:
    """The id of a new experiment; made once, to see that numbers go on where they ended."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(database.uri, "mlflow-artifacts:/")
    try:
        return int(store.create_experiment("one more"))
    finally:
        store.engine.dispose()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("sqlite", "sqlite"),
        ("sqlite", "postgresql"),
        ("postgresql", "sqlite"),
        pytest.param("mysql", "sqlite", marks=needed),
        pytest.param("mysql", "postgresql", marks=needed),
        pytest.param("mysql", "mysql", marks=needed),
        pytest.param("sqlite", "mysql", marks=needed),
        pytest.param("postgresql", "mysql", marks=needed),
    ],
)
def test_everything_arrives(
    source: str, target: str, native: dict[str, Database], empty: Callable[[str], Database]
) -> None:
    objects = Objects()
    part = dump.dump(native[source], objects)
    assert {table.name for table in part.tables if table.rows} == FILLED
    part = DatabasePart.from_json(part.to_json())
    assert (part.runs, part.deleted_runs) == (4, 1)

    restored = empty(target)
    load.load(part, objects, restored)
    assert dump.digests(restored) == part.digests()
    if target != source == "sqlite":
        there_and_back = empty(source)
        load.load(dump.dump(restored, objects), objects, there_and_back)
        assert dump.digests(there_and_back) == part.digests()

    assert through_mlflow(restored) == through_mlflow(native[source])
    assert next_experiment(restored) == 3


def test_the_pinned_schema_is_mlflows() -> None:
    """Else backups either import MLflow again or, worse, take its tables for somebody else's."""
    from mlflow.store.db import utils
    from mlflow.version import VERSION

    assert (VERSION, utils._get_latest_schema_revision()) == (pinned_schema.VERSION, pinned_schema.REVISION)
    assert {*utils.Base.metadata.tables, "alembic_version"} == pinned_schema.TABLES


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_the_pinned_statements_make_what_migrations_make(
    dialect: str, native: dict[str, Database], empty: Callable[[str], Database]
) -> None:
    made = empty(dialect)
    with closing(connect_engine(made).connect()) as connection:
        schema.create(connection, pinned_schema.REVISION)
        connection.commit()
    found, expected = (statements_of(database) for database in (made, native[dialect]))
    assert found == expected, "run python -m tests.project_template.fixtures.pin_schema"


def statements_of(database: Database) -> list[list[str]]:
    """The lines of each; migrations write the constraints of a SQLite table in any order."""
    uri, file = database.uri, database.file
    text = pin_schema.postgresql_statements(uri) if file is None else pin_schema.sqlite_statements(file)
    return [sorted(line.strip(" \t,") for line in sql.splitlines()) for sql in text.split("\n\n")]


def test_the_values_that_are_easily_lost_are_there(native: dict[str, Database]) -> None:
    for database in native.values():
        with closing(connect_engine(database).connect()) as connection:
            rows = connection.exec_driver_sql("SELECT value, is_nan FROM metrics WHERE metrics.key = 'm0'").all()
            values = [math.nan if is_nan else value for value, is_nan in rows]
            assert sum(map(math.isnan, values)) == 1
            assert {5e-324, 0.1 + 0.2, 1.7976931348623157e308, -1.7976931348623157e308, 1e22} <= set(values)
            texts = [row[0] for row in connection.exec_driver_sql("SELECT value FROM tags")]
            assert sum("漢字 \U0001f600" in text for text in texts) == 3


@pytest.mark.parametrize(
    ("version", "target"),
    [("2.6.0", "postgresql"), ("2.22.0", "sqlite"), pytest.param("2.22.0", "mysql", marks=needed)],
)
def test_an_old_schema_comes_back_as_it_was_and_upgrades(
    version: str, target: str, tmp_path: Path, empty: Callable[[str], Database]
) -> None:
    from mlflow.store.db.utils import _upgrade_db

    objects, restored = Objects(), empty(target)
    part = dump.dump(old_database(version, tmp_path), objects)
    assert part.revision == OLD[version]
    assert part.rows > 60
    load.load(part, objects, restored)
    assert dump.digests(restored) == part.digests()
    assert dump.state(restored).revision == OLD[version]

    engine = connect_engine(restored)
    _upgrade_db(engine)
    assert inspect_schema(engine).state == "current"
    after = dump.digests(restored)
    for table in ("experiments", "runs", "metrics", "params", "tags", "inputs", "model_versions", "registered_models"):
        assert after[table][0] == part.digests()[table][0] > 0
    assert next_experiment(restored) == 3


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_kind_of_value_counts(dialect: str, filled: Callable[[str], Database]) -> None:
    """A digest changes with the last bit of any value, and comes back with it."""
    database = filled(dialect)
    before = dump.digests(database)
    changes = {
        "metrics": (
            "SET value = 0.3 WHERE value = 0.30000000000000004",
            "SET value = 0.30000000000000004 WHERE value = 0.3",
        ),
        "runs": ("SET end_time = NULL WHERE name = 'run 1'", ""),
        "tags": ("SET value = value || ' ' WHERE tags.key = 't0'", "SET value = '' WHERE tags.key = 't0'"),
        "assessments": ("SET valid = NOT valid", "SET valid = NOT valid"),
        "evaluation_dataset_records": ("SET source_id = ''", ""),
        "sql_trace_metric_daily_rollups": (
            "SET rollup_day = '2024-03-01'",
            "SET rollup_day = '2024-02-29'",
        ),
    }
    execute(database, *(f"UPDATE {table} {change}" for table, (change, _back) in changes.items()))
    changed = dump.digests(database)
    assert {name for name, found in changed.items() if found != before[name]} == set(changes)
    assert {name: rows for name, (rows, _digest) in changed.items()} == {
        name: rows for name, (rows, _) in before.items()
    }
    execute(database, *(f"UPDATE {table} {back}" for table, (_change, back) in changes.items() if back))
    again = dump.digests(database)
    assert {name for name, found in again.items() if found != before[name]} == {"runs", "evaluation_dataset_records"}


def test_everything_arrives_with_keys_and_indexes_as_mlflow_makes_them(
    filled: Callable[[str], Database], empty: Callable[[str], Database]
) -> None:
    """From PostgreSQL into PostgreSQL. Those of a table with many rows are made after the rows."""
    database, restored, objects = filled("postgresql"), empty("postgresql"), Objects()
    execute(
        database,
        "INSERT INTO tags SELECT 'many ' || n, 'x', (SELECT min(run_uuid) FROM runs) FROM generate_series(1, 1500) n",
    )
    part = dump.dump(database, objects)
    assert {table.name for table in part.tables if table.rows} == FILLED
    load.load(DatabasePart.from_json(part.to_json()), objects, restored)
    assert dump.digests(restored) == part.digests()
    assert keys_and_indexes(restored) == keys_and_indexes(database)
    assert through_mlflow(restored) == through_mlflow(database)
    assert next_experiment(restored) == 3


def keys_and_indexes(database: Database) -> list[tuple[Any, ...]]:
    with closing(connect_engine(database).connect()) as connection:
        found = connection.exec_driver_sql(
            "SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid), convalidated "
            "FROM pg_constraint WHERE connamespace = current_schema()::regnamespace "
            "UNION ALL SELECT tablename, indexname, indexdef, true FROM pg_indexes WHERE schemaname = current_schema()"
        ).all()
        return sorted(map(tuple, found))
