"""`backup create` on a folder: everything is in it, and nothing twice."""

import hashlib
import os
import random
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow_ae5_server.backup import artifacts
from mlflow_ae5_server.common.errors import Configuration, Locked, NoSnapshot, RepositoryFailed
from mlflow_ae5_server.repository.repository import named, open_backend
from mlflow_ae5_server.repository.summary import describe

from tests.project_template.repository.conftest import Watched, Wrapped

MANY = {
    "0/r1/artifacts/a.txt": b"hello",
    "0/r1/artifacts/empty": b"",
    "0/r1/artifacts/same.txt": b"hello",
    "0/r1/artifacts/medium.bin": random.Random(1).randbytes(artifacts.SMALL + 1),
    "0/r1/artifacts/large.bin": random.Random(2).randbytes(artifacts.CHUNK * 2 + 17),
    "0/r1/artifacts/zeros.bin": bytes(artifacts.CHUNK * 3),
    "0/r1/artifacts/with space and\nnewline": b"1",
    "0/r1/artifacts/ünï-\U0001f600": b"2",
    "0/r1/artifacts/" + "x" * 255: b"3",
    "0/r1-sorted/before": b"4",
    "0/r1.sorted/between": b"5",
}


def fill(server):
    for path, data in MANY.items():
        server.write(path, data)


def test_every_file_is_in_the_snapshot_as_it_was(server):
    fill(server)
    server.write(b"0/r1/artifacts/not utf-8 \xff\xfe", b"6")
    manifest = server.back_up()
    desired = {**MANY, b"0/r1/artifacts/not utf-8 \xff\xfe".decode("utf-8", "surrogateescape"): b"6"}
    assert server.contents(manifest) == desired
    entries = server.entries(manifest)
    assert {path: entry.sha256 for path, entry in entries.items()} == {
        path: hashlib.sha256(data).hexdigest() for path, data in desired.items()
    }
    assert list(entries) == sorted(entries, key=lambda path: path.encode("utf-8", "surrogateescape"))
    assert (manifest.artifacts.files, manifest.artifacts.bytes) == (len(desired), sum(map(len, desired.values())))
    assert server.damage_of(manifest) == []


def test_a_second_backup_of_an_unchanged_server_copies_nothing(server):
    fill(server)
    first = server.back_up()
    there = server.objects()
    second = server.back_up()
    third = server.back_up(rehash=True)
    assert (second.new_objects, second.new_bytes, third.new_objects) == (0, 0, 0)
    assert server.objects() == there
    assert [m.sequence for m in (first, second, third)] == [1, 2, 3]
    assert first.new_objects > 0
    assert server.contents(third) == MANY


def test_content_is_stored_once_wherever_it_comes_back(server):
    server.write("0/a/model", b"m" * 1000)
    server.write("0/a/large", os.urandom(artifacts.SMALL * 2))
    server.back_up()
    (server.artifacts / "0/a").rename(server.artifacts / "0/gone-and-come-back")
    (server.artifacts / "0/gone-and-come-back").rename(server.folder / "moved")
    server.back_up(allow_empty=True)
    (server.folder / "moved").rename(server.artifacts / "0/b")
    moved = server.back_up()
    kept = {part.sha256 for entry in server.entries(moved).values() for part in entry.parts}
    assert kept <= server.objects()
    assert moved.new_objects == 1, "the list, and no content"


def test_only_changed_files_are_read_again(server):
    for number in range(20):
        server.write(f"{number}", b"%d" % number)
    server.back_up()
    server.write("7", b"seven")
    server.write("new", b"new")

    def read_files(**options):
        source = Watched(server.artifacts)
        server.back_up(source=source, now=lambda: time.time() + 3600, **options)
        return source.read

    assert len(read_files()) == 21, "the marks of files younger than the previous backup are not trusted"
    server.write("8", b"eight")
    assert read_files() == ["8"]
    assert len(read_files(rehash=True)) == 21


def test_an_incompressible_file_takes_its_own_size_and_text_much_less(server):
    server.write("random", os.urandom(1_000_000))
    server.write("text", b"all work and no play\n" * 50_000)
    manifest = server.back_up()
    assert manifest.new_bytes > 2_000_000
    assert 1_000_000 < manifest.stored_bytes < 1_030_000


