"""Which snapshots a prune removes, and that it removes nothing that is needed."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow_ae5_server.common.errors import Configuration, RestoreUnfinished, SnapshotDamaged, Usage
from mlflow_ae5_server.repository import damage
from mlflow_ae5_server.repository.manifest import ArtifactsPart, InFlight, Manifest
from mlflow_ae5_server.repository.prune import RetentionPolicy
from mlflow_ae5_server.restore.journal import RestoreInProgress, RestoreJournalFile
from mlflow_ae5_server.restore.open import open_saved_copies

START = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)  # a Sunday
_ONE = Manifest(
    id="",
    sequence=0,
    started="",
    finished="",
    read_from=0,
    mlflow_version="",
    release="",
    dialect="",
    revision="",
    tables=0,
    rows=0,
    runs=0,
    database={},
    artifacts=ArtifactsPart("", 0, 0, ()),
    in_flight=InFlight(),
    external=(),
    new_objects=0,
    new_bytes=0,
    stored_bytes=0,
)


def snapshots(*hours):
    times = [START + timedelta(hours=hour) for hour in hours]
    return [replace(_ONE, id=f"s{n}", sequence=n, started=time.isoformat()) for n, time in enumerate(times)]


@pytest.mark.parametrize(
    ("keep", "hours", "proven", "left"),
    [
        (RetentionPolicy(), (0, 1, 2), (), (0, 1, 2)),
        (RetentionPolicy(last=2), (0, 1, 2, 3), (), (2, 3)),
        (RetentionPolicy(last=0), (0, 1, 2, 3), (), (3,)),
        (RetentionPolicy(last=9), (0, 1), (), (0, 1)),
        (RetentionPolicy(last=1), (0, 1, 2, 3), (1,), (1, 3)),
        (RetentionPolicy(last=0), (0, 1, 2, 3), (1, 0), (0, 1, 3)),
        # the day ends at 24:00 UTC, two hours after the start; the newest of each day stays
        (RetentionPolicy(daily=2), (0, 1, 2, 3, 30), (), (3, 4)),
        (RetentionPolicy(daily=3), (0, 1, 2, 3, 30), (), (1, 3, 4)),
        # days without a snapshot do not count
        (RetentionPolicy(daily=2), (0, 1, 1000), (), (1, 2)),
        # weeks begin on Monday, two hours after the start
        (RetentionPolicy(weekly=2), (0, 1, 2, 30, 60), (), (1, 4)),
        (RetentionPolicy(daily=2, weekly=2), (0, 1, 2, 30, 60), (), (1, 3, 4)),
        (RetentionPolicy(last=2, weekly=2), (0, 1, 2, 30, 60), (), (1, 3, 4)),
        # the clock was set back: order is that of the sequence, so the last one is the newest of its day
        (RetentionPolicy(last=1), (50, 0), (), (1,)),
        (RetentionPolicy(daily=1), (50, 0), (), (1,)),
        (RetentionPolicy(last=1), (), (), ()),
    ],
)
def test_a_policy_keeps_these_snapshots(keep, hours, proven, left):
    manifests = snapshots(*hours)
    chosen = keep.choose(manifests, {manifests[number].name: "verified" for number in proven})
    assert tuple(manifest.sequence for manifest in manifests if manifest.name in chosen) == left


def test_each_snapshot_is_kept_for_a_reason():
    manifests = snapshots(0, 1, 2, 3, 30, 31)
    chosen = RetentionPolicy(last=2, daily=2, weekly=2).choose(manifests, {manifests[0].name: "verified"})
    assert list(chosen.values()) == ["verified", "the newest of its week", "the newest of its day", "among the newest",
                                     "the newest"]  # fmt: skip


def test_prune_plans_first_and_then_frees_unused_blobs(server):
    server.write("stays", os.urandom(300_000))
    server.write("small stays", b"small")
    for _ in range(3):
        server.write("changes", os.urandom(400_000))
        server.back_up()
    before = server.objects()
    code, shown = server.job("prune --keep-last 1")
    assert (code, len(shown["would_remove"]), len(shown["kept"])) == (0, 2, 1)
    assert 800_000 < shown["freed_bytes"] < 820_000
    assert (server.objects(), len(server.repository().snapshots())) == (before, 3)
    code, done = server.job("prune --keep-last 1 --yes")
    assert (code, done["removed"], done["freed_bytes"]) == (0, shown["would_remove"], shown["freed_bytes"])
    (left,) = server.repository().snapshots()
    assert left.manifest is not None
    assert server.damage_of(left.manifest) == []
    assert len(server.objects()) < len(before)
    again = server.back_up()
    assert again.new_objects == 0


def test_the_newest_verified_snapshot_is_never_removed(server):
    taken = []
    for number in range(5):
        server.write("a", b"%d" % number)
        taken.append(server.back_up().id)
    server.job(f"verify --snapshot {taken[0]}")
    server.job(f"verify --snapshot {taken[1]} --all")
    server.job(f"verify --snapshot {taken[2]} --sample 1%")
    report = server.job("prune --keep-last 1 --yes")[1]
    assert dict(zip(report["kept"], report["kept_because"], strict=True)) == {
        taken[1]: "the newest that was verified in full",
        taken[2]: "the newest that was verified in part",
        taken[4]: "the newest",
    }
    server.job(f"verify --snapshot {taken[4]}")
    assert server.job("prune --keep-last 0 --yes")[1]["kept"] == [taken[4]]


def test_a_sample_does_not_replace_a_full_check(server):
    server.write("a", os.urandom(300_000))
    taken = [server.back_up().id for _ in range(3)]
    server.job(f"verify --snapshot {taken[0]} --all")
    server.job(f"verify --snapshot {taken[0]} --sample 50%")
    server.job(f"verify --snapshot {taken[1]} --sample 50%")
    assert server.job("prune --keep-last 1 --yes")[1]["kept"] == taken


@pytest.mark.parametrize("words", ["--keep-last=-1", "--keep-daily=-2", "--keep-weekly=-1 --yes"])
def test_a_negative_number_is_refused(server, words):
    server.back_up()
    assert server.job(f"prune {words}")[0] == Usage.exit_code
    assert len(server.repository().snapshots()) == 1


def test_without_a_policy_only_leftovers_are_removed(server):
    for number in range(3):
        server.write("a", b"%d" % number * 1000)
        server.back_up()
    contents = server.repository().backend
    contents.write("objects/ab/" + "ab" * 32, b"rnobody needs this")
    contents.write("unfinished/00000009-20200101T000000Z-abcdef.json", b"{}")
    assert server.job("list")[1]["unfinished"] == ["20200101T000000Z-abcdef"]
    code, done = server.job("prune --yes")
    assert (code, len(done["kept"]), done["removed"], done["objects"]) == (0, 3, [], 1)
    assert done["unfinished"] == ["20200101T000000Z-abcdef"]
    assert server.job("list")[1]["unfinished"] == []
    for one in server.repository().snapshots():
        assert one.manifest is not None
        assert server.damage_of(one.manifest) == []


def test_the_rest_of_a_mostly_unused_pack_is_stored_again(server):
    for number in range(40):
        server.write(f"{number}", os.urandom(1000))
    (shared,) = {part.sha256 for entry in server.entries(server.back_up()).values() for part in entry.parts}
    left = {f"{number}": (server.artifacts / f"{number}").read_bytes() for number in range(5)}
    for number in range(5, 40):
        (server.artifacts / f"{number}").unlink()
    server.back_up(waste=0)
    unchanged = server.back_up()
    assert (unchanged.new_objects, shared in server.objects()) == (0, True), "35 kB are not worth it"
    moved = server.back_up(waste=0)
    assert moved.new_objects == 2, "the new shared object, and the list"
    assert server.back_up(waste=0).new_objects == 0
    assert server.job("prune --keep-last 1 --yes")[0] == 0
    assert shared not in server.objects()
    newest = server.repository().snapshot()
    assert (server.contents(newest), server.damage_of(newest)) == (left, [])


# snapshots that lack blobs ---------------------------------------------------------------------------


def lose(server, manifest, what):
    """An object that no other snapshot has."""
    (artifact,) = {part.sha256 for part in server.entries(manifest)["a"].parts}
    lost = {"database": manifest.database["file"][0], "artifact": artifact, "list": manifest.artifacts.lists[0]}[what]
    server.object_file(lost).unlink()
    return lost


def take(server, count):
    """Snapshots that have nothing in common."""
    taken = []
    for _ in range(count):
        server.sql("INSERT INTO runs VALUES ('more', 'mlflow-artifacts:/0/1/artifacts', 'FINISHED', 'active')")
        server.write("a", os.urandom(400_000))
        taken.append(server.back_up())
    return taken


def ids(manifests):
    return [manifest.id for manifest in manifests]


@pytest.mark.parametrize("what", ["database", "artifact"])
@pytest.mark.parametrize("empty", [False, True])
def test_a_whole_snapshot_stays_while_the_newest_lacks_something(server, what, empty):
    oldest, whole, newest = take(server, 3)
    lost = lose(server, newest, what)
    if empty:
        server.object_file(lost).touch()
    code, shown = server.job("prune --keep-last 1")
    assert (code, shown["would_remove"], shown["kept"]) == (0, [oldest.id], ids([whole, newest]))
    assert not damage.recorded(server.repository().backend), "it only looked"
    code, done = server.job("prune --keep-last 1 --yes")
    assert (code, done["removed"], done["kept"]) == (0, [oldest.id], ids([whole, newest]))
    assert done["incomplete"] == [{"snapshot": newest.id, "what": "1 object missing"}]
    assert server.damage_of(whole) == []
    listed = server.job("list")[1]["snapshots"]
    assert [line.get("damaged") for line in listed] == [None, "1 object missing or damaged"]
    take(server, 1)
    assert server.job("prune --keep-last 1 --yes")[1]["removed"] == ids([whole, newest])
    assert not damage.recorded(server.repository().backend), "nothing that is left needs it"


def test_a_snapshot_that_was_verified_and_has_lost_something_since_is_not_relied_on(server):
    taken = take(server, 4)
    for number in (0, 1):
        server.job(f"verify --snapshot {taken[number].id}")
    lose(server, taken[1], "artifact")
    assert server.job("prune --keep-last 1 --yes")[1]["kept"] == ids([taken[0], taken[3]])


@pytest.mark.parametrize("what", ["database", "artifact", "list"])
@pytest.mark.parametrize("words", ["--keep-last 1 --yes", "--yes", "--keep-last 1"])
def test_nothing_is_removed_where_no_snapshot_is_whole(server, what, words):
    taken = take(server, 2)
    for manifest in taken:
        lose(server, manifest, what)
    server.repository().backend.write("objects/ab/" + "ab" * 32, b"rnobody needs this")
    before = server.objects()
    code, report = server.job(f"prune {words}")
    assert code == SnapshotDamaged.exit_code
    assert all(f"{manifest.id}: 1 object missing" in report["error"] for manifest in taken)
    assert "nothing was deleted" in report["error"]
    assert (server.objects(), len(server.repository().snapshots())) == (before, 2)
    assert bool(damage.recorded(server.repository().backend)) == ("--yes" in words)
    assert server.job(f"prune {words}")[1]["error"] == report["error"], "though it is known by now"


def test_damage_found_by_a_check_is_named_where_no_snapshot_is_whole(server):
    first, second = take(server, 2)
    server.object_file(first.database["file"][0]).write_bytes(b"rot")
    server.job(f"verify --snapshot {first.id}")
    lose(server, second, "database")
    _code, report = server.job("prune --keep-last 1 --yes")
    assert f"{second.id}: 1 object missing; {first.id}: a check has found it damaged" in report["error"]


@pytest.mark.parametrize("what", ["database", "artifact", "list"])
def test_a_damaged_snapshot_is_not_dropped_while_no_other_can_be_restored(server, what):
    first, second = take(server, 2)
    (artifact,) = {part.sha256 for part in server.entries(first)["a"].parts}
    server.object_file(artifact).write_bytes(b"rot")
    assert server.job(f"verify --snapshot {first.id}")[0] == SnapshotDamaged.exit_code
    lose(server, second, what)
    before = server.objects()
    for words in (f"--drop-damaged {first.id}", f"--drop-damaged {first.id} --drop-damaged {second.id}"):
        code, report = server.job(f"prune {words} --yes")
        assert (code, server.objects()) == (Configuration.exit_code, before)
        assert "would be left" in report["error"]
    assert f"({second.id}: 1 object missing" in server.job(f"prune --drop-damaged {first.id}")[1]["error"]
    (whole,) = take(server, 1)
    code, done = server.job(f"prune --drop-damaged {first.id} --drop-damaged {second.id} --yes")
    assert (code, done["removed"], done["kept"]) == (0, ids([first, second]), [whole.id])
    assert server.damage_of(whole) == []


def test_nothing_is_removed_while_a_restore_is_interrupted(server):
    old, other, new = take(server, 3)
    journal_file = RestoreJournalFile(open_saved_copies(str(server.artifacts)))
    journal_file.begin(RestoreInProgress("restore-artifacts", old.id, "2026-01-02T03:04:05+00:00", "elsewhere:1"))
    before, right = server.objects(), server.object_file(new.database["file"][0]).read_bytes()
    server.object_file(new.database["file"][0]).write_bytes(b"rot")
    server.job(f"verify --snapshot {new.id}")
    for words in ("--keep-last 1 --yes", "--yes", f"--drop-damaged {new.id} --yes"):
        code, report = server.job(f"prune {words}")
        assert (code, server.objects()) == (RestoreUnfinished.exit_code, before)
        assert f"a restore of the snapshot {old.id}" in report["interrupted_restore"]
    assert ids([one.manifest for one in server.repository().snapshots() if one.manifest]) == ids([old, other, new])
    code, shown = server.job("prune --keep-last 1")
    assert (code, shown["outcome"]) == (0, "dry-run")
    assert old.id in shown["interrupted_restore"]
    for manifest in (old, other):  # so that no object could go
        Path(server.backend, "snapshots", manifest.name).write_bytes(b"")
    server.object_file(new.database["file"][0]).write_bytes(right)
    server.job(f"verify --snapshot {new.id}")
    assert server.job(f"prune --drop-damaged {other.id} --yes")[0] == RestoreUnfinished.exit_code
    journal_file.end()
    assert server.job(f"prune --drop-damaged {other.id} --yes")[1]["removed"] == [other.id]


# a backup that prunes ---------------------------------------------------------------------------------


@pytest.fixture
def mlflow_server(server):
    server.use_mlflow()
    server.write("0/run/artifacts/a", b"a")
    return server


def listed(server):
    return ids([one.manifest for one in server.repository().snapshots() if one.manifest])


def test_a_backup_with_a_policy_deletes_older_snapshots_after_it_has_succeeded(mlflow_server, capsys):
    made = [mlflow_server.job("create --allow-external")[1]["snapshot"] for _ in range(3)]
    assert listed(mlflow_server) == made, "without a policy, nothing is deleted"
    mlflow_server.job(f"verify --snapshot {made[0]}")

    code, done = mlflow_server.job("create --allow-external --keep-last 2")

    kept = [made[0], made[2], done["snapshot"]]  # the first is the newest verified one
    assert (code, done["outcome"], done["removed"], done["kept"]) == (0, "done", [made[1]], kept)
    assert (listed(mlflow_server), done["snapshot_count"]) == (kept, 3)
    assert f"deleted snapshot {made[1]}" in capsys.readouterr().err


def fails(server):
    server.database.file.unlink()


def is_incomplete(server):
    server.sql("INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
               "VALUES (99, 'external', 's3://elsewhere/x', 'active')")  # fmt: skip


def lacks_much(server):
    for number in range(200):
        server.artifacts.joinpath(f"0/run/artifacts/{number}").unlink()


DOUBTS = [("it failed", fails, 3), ("it is incomplete", is_incomplete, 23), ("much is missing", lacks_much, 0)]


@pytest.mark.parametrize(("case", "change", "code"), DOUBTS, ids=[row[0] for row in DOUBTS])
def test_a_backup_in_doubt_deletes_nothing(mlflow_server, case, change, code):
    for number in range(200):
        mlflow_server.write(f"0/run/artifacts/{number}", b"%d" % number)
    made = [mlflow_server.job("create --allow-external")[1]["snapshot"] for _ in range(2)]
    change(mlflow_server)

    ended, report = mlflow_server.job("create --keep-last 1")

    assert ended == code, report
    assert "removed" not in report
    assert listed(mlflow_server)[:2] == made


def test_a_prune_that_fails_leaves_the_backup_a_success(mlflow_server, capsys):
    made = [mlflow_server.job("create --allow-external")[1]["snapshot"] for _ in range(2)]
    Path(mlflow_server.backend, "snapshots", mlflow_server.repository().snapshots()[0].name).write_bytes(b"{}")

    code, report = mlflow_server.job("create --allow-external --keep-last 1")

    assert (code, report["outcome"], listed(mlflow_server)) == (0, "done", [made[1], report["snapshot"]])
    assert "nothing was deleted" in report["prune_error"]
    assert "drop-damaged" in report["prune_hint"]
    assert "older snapshots were not deleted" in capsys.readouterr().err


def test_a_wrong_number_is_refused_before_the_backup(mlflow_server):
    assert mlflow_server.job("create --keep-last=-1")[0] == Usage.exit_code
    assert listed(mlflow_server) == []
