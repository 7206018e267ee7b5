"""Artifact folders without a row: shown, removed when old, and never where a row could mean them."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.project_template.gc.conftest import ROOT, Data
from tests.project_template.test_progress import phases

REMOVE = {"MLFLOW_TRACKING_GC_ORPHANS": "remove"}


def old(data: Data, path: str, *, days: float = 90) -> Path:
    file = data.file(path)
    since = time.time() - days * 86400
    for item in (file, *file.parents):
        if item == data.artifacts:
            break
        os.utime(item, (since, since))
    return file


def some() -> str:
    return uuid.uuid4().hex


def with_rows(data: Data, number: int) -> None:
    """So many more folders with a row."""
    for _ in range(number):
        data.run(deleted=None)


def test_orphans_are_shown_then_removed(data: Data, capfd: Any) -> None:
    kept, model = data.run(deleted=None), data.model(deleted=None)
    with_rows(data, 3)
    gone = [
        old(data, f"{location}/artifacts/a")
        for location in (f"0/{some()}", f"workspaces/team/7/models/m-{some()}", f"7/traces/tr-{some()}")
    ]
    young = old(data, f"0/{some()}/artifacts/a", days=3)
    new_inside = old(data, f"0/{some()}/artifacts/a")
    new_inside.with_name("b").write_text("new")
    strange = [
        old(data, path)
        for path in (
            "0/notes/a",
            "workspaces/7/a",
            f"workspaces/team/x/{some()}/a",
            f"x/{some()}/artifacts/a",
            "0/README",
            f"0/models/{some()}/a",
        )
    ]

    assert "orphans" not in data.collect()
    shown = data.collect(MLFLOW_TRACKING_GC_ORPHANS="show")
    assert shown["orphans"] == {"mode": "show", "folders": 5, "recent": 2, "bytes": 15, "removed": 0,
                                "removed_bytes": 0, "remaining": 3}  # fmt: skip
    dry = data.collect(dry_run=True, **REMOVE)
    assert (dry["orphans"]["removed"], dry["outcome"], all(file.is_file() for file in gone)) == (0, "dry-run", True)
    capfd.readouterr()
    removed = data.collect(**REMOVE)
    assert (removed["exit_code"], removed["orphans"]["removed"], removed["orphans"]["removed_bytes"]) == (0, 3, 15)
    assert phases(capfd.readouterr().err)[-1] == ("find-orphans", 10, None)
    assert not any(file.exists() for file in gone)
    assert all(file.is_file() for file in (young, new_inside, *strange))
    assert data.has_files(kept)
    assert data.has_files(model)


def test_what_a_row_could_mean_is_no_orphan(data: Data) -> None:
    data.run(deleted=None)
    sourced, placed, linked = (old(data, f"0/{some()}/artifacts/a") for _ in range(3))
    data.version(source=f"{ROOT}0/{sourced.parent.parent.name}/artifacts/model")
    data.version(run=linked.parent.parent.name)
    data.run(deleted=None, uri=f"{data.artifacts}/0/{placed.parent.parent.name}/artifacts/inner/RUN/artifacts")
    below = old(data, f"5/{some()}/artifacts/a")
    data.run(deleted=None, uri="mlflow-artifacts:/5")  # not its own folder, but what is in it may be its
    fields = data.collect(**REMOVE)
    assert (fields["orphans"]["folders"], fields["orphans"]["removed"]) == (0, 0)
    assert all(file.is_file() for file in (sourced, placed, linked, below))


@pytest.mark.parametrize(
    ("rows", "mode", "young", "removed"),
    [
        (0, "remove", 0, 0),
        (0, "remove-all", 0, 0),
        (1, "remove", 0, 0),
        (1, "remove-all", 0, 2),
        (2, "remove", 0, 2),
        (2, "remove", 1, 0),
        (2, "remove-all", 1, 2),
        (3, "remove", 1, 2),
    ],
)
def test_what_looks_like_the_store_of_another_database_is_left_alone(
    on_file: Data, capsys: Any, rows: int, mode: str, young: int, removed: int
) -> None:
    with_rows(on_file, rows)
    files = [old(on_file, f"0/{some()}/artifacts/a") for _ in range(2)]
    for _ in range(young):
        old(on_file, f"0/{some()}/artifacts/a", days=1)

    shown = on_file.collect(MLFLOW_TRACKING_GC_ORPHANS="show")
    message = capsys.readouterr().out
    fields = on_file.collect(MLFLOW_TRACKING_GC_ORPHANS=mode)
    verb = "deleting" if removed else "found"
    assert f"{verb} 2 orphaned artifact folders" in capsys.readouterr().out

    assert (shown["exit_code"], shown["orphans"]["remaining"]) == (0, 2)
    assert all(file.parent.parent.name in message for file in files)
    doubted = rows < 2 + young
    assert ("nothing would be deleted" in message, "guard" in shown["orphans"]) == (doubted, doubted)
    assert fields["orphans"]["removed"] == removed
    assert [file.is_file() for file in files] == [not removed] * 2
    assert (fields["exit_code"], fields["outcome"]) == ((0, "done") if removed else (23, "incomplete"))
    if not removed:
        why = "belongs to this database" if not rows else f"{2 + young} orphaned artifact folders, and only {rows}"
        assert why in fields["orphans"]["guard"]


def test_a_link_is_not_followed(on_file: Data) -> None:
    on_file.run(deleted=None)
    outside = on_file.artifacts.parent / "precious"
    outside.mkdir()
    (outside / "a").write_text("x")
    file = old(on_file, f"0/{some()}/artifacts/a")
    (file.parent / "link").symlink_to(outside)
    since = time.time() - 90 * 86400
    os.utime(file.parent, (since, since))
    os.utime(file.parent / "link", (since, since), follow_symlinks=False)
    fields = on_file.collect(**REMOVE)
    assert (fields["exit_code"], fields["orphans"]["remaining"]) == (23, 1)
    assert (outside / "a").is_file()
