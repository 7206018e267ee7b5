"""Whether there is something to bring back can be asked before a server is stopped for it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import AbsentError, InUseError


def test_nothing_is_kept_aside(older: Any, tmp_path: Path) -> None:
    home = older(tmp_path / "home")
    before = home.tree()
    with pytest.raises(AbsentError, match="nothing is kept aside"):
        home.restore("--undo", "--dry-run")
    assert home.tree() == before


def test_a_refused_restore_writes_down_nothing(older: Any, take: Any, tmp_path: Path) -> None:
    home = older(tmp_path / "home")
    take(home)
    with closing(sqlite3.connect(home.store.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        told = home.restore("--dry-run", "--replace")
        assert [entry["name"] for entry in told["would_refuse"]] == ["held"]
        with pytest.raises(InUseError):
            home.restore("--replace")
    assert home.place().read_journal() is None
    assert home.unfinished() is None
