"""Which snapshots go, and that nothing goes that is needed."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from mlflow_ae5_server.errors import UsageError
from mlflow_ae5_server.snapshot import prune
from mlflow_ae5_server.snapshot.manifest import Artifacts, InFlight, Manifest
from mlflow_ae5_server.snapshot.prune import Keep

from tests.project_template.snapshot.keeping.conftest import Server

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
    artifacts=Artifacts("", 0, 0, ()),
    in_flight=InFlight(),
    outside=(),
    new_objects=0,
    new_bytes=0,
    stored_bytes=0,
)


def snapshots(*hours: float) -> list[Manifest]:
    times = [START + timedelta(hours=hour) for hour in hours]
    return [replace(_ONE, id=f"s{n}", sequence=n, started=time.isoformat()) for n, time in enumerate(times)]


@pytest.mark.parametrize(
    ("keep", "hours", "proven", "left"),
    [
        (Keep(), (0, 1, 2), (), (0, 1, 2)),
        (Keep(last=2), (0, 1, 2, 3), (), (2, 3)),
        (Keep(last=0), (0, 1, 2, 3), (), (3,)),
        (Keep(last=9), (0, 1), (), (0, 1)),
        (Keep(last=1), (0, 1, 2, 3), (1,), (1, 3)),
        (Keep(last=0), (0, 1, 2, 3), (1, 0), (0, 1, 3)),
        # the day ends at 24:00 UTC, two hours after the start; the newest of each day stays
        (Keep(daily=2), (0, 1, 2, 3, 30), (), (3, 4)),
        (Keep(daily=3), (0, 1, 2, 3, 30), (), (1, 3, 4)),
        # days without a snapshot do not count
        (Keep(daily=2), (0, 1, 1000), (), (1, 2)),
        # weeks begin on Monday, two hours after the start
        (Keep(weekly=2), (0, 1, 2, 30, 60), (), (1, 4)),
        (Keep(daily=2, weekly=2), (0, 1, 2, 30, 60), (), (1, 3, 4)),
        (Keep(last=2, weekly=2), (0, 1, 2, 30, 60), (), (1, 3, 4)),
        # the clock went back: order is that of the sequence, so the last one is the newest of its day
        (Keep(last=1), (50, 0), (), (1,)),
        (Keep(daily=1), (50, 0), (), (1,)),
        (Keep(last=1), (), (), ()),
    ],
)
def test_what_is_kept(keep: Keep, hours: tuple[float, ...], proven: tuple[int, ...], left: tuple[int, ...]) -> None:
    manifests = snapshots(*hours)
    chosen = prune.choose(manifests, keep, [manifests[number] for number in proven])
    assert tuple(manifest.sequence for manifest in chosen) == left


def test_prune_shows_first_and_then_frees_what_nothing_needs(server: Server) -> None:
    server.write("stays", os.urandom(300_000))
    server.write("small stays", b"small")
    for _ in range(3):
        server.write("changes", os.urandom(400_000))
        server.back_up()
    before = server.objects()
    code, shown = server.job("prune --keep-last 1")
    assert (code, len(shown["would_remove"]), len(shown["kept"])) == (0, 2, 1)
    assert 800_000 < shown["freed_bytes"] < 820_000
    assert (server.objects(), len(server.repository().listed())) == (before, 3)
    code, done = server.job("prune --keep-last 1 --yes")
    assert (code, done["removed"], done["freed_bytes"]) == (0, shown["would_remove"], shown["freed_bytes"])
    (left,) = server.repository().listed()
    assert left.manifest is not None
    assert server.damage_of(left.manifest) == []
    assert len(server.objects()) < len(before)
    again = server.back_up()
    assert again.new_objects == 0


def test_the_newest_verified_snapshot_never_goes(server: Server) -> None:
    taken = []
    for number in range(5):
        server.write("a", b"%d" % number)
        taken.append(server.back_up().id)
    server.job(f"verify --snapshot {taken[0]}")
    server.job(f"verify --snapshot {taken[1]} --all")
    server.job(f"verify --snapshot {taken[2]} --sample 1%")
    assert server.job("prune --keep-last 1 --yes")[1]["kept"] == [taken[1], taken[2], taken[4]]
    server.job(f"verify --snapshot {taken[4]}")
    assert server.job("prune --keep-last 0 --yes")[1]["kept"] == [taken[4]]


def test_a_sample_does_not_unsay_that_all_was_right(server: Server) -> None:
    server.write("a", os.urandom(300_000))
    taken = [server.back_up().id for _ in range(3)]
    server.job(f"verify --snapshot {taken[0]} --all")
    server.job(f"verify --snapshot {taken[0]} --sample 50%")
    server.job(f"verify --snapshot {taken[1]} --sample 50%")
    assert server.job("prune --keep-last 1 --yes")[1]["kept"] == taken


@pytest.mark.parametrize("words", ["--keep-last=-1", "--keep-daily=-2", "--keep-weekly=-1 --yes"])
def test_less_than_none_is_refused(server: Server, words: str) -> None:
    server.back_up()
    assert server.job(f"prune {words}")[0] == UsageError.exit_code
    assert len(server.repository().listed()) == 1


def test_without_words_only_leftovers_go(server: Server) -> None:
    for number in range(3):
        server.write("a", b"%d" % number * 1000)
        server.back_up()
    contents = server.repository().place
    contents.write("objects/ab/" + "ab" * 32, b"rnobody needs this")
    contents.write("unfinished/00000009-20200101T000000Z-abcdef.json", b"{}")
    assert server.job("list")[1]["unfinished"] == ["20200101T000000Z-abcdef"]
    code, done = server.job("prune --yes")
    assert (code, len(done["kept"]), done["removed"], done["objects"]) == (0, 3, [], 1)
    assert done["unfinished"] == ["20200101T000000Z-abcdef"]
    assert server.job("list")[1]["unfinished"] == []
    for one in server.repository().listed():
        assert one.manifest is not None
        assert server.damage_of(one.manifest) == []


def test_what_is_left_of_a_shared_object_moves_out_when_most_of_it_is_gone(server: Server) -> None:
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
