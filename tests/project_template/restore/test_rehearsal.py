"""An upgrade rehearsed on a copy: what it would do, how long it takes, and the real database as it was."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.commands import database_upgrade
from mlflow_ae5_server.common import settings
from mlflow_ae5_server.common.errors import Configuration, SchemaMismatch
from mlflow_ae5_server.common.report import Report
from mlflow_ae5_server.database import dump
from mlflow_ae5_server.database.connection import connect_engine
from mlflow_ae5_server.database.schema import inspect_schema, pending_revisions


@pytest.fixture
def old(tmp_path: Path, older: Any, take: Any, home_at: Any, postgres: Any) -> Any:
    """A home whose database is of MLflow 2.6, on PostgreSQL. (On SQLite: see tests/e2e, and what fails below.)"""
    home = older(tmp_path / "old")
    take(home)
    there = home_at(tmp_path / "there", home.backups, postgres.create(f"u{uuid.uuid4().hex[:12]}"))
    there.restore("--no-upgrade", "--snapshot", "latest")
    return there


def state(home: Any) -> tuple[object, ...]:
    file = home.store.file
    content = hashlib.sha256(file.read_bytes()).hexdigest() if file else dump.digests(home.store)
    names = {path.name for path in file.parent.iterdir()} if file else schemas(home)
    return content, names


def schemas(home: Any) -> set[str]:
    from sqlalchemy import text

    with connect_engine(home.store).connect() as connection:
        return {row[0] for row in connection.execute(text("SELECT nspname FROM pg_namespace"))}


def rehearse(home: Any) -> dict[str, Any]:
    report = Report("DatabaseUpgrade")
    resolved = settings.resolve(
        {"MLFLOW_BACKEND_STORE_URI": home.uri, "MLFLOW_TRACKING_UPGRADE_REHEARSE": "true"}, {}, {}
    )
    code = database_upgrade.run(resolved, report, False)
    fields: dict[str, Any] = report._fields
    assert (code == 0) == (fields["outcome"] == "rehearsed"), fields
    return fields


def test_a_rehearsal_migrates_a_copy(old: Any) -> None:
    before = state(old)
    schema = inspect_schema(connect_engine(old.store))
    fields = rehearse(old)
    assert state(old) == before  # nothing written, nothing left
    assert (fields["outcome"], fields["revision"]) == ("rehearsed", schema.found)
    assert fields["expected_revision"] == schema.expected
    assert [step["revision"] for step in fields["migrations"]] == pending_revisions(schema)
    assert "add model registry tables to db" not in {step["what"] for step in fields["migrations"]}  # older than 2.6
    assert "add trace tables" in {step["what"] for step in fields["migrations"]}
    assert len(fields["migrations"]) > 10
    assert fields["migration_seconds"] > 0
    assert fields["rows"] == dump.state(old.store).rows
    assert fields["rows_after"] >= fields["rows"]


def test_failed_migrations_are_reported(tmp_path: Path, older: Any) -> None:
    """A table that a migration is about to make is there already: on the copy it fails, as it would for real."""
    import sqlite3
    from contextlib import closing

    home = older(tmp_path / "old")
    with closing(sqlite3.connect(home.store.file)) as connection:
        connection.execute("CREATE TABLE trace_info (request_id VARCHAR)")
        connection.commit()
    before = state(home)
    fields = rehearse(home)
    assert state(home) == before
    assert fields["outcome"] == "failed"
    assert "trace_info" in fields["error"]
    assert "do not upgrade" in fields["hint"]


def test_a_current_or_absent_database_has_nothing_to_rehearse(pilot: Any, tmp_path: Path, home_at: Any) -> None:
    fields = rehearse(pilot.home)
    assert (fields["outcome"], fields["migrations"], fields["migration_seconds"]) == ("rehearsed", [], 0.0)
    with pytest.raises(Configuration, match="there is no database"):
        rehearse(home_at(tmp_path, ""))


def test_the_schema_of_a_newer_mlflow_is_refused(tmp_path: Path, older: Any) -> None:
    import sqlite3
    from contextlib import closing

    home = older(tmp_path / "old")
    with closing(sqlite3.connect(home.store.file)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        connection.commit()
    with pytest.raises(SchemaMismatch, match="ffffffffffff"):
        rehearse(home)
