"""Manifests and lists that cannot be read: shown as damaged, in nobody's way for good, and never read as `nothing`."""

import errno
from pathlib import Path

import pytest
from mlflow_ae5_server.common.errors import Configuration, NoSnapshot, SnapshotDamaged
from mlflow_ae5_server.repository import check
from mlflow_ae5_server.repository.folder_backend import FolderBackend

from tests.project_template.repository.conftest import Wrapped, in_child, kill_at

UNREADABLE = {
    "empty": lambda file: file.write_bytes(b""),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "not text": lambda file: file.write_bytes(b"\xff\x00"),
    "a loop": lambda file: (file.unlink(), file.symlink_to(file.name)),
}


@pytest.fixture
def taken(server):
    server.write("a", b"first" * 1000)
    first = server.back_up()
    server.write("a", b"second" * 1000)
    return server, first, server.back_up()


def manifest_file(server, manifest):
    return Path(server.backend, "snapshots", manifest.name)


@pytest.mark.parametrize("how", UNREADABLE)
def test_a_manifest_that_cannot_be_read_is_damaged_and_not_absent(taken, how):
    server, first, second = taken
    for manifest in (first, second):
        UNREADABLE[how](manifest_file(server, manifest))
    code, report = server.job("list")
    assert (code, [line["snapshot"] for line in report["snapshots"]]) == (0, [first.id, second.id])
    assert all("damaged" in line["damaged"] for line in report["snapshots"])
    for which in ("latest", first.id):
        with pytest.raises(SnapshotDamaged, match="damaged"):
            server.repository().snapshot(which)
    code, report = server.job("verify")
    assert (code, report["snapshot"]) == (SnapshotDamaged.exit_code, second.id)
    before = server.objects()
    assert server.job("prune --keep-last 1 --yes")[0] == SnapshotDamaged.exit_code
    assert server.objects() == before
    third = server.back_up()
    assert third.sequence == 3
    assert server.damage_of(third) == []


def test_a_damaged_snapshot_is_dropped_by_its_id(taken):
    server, first, second = taken
    manifest_file(server, first).write_bytes(b"")
    before = server.objects()
    code, shown = server.job(f"prune --drop-damaged {first.id}")
    assert (code, shown["would_remove"], shown["kept"]) == (0, [first.id], [second.id])
    assert (server.objects(), len(server.repository().snapshots())) == (before, 2)
    code, done = server.job(f"prune --drop-damaged {first.id} --yes")
    assert (code, done["removed"], done["freed_bytes"]) == (0, [first.id], shown["freed_bytes"])
    assert shown["objects"] == len(before) - len(server.objects()) > 0
    assert server.damage_of(second) == []
    assert server.job("prune --keep-last 1 --yes")[0] == 0


def test_a_snapshot_without_its_file_list_is_dropped_by_its_id(taken):
    server, first, second = taken
    server.object_file(first.artifacts.lists[0]).unlink()
    code, _report = server.job("prune --yes")
    assert code == SnapshotDamaged.exit_code
    assert server.job(f"prune --drop-damaged {first.id} --yes")[1]["removed"] == [first.id]
    assert server.damage_of(second) == []


def test_no_blob_is_deleted_while_another_manifest_is_unreadable(taken):
    server, first, second = taken
    third = server.back_up()
    for manifest in (first, second):
        manifest_file(server, manifest).write_bytes(b"")
    before = server.objects()
    code, done = server.job(f"prune --drop-damaged {first.id} --keep-last 1 --yes")
    assert (code, done["removed"], done["objects"]) == (0, [first.id], 0)
    assert second.name in done["guard"]
    assert server.objects() == before
    assert [one.id for one in server.repository().snapshots()] == [second.id, third.id]


def test_an_undamaged_snapshot_is_not_dropped(taken):
    server, first, second = taken
    for name, error in ((first.id, Configuration), ("20200101T000000Z-abcdef", NoSnapshot)):
        assert server.job(f"prune --drop-damaged {name} --yes")[0] == error.exit_code
    for manifest in (first, second):
        manifest_file(server, manifest).write_bytes(b"")
    code, _report = server.job(f"prune --drop-damaged {first.id} --drop-damaged {second.id} --yes")
    assert (code, len(server.repository().snapshots())) == (Configuration.exit_code, 2), "nothing would be left"


def test_an_empty_manifest_of_an_unfinished_snapshot_is_no_damage(server):
    """Where there are no hard links, a manifest's name is taken first. The note of the unfinished one tells."""

    def no_link(*_names, **_folders):
        raise OSError(errno.EPERM, "no hard links here")

    def linkless():
        return FolderBackend(Path(server.backend), link=no_link)

    def cut(verb, name):
        if verb == "create" and name.startswith("snapshots/"):
            Path(server.backend, name).parent.mkdir(exist_ok=True)
            Path(server.backend, name).touch(exist_ok=False)
            kill_at(0)("", "")

    server.write("a", b"a")
    assert in_child(lambda: (server.back_up(backend=Wrapped(linkless(), cut)), None)[1]) < 0
    assert len(list(Path(server.backend, "snapshots").iterdir())) == 1
    assert server.repository().snapshots() == []
    (unfinished,) = server.repository().unfinished()
    manifest = server.back_up(backend=linkless())
    assert (manifest.id, server.damage_of(manifest)) == (unfinished.id, [])


def test_list_and_show_report_damage_and_its_time(taken):
    server, _first, second = taken
    server.job("verify")
    assert server.job("show")[1]["manifest"]["verified"]
    shared = second.database["file"][0]
    server.object_file(shared).write_bytes(b"rot")
    assert server.job("verify")[0] == SnapshotDamaged.exit_code
    one, other = server.job("list")[1]["snapshots"]
    assert other["damaged"].startswith("1 object missing or damaged, found 20")
    assert "last check without damage was 20" in other["damaged"]
    assert (other["verified"], bool(other["damaged_found"])) == (None, True)
    assert one["damaged"] == "1 object missing or damaged", "it shares that object"
    shown = server.job(f"show --snapshot {second.id}")[1]["manifest"]
    assert (shown["verified"], shown["damaged"]) == (None, other["damaged"])
    assert shown["read_from"].startswith("20")
    server.back_up()
    server.job(f"verify --snapshot {second.id}")
    assert [bool(line["verified"]) for line in server.job("list")[1]["snapshots"]] == [False, True, False]
    assert check.state(server.repository(), second.name) is not None


def test_a_damaged_list_counts_once(taken):
    server, _first, second = taken
    server.object_file(second.artifacts.lists[0]).write_bytes(b"rot")
    _code, report = server.job("verify")
    assert (report["damaged_total"], len(report["damaged"])) == (1, 1)
    assert "1 object missing" in report["error"]
