"""A snapshot comes back whole and identical, or not at all, and says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow_ae5_server.snapshot import dump


def is_identical(home: Any, pilot: Any) -> bool:
    return dump.digests(home.store) == pilot.digests and home.files() == pilot.files


def test_into_an_empty_place(pilot: Any, tmp_path: Path, home_at: Any) -> None:
    home = home_at(tmp_path, pilot.home.backups)
    done = home.restore("--snapshot", "latest")
    assert is_identical(home, pilot)
    assert (
        done.items()
        >= {
            "command": "restore",
            "outcome": "done",
            "snapshot": pilot.snapshot.id,
            "dialect": {"from": "sqlite", "to": "sqlite"},
            "rows": pilot.snapshot.rows,
            "artifacts": 18,
            "written_files": 18,
            "database_identical": True,
            "artifacts_identical": True,
            "kept_aside": None,
            "upgraded": None,
        }.items()
    )
    assert {path.name for path in tmp_path.iterdir()} == {"store", "artifacts"}
