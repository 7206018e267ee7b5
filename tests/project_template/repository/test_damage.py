"""No snapshot is published that refers to a blob recorded as damaged, whichever verb found it."""

import os
import time
from pathlib import Path

import pytest
from mlflow_ae5_server.backup import artifacts
from mlflow_ae5_server.common.errors import Configuration, SnapshotDamaged
from mlflow_ae5_server.repository import check, damage, prune
from mlflow_ae5_server.repository.repository import open_backend

from tests.project_template.repository.conftest import Wrapped

BIG = os.urandom(700_000)
KINDS = ("list", "database", "shared", "own")


def later():
    return time.time() + 60


@pytest.fixture
def taken(server):
    for number in range(8):
        server.write(f"small/{number}", b"%d" % number * 500)
    server.write("big", BIG)
    return server, server.back_up(now=later)  # so late that the files count as old, and are known by their marks


def object_of(server, manifest, kind):
    entries = server.entries(manifest)
    found = {
        "list": manifest.artifacts.lists[0],
        "database": manifest.database["file"][0],
        "shared": entries["small/3"].parts[0].sha256,
        "own": entries["big"].parts[0].sha256,
    }
    return str(found[kind])


def rot(file, *, seen):
    """Flip a bit. Where it is not `seen`, the file system does not know of it: the disk itself has done it."""
    state = file.stat()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    if not seen:
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def recorded(server):
    return damage.recorded(open_backend(server.backend)).digests


@pytest.mark.parametrize("kind", KINDS)
def test_a_backup_after_a_flipped_bit_is_whole(taken, kind):
    server, manifest = taken
    rot(server.object_file(object_of(server, manifest, kind)), seen=True)
    again = server.back_up()
    assert any("is damaged" in line for line in server.says)
    assert server.job("verify --all")[0] == 0
    assert server.contents(again)["big"] == BIG
    assert server.damage_of(manifest) == [], "the older one is whole again as well"
    assert recorded(server) == frozenset()
    assert server.back_up().new_objects == 0


@pytest.mark.parametrize("kind", ["list", "database"])
def test_a_backup_reads_the_blobs_of_database_and_file_list(taken, kind):
    server, manifest = taken
    rot(server.object_file(object_of(server, manifest, kind)), seen=False)
    assert server.back_up().new_objects == 1
    assert server.job("verify --all")[0] == 0


@pytest.mark.parametrize("kind", ["shared", "own"])
@pytest.mark.parametrize("how", ["rehash", "touched", "verified"])
def test_silent_damage_is_found_by_every_reader(taken, kind, how):
    server, manifest = taken
    rot(server.object_file(object_of(server, manifest, kind)), seen=False)
    if how == "touched":
        for name in ("small/3", "big"):
            os.utime(server.artifacts / name, (later(), later()))
    if how == "verified":
        assert server.job("verify")[0] == SnapshotDamaged.exit_code
    server.back_up(rehash=how == "rehash")
    assert server.job("verify --all")[0] == 0


def test_recorded_damage_is_read_again_by_every_sample(taken):
    server, manifest = taken
    for number in range(60):
        server.write(f"more/{number}", os.urandom(artifacts.SMALL + 1))
    manifest = server.back_up()
    bad = object_of(server, manifest, "own")
    rot(server.object_file(bad), seen=False)
    assert server.job("verify --all")[0] == SnapshotDamaged.exit_code
    for _ in range(3):
        code, report = server.job("verify --sample 1%")
        assert (code, [found["object"] for found in report["damaged"]]) == (SnapshotDamaged.exit_code, [bad])
    assert recorded(server) == {bad}
    assert server.damage_of(server.back_up()) == []
    assert server.job("verify --sample 1%")[0] == 0


def test_damage_found_in_one_snapshot_is_repaired_by_the_next_backup(taken):
    server, manifest = taken
    rot(server.object_file(object_of(server, manifest, "shared")), seen=False)
    server.job("verify")
    for file in Path(server.backend, "verified").iterdir():
        file.unlink()
    assert server.damage_of(server.back_up()) == []


