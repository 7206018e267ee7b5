"""The restore journal is a file that others may be able to write: it is opened and read as if they had."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import DamagedError
from mlflow_ae5_server.restore.saved_copies import FolderSavedCopies

from tests.project_template.repository.test_hostile import KINDS
from tests.project_template.restore.conftest import Home, tree

NAME = "kept_20260101_000000_abcdef"
RUNNING = {
    "phase": "database",
    "snapshot": "20260101T000000Z-abcdef",
    "started": "2026-01-01T00:00:00+00:00",
    "who": "here:1",
    "aside": None,
    "kept": None,
    "in_place": False,
}
KEPT = {
    "name": NAME,
    "snapshot": "20260101T000000Z-abcdef",
    "time": "2026-01-01T00:00:00+00:00",
    "database": True,
    "artifacts": True,
    "in_place": False,
    "store": "",
}
VERBS = (
    "restore --dry-run",
    "restore --replace",
    "restore --undo",
    "restore --undo --dry-run",
    "restore --list-saved",
    f"restore --drop-saved {NAME}",
    "backup create --allow-external",
    "backup prune --keep-last 1 --yes",
)


def journal(running: object = None, *kept: object, **more: object) -> Callable[[Path], object]:
    data = {"format": 1, "what": "", "running": running, "kept": list(kept), **more}
    return lambda path: path.write_text(json.dumps(data))


JOURNALS: dict[str, Callable[[Path], object]] = {
    **KINDS,
    "a link": lambda path: (path.with_name("another").write_text("{}"), path.symlink_to("another")),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "another format": journal(format=2),
    "more fields": journal({**RUNNING, "more": 1}),
    "no object": journal([]),
    "an unknown phase": journal({**RUNNING, "phase": "x"}),
    "an undo of nothing": journal({**RUNNING, "phase": "undo-artifacts"}),
    **{
        f"{name}: {value!r}": journal({**RUNNING, name: value})
        for name in RUNNING
        for value in ({"a": 1}, 5, "\x1b[2J")
    },
    **{
        f"saved copy, {name}: {value!r}": journal(None, {**KEPT, name: value})
        for name in KEPT
        for value in ({}, 5, "\x07")
        if (name, value) != ("store", "\x07")  # which no message has
    },
    **{f"a name that leads out: {name}": journal(None, {**KEPT, "name": name}) for name in ("..", "x", f"{NAME}/..")},
}


@pytest.mark.parametrize("how", JOURNALS)
def test_a_journal_that_no_restore_wrote_ends_every_job_with_16(
    here: Home, pilot: Any, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    here.artifacts.mkdir(parents=True)
    (here.artifacts / "a").write_text("a")
    here.store_folder()
    JOURNALS[how](Path(f"{here.destination}.restore.json"))
    before = sorted(here.folder.glob("*")), here.files(), tree(Path(pilot.home.backups, "snapshots"))
    for verb in VERBS:
        with pytest.raises(DamagedError, match="restore journal of"):
            here.job(*verb.split())
    after = sorted(here.folder.glob("*")), here.files(), tree(Path(pilot.home.backups, "snapshots"))
    assert after == before
    assert not {"\x1b", "\x07"} & set("".join(capfd.readouterr()))


def test_no_link_is_followed_when_it_is_written(tmp_path: Path) -> None:
    folder, precious = tmp_path / "artifacts", tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "artifacts.restore.json.tmp").symlink_to(precious)
    copies = FolderSavedCopies(folder)
    copies.write_journal(b"{}")
    assert (copies.read_journal(), precious.read_text()) == (b"{}", "precious")


@pytest.mark.parametrize("verb", ["kept", "contents", "drop", "back"])
def test_a_link_is_no_saved_copy(tmp_path: Path, verb: str) -> None:
    folder, outside = tmp_path / "artifacts", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    (tmp_path / f"artifacts.{NAME}").symlink_to(outside)
    copies = FolderSavedCopies(folder)
    assert not getattr(copies, verb)(NAME)
    assert tree(outside).keys() == {"precious"}
