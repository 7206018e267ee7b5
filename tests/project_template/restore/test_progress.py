"""What real jobs say of their progress: the phases of the contract in order, each with exact numbers at its end."""

from __future__ import annotations

from typing import Any

from tests.project_template.restore.conftest import take_snapshot
from tests.project_template.test_progress import phases, steps


def test_backup_verify_and_prune(here: Any, filled: Any, capfd: Any, tmp_path: Any) -> None:
    home = type(here).at(filled.folder, str(tmp_path / "backups"), filled.uri, filled.destination)
    capfd.readouterr()

    made = home.job("backup", "create")
    text = capfd.readouterr().err
    assert [name for name, _, _ in phases(text)] == ["read-database", "examine-artifacts", "publish"]
    assert phases(text)[1] == ("examine-artifacts", made["artifact_bytes"], None)
    assert steps(text) == [(1, 3), (2, 3), (3, 3)]

    checked = home.job("backup", "verify")
    text = capfd.readouterr().err
    assert phases(text) == [
        ("read-objects", checked["of_objects"], checked["of_objects"]),
        ("check-rows", None, None),
    ]

    sample = home.job("backup", "verify", "--sample", "1%")
    text = capfd.readouterr().err
    assert phases(text) == [("read-objects", sample["checked_objects"], sample["checked_objects"])]
    assert steps(text) == [(1, 1)]

    home.job("backup", "create")
    capfd.readouterr()
    pruned = home.job("backup", "prune", "--keep-last", "1", "--yes")
    text = capfd.readouterr().err
    assert phases(text) == [
        ("examine-snapshots", None, None),
        ("delete-objects", pruned["objects"], pruned["objects"]),
    ]


def test_restore_and_undo(filled: Any, pilot: Any, capfd: Any) -> None:
    manifest = pilot.snapshot
    capfd.readouterr()
    filled.restore("--dry-run", "--replace")
    assert [name for name, _, _ in phases(capfd.readouterr().err)] == ["read-objects", "check-target"]
    (line,) = filled.job("backup", "list")["snapshots"]
    assert line["verified"], "every object was read"

    filled.restore("--replace")
    text = capfd.readouterr().err
    assert phases(text)[1:] == [
        ("check-target", None, None),
        ("save-data", None, None),
        ("write-artifacts", manifest.artifacts.bytes, manifest.artifacts.bytes),
        ("load-database", manifest.rows + 1, manifest.rows + 1),  # one is the schema's revision
        ("compare-database", None, None),
    ]
    assert steps(text) == [(number, 6) for number in range(1, 7)]

    filled.restore("--undo")
    assert phases(capfd.readouterr().err) == [("save-data", None, None), ("bring-back", None, None)]


def test_drill_and_migrations_of_an_older_snapshot(older: Any, tmp_path: Any, capfd: Any) -> None:
    home = older(tmp_path / "older")
    take_snapshot(home)
    capfd.readouterr()

    home.job("drill")
    text = capfd.readouterr().err
    assert [name for name, _, _ in phases(text)] == [
        "write-artifacts", "load-database", "compare-database", "migrate", "start-server", "test-server",
        "read-models", "delete-temporary",
    ]  # fmt: skip
    assert steps(text) == [(number, 8) for number in range(1, 9)]
