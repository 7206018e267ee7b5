"""Servers on other databases do not stop a restore; a destination that is a file does."""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import Configuration
from mlflow_ae5_server.database import dump, locks
from mlflow_ae5_server.database.connection import Database, check_uri, connect_engine


@contextlib.contextmanager
def serving(store: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server's mark, on connections that are open; those of this process made later have none."""
    monkeypatch.setenv("PGAPPNAME", "")
    with locks.serving(store), contextlib.ExitStack() as stack:
        if store.file is None:
            stack.enter_context(connect_engine(store).connect())
        monkeypatch.setenv("PGAPPNAME", "")
        assert locks.in_use(store) is not None
        yield


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_server_on_another_database_does_not_stop_a_restore(
    dialect: str, pilot: Any, tmp_path: Path, home_at: Any, request: pytest.FixtureRequest, monkeypatch: Any
) -> None:
    home = home_at(tmp_path / "home", pilot.home.backups)
    home.store_folder()
    neighbour = home.store.file.with_name("neighbour.sqlite")
    with contextlib.closing(sqlite3.connect(neighbour)) as connection:
        connection.execute("CREATE TABLE runs (a)")
        connection.commit()
    other = check_uri(f"sqlite:///{neighbour}")
    if dialect == "postgresql":
        postgres = request.getfixturevalue("postgres")
        uris = [postgres.create(f"r{uuid.uuid4().hex[:12]}") for _ in range(2)]
        home, other = home_at(tmp_path / "home", pilot.home.backups, uris[0]), check_uri(uris[1])

    with serving(other, monkeypatch):
        assert home.restore("--dry-run")["would_refuse"] == []
        if dialect == "sqlite":  # PostgreSQL is asked the same before, and to load it is slow
            done = home.restore("--snapshot", "latest")
            assert (done["outcome"], done["database_identical"]) == ("done", True)
    assert neighbour.is_file()


def test_a_destination_that_is_a_file_is_refused(pilot: Any, tmp_path: Path, home_at: Any) -> None:
    home = home_at(tmp_path, pilot.home.backups)
    home.artifacts.write_text("precious")
    for words in (("--snapshot", "latest"), ("--replace",)):
        with pytest.raises(Configuration, match="is a file, not a folder"):
            home.restore(*words)
    assert home.artifacts.read_text() == "precious"
    assert dump.state(home.store).kind == "empty"
    assert home.interrupted() is None