def test_links_are_recorded_and_not_followed(server):
    server.write("0/file", b"x")
    outside = server.folder / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (server.artifacts / "0/in").symlink_to("file")
    (server.artifacts / "0/out").symlink_to(outside)
    (server.artifacts / "0/up").symlink_to("../../outside/secret")
    os.mkfifo(server.artifacts / "0/pipe")
    manifest = server.back_up()
    kinds = {path: (entry.kind, entry.target) for path, entry in server.entries(manifest).items()}
    assert kinds["0/in"] == ("link", "file")
    assert kinds["0/out"] == ("link", str(outside))
    assert kinds["0/pipe"] == ("special", "")
    assert server.contents(manifest) == {"0/file": b"x"}
    assert [name.partition(" ")[0] for name in manifest.external] == ["0/out", "0/up"]
    assert not manifest.complete


def test_files_that_change_or_vanish_meanwhile_are_counted(server):
    for name in ("changes", "vanishes", "stays"):
        server.write(name, name.encode() * 100_000)

    class Busy(artifacts.FolderArtifacts):
        def stream(self, found, take):
            if found.path == "vanishes":
                (server.artifacts / found.path).unlink()

            def and_change(chunk):
                if found.path == "changes":
                    with (server.artifacts / found.path).open("ab") as stream:
                        stream.write(b"more")
                take(chunk)

            return super().stream(found, and_change)

    manifest = server.back_up(source=Busy(server.artifacts))
    assert (manifest.in_flight.changed_files, manifest.in_flight.vanished_files) == (1, 1)
    assert manifest.in_flight.running_runs == 1
    assert set(manifest.in_flight.names) == {"changes", "vanishes"}
    assert set(server.contents(manifest)) == {"changes", "stays"}
    assert server.contents(manifest)["changes"] == b"changes" * 100_000, "as long as it was when it was opened"
    assert server.damage_of(manifest) == []


def test_a_file_that_is_truncated_while_it_is_read_gets_no_invented_zeros(server):
    path = server.write("log", b"x" * (3 * artifacts.CHUNK))
    source, taken = artifacts.FolderArtifacts(server.artifacts), []
    (artifact,) = source.scan()

    def take(chunk):
        taken.append(chunk)
        os.truncate(path, 10)

    streamed = source.stream(artifact, take)

    assert b"".join(taken) == b"x" * artifacts.CHUNK
    assert (streamed.size, streamed.mark) == (artifacts.CHUNK, "")


def test_a_file_that_cannot_be_read_makes_the_snapshot_incomplete(server):
    server.write("closed", b"x")
    server.write("open", b"y")

    class Closed(artifacts.FolderArtifacts):
        def whole(self, found):
            if found.path == "closed":
                raise artifacts.UnreadableError("Input/output error")
            return super().whole(found)

    manifest = server.back_up(source=Closed(server.artifacts))
    assert manifest.artifacts.unreadable == ("closed: Input/output error",)
    assert not manifest.complete
    assert server.contents(manifest) == {"open": b"y"}