def test_deleted_content_is_not_reused_from_a_damaged_blob(taken):
    server, manifest = taken
    bad = object_of(server, manifest, "own")
    rot(server.object_file(bad), seen=True)
    (server.artifacts / "big").unlink()
    again = server.back_up()
    assert "big" not in server.entries(again)
    assert server.damage_of(again) == []
    assert recorded(server) == {bad}
    server.write("big", BIG)  # the same content comes back
    assert server.damage_of(server.back_up()) == []
    assert recorded(server) == frozenset()


def test_a_blob_found_damaged_after_the_list_named_it_is_stored_again(taken):
    """Two files share an object. The first is known by its mark, so the list names the object; the second is read
    and proves it."""
    server, manifest = taken
    rot(server.object_file(object_of(server, manifest, "shared")), seen=False)
    os.utime(server.artifacts / "small/7", (1, 1))
    again = server.back_up()
    assert any("copying again" in line for line in server.says)
    assert server.damage_of(again) == []
    assert server.contents(again)["small/0"] == b"0" * 500


def test_no_snapshot_is_made_when_blobs_vanish_meanwhile(taken):
    from mlflow_ae5_server.common.errors import RepositoryFailed

    server, manifest = taken
    gone = server.object_file(object_of(server, manifest, "own"))

    def before(verb, name):
        if verb == "write" and name.startswith("objects/"):
            gone.unlink(missing_ok=True)

    server.write("new", b"new" * 1000)
    with pytest.raises(RepositoryFailed, match="vanished"):
        server.back_up(backend=Wrapped(open_backend(server.backend), before))
    assert [one.id for one in server.repository().snapshots()] == [manifest.id]
    assert server.damage_of(server.back_up()) == []


def test_more_damage_than_is_recorded_by_name_makes_a_backup_read_everything(taken):
    server, manifest = taken
    rot(server.object_file(object_of(server, manifest, "own")), seen=False)
    Path(server.backend, damage.FOLDER).mkdir()
    Path(server.backend, damage.FOLDER, "more").write_bytes(b"{}")
    assert server.damage_of(server.back_up()) == []
    assert not damage.recorded(open_backend(server.backend))


def test_silent_damage_of_unread_blobs_is_found_by_verify_alone(taken):
    """A limit: a backup would have to read every blob to find it."""
    server, manifest = taken
    rot(server.object_file(object_of(server, manifest, "own")), seen=False)
    assert server.back_up(now=later).new_objects == 0
    assert server.job("verify --all")[0] == SnapshotDamaged.exit_code
    server.back_up()
    assert server.job("verify --all")[0] == 0


def test_a_missing_blob_damages_all_snapshots_that_use_it_until_it_is_back(server):
    """Another snapshot that nothing is wrong with is kept, and nothing is dropped as damaged that is whole."""
    server.write("only first", BIG[:300_000])
    whole = server.back_up(now=later)
    (server.artifacts / "only first").unlink()
    server.write("big", BIG)
    shared = [server.back_up(now=later) for _ in range(3)]
    repository = server.repository()
    gone = server.entries(shared[0])["big"].parts[0].sha256
    file = server.object_file(gone)
    content = file.read_bytes()
    file.unlink()
    found = check.verify(repository, shared[2])
    check.note(repository, shared[2], found)

    affected = damage.of_snapshots(repository.backend, [whole, *shared])
    assert affected == {manifest.name: frozenset({gone}) for manifest in shared}
    plan = prune.prune(repository, prune.RetentionPolicy(last=1), apply=False)
    assert whole.id in plan.kept

    file.write_bytes(content)
    with pytest.raises(Configuration, match="is not known to be damaged"):
        prune.prune(repository, prune.RetentionPolicy(), apply=True, drop=[shared[2].id])
    file.unlink()
    server.back_up(now=later)
    state = check.state(repository, shared[2].name)
    assert (recorded(server), state and state.damaged) == (frozenset(), 0)
