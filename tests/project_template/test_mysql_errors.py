"""Statements that MySQL must understand, too: their words, also where no server is at hand to run them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from mlflow_ae5_server.backup import external_artifacts
from mlflow_ae5_server.commands import drill
from mlflow_ae5_server.database.connection import check_uri
from sqlalchemy.dialects import mysql, postgresql, sqlite


@pytest.mark.parametrize("table", ["trace_tags", "runs"])
def test_reserved_words_are_quoted_where_they_are_reserved(table: str) -> None:
    query = external_artifacts.foreign(table, "value")
    reported = [str(query.compile(dialect=kind.dialect())) for kind in (mysql, postgresql, sqlite)]
    assert all("NOT LIKE" in one for one in reported)
    assert not re.search(r"(?<!`)\bkey\b(?!`)", reported[0])
    assert [("key" in one) for one in reported] == [table == "trace_tags"] * 3


def test_a_drill_without_a_temporary_database_takes_a_file(tmp_path: Path) -> None:
    store = dataclasses.replace(check_uri("sqlite:///x"), dialect="mssql", file=None, shown="mssql://h/d")
    with drill._temporary_database(store, tmp_path) as copy:
        assert (copy.dialect, copy.file) == ("sqlite", tmp_path / "drill.sqlite")