def test_nobody_else_can_read_the_repository(server):
    fill(server)
    server.back_up()
    for path in [Path(server.backend), *Path(server.backend).rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_the_database_among_the_artifacts_is_no_artifact(server):
    server.write("a", b"a")
    (server.folder / "db.sqlite").rename(server.artifacts / "db.sqlite")
    (server.folder / "db.sqlite").symlink_to(server.artifacts / "db.sqlite")
    assert list(server.entries(server.back_up())) == ["a"]


@pytest.mark.parametrize("backend", ["artifacts/backups", "artifacts", "."])
def test_backups_among_the_artifacts_are_refused(server, backend):
    server.write("a", b"a")
    code, report = server.job("create", MLFLOW_TRACKING_BACKUP_DESTINATION=str(server.folder / backend))
    assert code == Configuration.exit_code
    assert "overlap" in report["error"]
    assert list(server.artifacts.iterdir()) == [server.artifacts / "a"]


def test_a_folder_with_other_files_is_refused_and_unchanged(server):
    Path(server.backend).mkdir()
    (Path(server.backend) / "thesis.tex").write_text("mine")
    with pytest.raises(RepositoryFailed, match=r"contains something else: thesis\.tex"):
        server.back_up()
    assert [file.name for file in Path(server.backend).iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("backend", ["ftp://host/x", "hdfs://host/x", "dbfs:/x"])
def test_other_kinds_of_stores_are_refused_with_their_address(server, backend):
    for variable in ("MLFLOW_TRACKING_BACKUP_DESTINATION", "MLFLOW_ARTIFACTS_DESTINATION"):
        code, report = server.job("create", **{variable: backend})
        assert (code, backend in report["error"]) == (Configuration.exit_code, True)


def test_order_comes_from_the_sequence_when_the_clock_goes_back(server):
    first = server.back_up(now=lambda: 2_000_000_000.0)
    second = server.back_up(now=lambda: 1_000_000_000.0)
    repository = server.repository()
    assert repository.snapshot("latest").id == second.id
    assert [one.id for one in repository.snapshots()] == [first.id, second.id]
    assert first.id > second.id, "by its name it would be the newer one"


def test_the_second_of_two_backups_is_refused(server):
    server.write("a", b"a")
    inside, go_on = threading.Event(), threading.Event()

    def hold(_verb, name):
        if name.startswith("objects/"):
            inside.set()
            assert go_on.wait(20)

    backend = Wrapped(open_backend(server.backend), hold)
    thread = threading.Thread(target=lambda: server.back_up(backend=backend))
    thread.start()
    try:
        assert inside.wait(20)
        with pytest.raises(Locked, match="locked by another backup"), server.repository().lock("prune"):
            pass
    finally:
        go_on.set()
        thread.join(20)
    assert len(server.repository().snapshots()) == 1
    assert server.back_up().sequence == 2


def test_a_store_without_anything_in_it_can_be_backed_up(server):
    manifest = server.back_up()
    assert (manifest.artifacts.files, manifest.artifacts.lists) == (0, ())
    assert server.damage_of(manifest) == []


def test_small_files_share_packs(server):
    for number in range(700):
        server.write(f"{number % 50}/{number}", b"%d " % number * 40)
    assert server.back_up().new_objects < 12


def test_long_and_many_names_are_shortened_and_the_manifest_is_readable(server):
    server.sql("INSERT INTO experiments VALUES (1, 's3://bucket/' || hex(zeroblob(50000)))")
    server.write("a", b"a")
    for number in range(70):
        (server.artifacts / f"link{number}").symlink_to("/nowhere/" + "\u200b" * 1300)
    manifest = server.back_up()
    assert len(manifest.external) < 70
    assert server.repository().snapshot("latest") == manifest


def test_a_file_too_large_for_a_snapshot_is_reported_as_unreadable(server):
    server.write("a", b"a")
    with server.write("huge", b"").open("wb") as file:
        file.truncate(3 << 40)
    manifest = server.back_up()
    assert list(server.entries(manifest)) == ["a"]
    assert [name.partition(":")[0] for name in manifest.artifacts.unreadable] == ["huge"]


def test_a_snapshot_is_named_by_its_id_or_the_end_of_it(server):
    first, second = server.back_up(), server.back_up()
    repository = server.repository()
    short = first.id.rpartition("-")[2]

    assert repository.snapshot(first.id).id == repository.snapshot(short).id == first.id
    assert repository.snapshot("latest").id == second.id
    with pytest.raises(NoSnapshot):
        repository.snapshot(short[1:])
    entries = [replace(entry, id=f"2026-{number}-{short}") for number, entry in enumerate(repository.snapshots())]
    assert len(named(entries, short)) == 2
    assert len(named(entries, f"2026-1-{short}")) == 1


def test_a_list_has_what_an_administrator_knows_of_each_snapshot(server):
    fill(server)
    manifest = server.back_up()

    (line,) = describe(server.repository(), server.repository().snapshots())

    assert (line["runs"], line["models"]) == (manifest.runs, manifest.models)
    assert 0 < line["stored_bytes"] == manifest.stored_bytes
    models = {"name": "registered_models", "rows": 3}
    assert replace(manifest, database={**manifest.database, "tables": [models]}).models == 3
