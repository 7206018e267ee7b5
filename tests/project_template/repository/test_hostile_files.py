"""Files of others in the backup folder that belong to no snapshot: named or ignored, never followed or deleted."""

import ctypes
import gc
import json
import os
import shutil
from pathlib import Path

import pytest
from mlflow_ae5_server.common.errors import RepositoryFailed, SnapshotDamaged

from tests.project_template.repository.conftest import in_child
from tests.project_template.repository.hostile import (
    CREATE,
    MARKER,
    PRUNE,
    SHA,
    VERBS,
    content,
    linked,
    of_every_kind,
    replaced,
)
from tests.project_template.restore.conftest import tree

LAST_LOCK = f"lock/{'9' * 18}.json"
NONSENSE = b'{"at": "yesterday", "damaged": [5, {"object": "zz"}], "found": {}, "right": []}'
UNFINISHED = "unfinished/00000002-20260101T000000Z-abcdef.json"
FILES = ("lock/99.json", "spare", "meant-empty.json", f"damaged/{SHA}", "damaged/zz", "lock/\u00b2.json")
CHANGES = {
    **of_every_kind("tmp/x", "verified/{manifest}", "unfinished/{manifest}", *FILES),
    **{
        f"{name}: a link": linked(name)
        for name in ("tmp", "lock", "verified", "unfinished", "damaged", "spare", "meant-empty.json")
    },
    "the last lock": replaced(LAST_LOCK, content(b'{"released": true}')),
    "more than the last lock": replaced(f"lock/{'9' * 240}.json", Path.touch),
    "verified: nonsense": replaced("verified/{manifest}", content(NONSENSE)),
    "verified: a number without end": replaced(
        "verified/{manifest}",
        content(b'{"at": "2026-01-01T00:00:00+00:00", "damaged": [], "found": %s}' % (b"9" * 4300)),
    ),
    "unfinished: nonsense": replaced(
        UNFINISHED, content(b'{"started": [], "read_from": NaN, "lists": ["../../etc/passwd", 5]}')
    ),
    "a name that cannot be printed": replaced("snapshots/\x1b[2J\udcff.json", Path.touch),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_belongs_to_no_snapshot_is_named_or_ignored(hostile, change):
    CHANGES[change](hostile)
    assert set(hostile.use().values()) <= {0, SnapshotDamaged.exit_code}


@pytest.mark.parametrize("verb", [CREATE, PRUNE])
def test_a_lock_that_no_number_can_follow_is_named(hostile, verb):
    CHANGES["the last lock"](hostile)
    code, report = hostile.server.job(verb)
    assert (code, LAST_LOCK in report["error"]) == (SnapshotDamaged.exit_code, True)


def test_files_behind_a_linked_tmp_are_not_deleted(hostile):
    (hostile.backend / "tmp").mkdir(exist_ok=True)
    (hostile.backend / "tmp/precious").write_text("precious")
    hostile.link(hostile.backend / "tmp")
    code, report = hostile.server.job(CREATE)
    assert (code, "tmp in " in report["error"], "is no folder" in report["error"]) == (25, True, True)
    assert list(tree(hostile.outside / "tmp")) == ["precious"]


def forge_number(hostile, name):
    hostile.forge(sequence=int(name[:8]), id=name[9:-5])
    hostile.manifest.rename(hostile.backend / "snapshots" / name)


@pytest.mark.parametrize(
    "make",
    [
        lambda h, name: (h.backend / "snapshots" / name).write_text("{}"),
        lambda h, name: shutil.copy(h.manifest, h.backend / "snapshots" / name),
        forge_number,
        lambda h, name: replaced(f"unfinished/{name}", content(b"{}"))(h),
    ],
    ids=["nonsense", "copied", "forged", "unfinished"],
)
@pytest.mark.parametrize("number", ["99999999", "99999998", "02000000"])
def test_no_snapshot_follows_a_number_that_no_backup_reaches(hostile, make, number):
    def files():
        return [path for name in ("snapshots", "unfinished", "objects") for path in (hostile.backend / name).rglob("*")]

    name = f"{number}-20260101T000000Z-aaaaaa.json"
    make(hostile, name)
    before = files()
    code, report = hostile.server.job(CREATE)
    assert (code, name in report["error"]) == (SnapshotDamaged.exit_code, True)
    assert files() == before
    (file,) = hostile.backend.glob(f"*/{name}")
    file.unlink()
    (hostile.backend / "newest.json").unlink()
    assert hostile.server.job(CREATE)[0] == 0
    assert hostile.server.job("verify")[0] == 0


def test_a_folder_with_a_tmp_of_somebody_is_no_empty_destination(server):
    theirs = Path(server.backend, "tmp", "thesis.tex")
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    with pytest.raises(RepositoryFailed, match=r"contains something else: tmp/thesis\.tex"):
        server.back_up()
    assert [*Path(server.backend).rglob("*")] == [theirs.parent, theirs]


def test_only_our_own_files_are_deleted(server):
    folder = Path(server.backend, "tmp")
    (folder.parent / "lost+found").mkdir(parents=True)
    folder.mkdir()
    (folder / "0123abcd-17").write_text("of a first backup that was killed")
    server.back_up()
    assert list(folder.iterdir()) == []
    for name in ("thesis.tex", "0123abcd-17", "0123abcd-17.tex"):
        (folder / name).write_text("x")
    (folder.parent / "lock" / "thesis.tex").write_text("x")
    server.back_up()
    assert sorted(file.name for file in folder.iterdir()) == ["0123abcd-17.tex", "thesis.tex"]
    assert (folder.parent / "lock" / "thesis.tex").exists()


def drop_capabilities():
    """For a process that ends soon: file permissions apply to root, too."""
    if os.geteuid() == 0:
        header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None).capset(header, nothing) == 0


FORBIDDEN = {
    "object": lambda h: h.path("object"),
    "folder of objects": lambda h: h.path("object").parent,
    "objects": lambda h: h.backend / "objects",
    "manifest": lambda h: h.manifest,
    "snapshots": lambda h: h.backend / "snapshots",
    "lock": lambda h: next((h.backend / "lock").iterdir()),
    "verified": lambda h: next((h.backend / "verified").iterdir()),
    "marker": lambda h: h.backend / MARKER,
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_file_without_read_permission_is_named(hostile, what):
    path, output = FORBIDDEN[what](hostile), hostile.server.folder / "output.json"
    mode = path.stat().st_mode
    path.chmod(0)

    def work():
        drop_capabilities()
        output.write_text(json.dumps({verb: hostile.server.job(verb) for verb in VERBS}))

    try:
        assert in_child(work) == 0
    finally:
        path.chmod(mode)
    results = json.loads(output.read_text())
    assert {code for code, _report in results.values()} <= {0, SnapshotDamaged.exit_code}
    failed = {verb: json.dumps(report) for verb, (code, report) in results.items() if code}
    if what == "object":  # and the others are read all the same
        report = results["verify"][1]
        assert report["checked_objects"] == report["of_objects"]
        failed.pop(PRUNE)  # the snapshot is recorded as damaged by then
    assert failed
    assert all(path.name in report and "permission denied" in report for report in failed.values())


def test_folders_named_like_manifests_leak_no_descriptor(hostile):
    for number in range(100):
        (hostile.backend / "snapshots" / f"{number:08d}-20200101T000000Z-aaaaaa.json").mkdir()
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    assert hostile.server.job("list")[0] == 0
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= open_before
