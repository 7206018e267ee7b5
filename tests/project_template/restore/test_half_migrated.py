"""A database after an interrupted migration: rows gone, a table missing, the revision as it was."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import NotEmptyError
from mlflow_ae5_server.database import dialects
from mlflow_ae5_server.database.connection import connect_engine
from sqlalchemy import text

from tests.project_template.mariadb import with_mysql


def break_off(home: Any) -> None:
    engine = connect_engine(home.store)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM metrics"))
        connection.execute(text("DROP TABLE trace_tags"))
    engine.dispose()


@pytest.mark.parametrize("dialect", with_mysql("sqlite", "postgresql"))
def test_an_incomplete_database_is_saved_and_the_snapshot_restored(
    dialect: str, tmp_path: Path, home_at: Any, pilot: Any, request: pytest.FixtureRequest
) -> None:
    if dialect == "sqlite":
        home = home_at(tmp_path / "home", pilot.home.backups)
        home.store_folder()
        shutil.copy(pilot.home.store.file, home.store.file)
    else:
        copies = "filled_uri" if dialect == "postgresql" else "filled_mysql"
        home = home_at(tmp_path / "home", pilot.home.backups, request.getfixturevalue(copies)())
    break_off(home)

    with pytest.raises(NotEmptyError, match="tables with"):
        home.restore("--snapshot", "latest")
    done = home.restore("--snapshot", "latest", "--replace")

    assert done["saved_copy"]
    assert dialects.digests(home.store) == pilot.digests
