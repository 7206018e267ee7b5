"""Databases with some of everything in them, made once; and empty ones."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.database.connection import Database, check_uri

from tests.project_template import mariadb
from tests.project_template.conftest import made_once
from tests.project_template.database.support import execute, sqlite_database

_numbers = itertools.count()
ROLLUP = (
    "INSERT INTO sql_trace_metric_daily_rollups (experiment_id, rollup_day, metric_name, grouping_set, sample_count) "
    "VALUES (1, '2024-02-29', 'm', 'g', 1)"
)


def populated(folder: Path, database: Database) -> None:
    """In a fork of this process, which has MLflow by then: to import it takes longer than what is done with it."""
    from tests.project_template.database.populate import populate

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.chdir(folder)
            populate(database.uri)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    execute(database, ROLLUP)  # a table that only the server's own rollups fill, with a date in it


@pytest.fixture(scope="session")
def native(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    empty_file: Path,
    empty_template: str,
    postgres: Any,
) -> dict[str, Database]:
    """The same calls of MLflow's client, written to a database of each dialect. Not to be changed."""

    def make(folder: Path) -> None:
        shutil.copy(empty_file, folder / "mlflow.sqlite")
        populated(folder, sqlite_database(folder / "mlflow.sqlite"))

    folder = tmp_path_factory.mktemp("native")
    file = Path(shutil.copy(made_once(tmp_path_factory, "native", make) / "mlflow.sqlite", folder))
    on_postgres = check_uri(postgres.create("native", empty_template))
    populated(folder, on_postgres)
    found = {"sqlite": sqlite_database(file), "postgresql": on_postgres}
    if mariadb.program():
        template = request.getfixturevalue("empty_schema")
        found["mysql"] = check_uri(request.getfixturevalue("mariadb").create("native", template))
        populated(folder, found["mysql"])
    return found


@pytest.fixture
def empty(request: pytest.FixtureRequest, tmp_path: Path, postgres: Any) -> Callable[[str], Database]:
    """An empty database of a dialect."""

    def make(dialect: str) -> Database:
        number = next(_numbers)
        if dialect == "sqlite":
            return sqlite_database(tmp_path / f"empty-{number}.sqlite")
        server = postgres if dialect == "postgresql" else request.getfixturevalue("mariadb")
        return check_uri(server.create(f"empty_{number}"))

    return make


@pytest.fixture(scope="module")
def untouched(postgres: Any) -> Database:
    """An empty PostgreSQL database for what is refused: none of its tests may leave anything there."""
    return check_uri(postgres.create(f"untouched_{next(_numbers)}"))


@pytest.fixture
def filled(
    request: pytest.FixtureRequest, tmp_path: Path, native: dict[str, Database], postgres: Any
) -> Callable[[str], Database]:
    """A copy of a native database, to be changed."""

    def make(dialect: str) -> Database:
        number, original = next(_numbers), native[dialect].file
        if original is not None:
            return sqlite_database(Path(shutil.copy(original, tmp_path / f"filled-{number}.sqlite")))
        server = postgres if dialect == "postgresql" else request.getfixturevalue("mariadb")
        return check_uri(server.create(f"filled_{number}", "native"))

    return make


@pytest.fixture
def copied(filled: Callable[[str], Database]) -> Database:
    return filled("sqlite")
