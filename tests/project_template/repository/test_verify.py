"""Damage is found, named, and healed by the next backup; damaged manifests are refused by name."""
# ruff: noqa: S608

import json
import os
import random
from pathlib import Path

import pytest
from mlflow_ae5_server.backup import artifacts
from mlflow_ae5_server.common.errors import NoSnapshot, SnapshotDamaged, Usage
from mlflow_ae5_server.repository import blobs, check

BIG = os.urandom(700_000)


@pytest.fixture
def taken(server):
    server.write("small", b"small" * 100)
    server.write("text", b"text " * 100_000)
    server.write("big", BIG)
    return server, server.back_up()


def manifest_file(server, manifest):
    return Path(server.backend, "snapshots", manifest.name)


DAMAGE = {
    "missing": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "too short": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "too long": lambda file: file.write_bytes(file.read_bytes() + b"x"),
    "flipped bit": lambda file: file.write_bytes(_flipped(file.read_bytes(), -20)),
    "flipped kind": lambda file: file.write_bytes(_flipped(file.read_bytes(), 0)),
    "another object": lambda file: file.write_bytes(blobs.encode(b"something else")),
}


def _flipped(data, at):
    changed = bytearray(data)
    changed[at] ^= 4
    return bytes(changed)


@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("path", ["small", "text", "big"])
def test_a_damaged_object_is_found_named_and_healed(taken, path, what):
    server, manifest = taken
    (part,) = server.entries(manifest)[path].parts
    DAMAGE[what](server.object_file(part.sha256))
    code, report = server.job("verify")
    assert code == SnapshotDamaged.exit_code
    assert [found["object"] for found in report["damaged"]] == [part.sha256]
    assert report["checked_objects"] + (what in {"missing", "empty"}) == report["of_objects"]
    with pytest.raises(SnapshotDamaged, match=part.sha256):
        server.contents(manifest)
    assert server.job("list")[1]["snapshots"][0]["verified"] is None
    again = server.back_up()
    assert again.new_objects == 1
    assert server.job("verify")[0] == 0
    assert server.damage_of(manifest) == [], "the older snapshot is whole again, too"


def test_an_object_that_is_lost_is_stored_again_without_anyone_asking(taken):
    server, manifest = taken
    for sha256 in server.objects():
        server.object_file(sha256).unlink()
    assert server.damage_of(server.back_up()) == []
    assert server.damage_of(manifest) == []


def test_a_sample_reads_a_share_and_finds_every_missing_blob(server):
    for number in range(60):
        server.write(f"{number}", random.Random(number).randbytes(artifacts.SMALL + 1))
    manifest = server.back_up()
    verified = check.verify(server.repository(), manifest, fraction=0.1)
    assert verified.of_objects > 60
    assert verified.checked_objects == round(verified.of_objects * 0.1)
    assert server.job("verify --sample 0.001%")[1]["checked_objects"] == 1
    server.object_file(server.entries(manifest)["7"].sha256).unlink()
    assert server.job("verify --sample 1%")[0] == SnapshotDamaged.exit_code


def test_a_sample_is_reported_as_one_and_does_not_count_as_verified(server, capsys):
    for number in range(3):
        server.write(f"{number}", random.Random(number).randbytes(artifacts.SMALL + 1))
    manifest = server.back_up()

    def listed():
        capsys.readouterr()
        (line,) = server.job("list")[1]["snapshots"]
        message = capsys.readouterr().err
        shown = server.job("show")[1]["manifest"]
        assert (shown["verified"], shown["sampled"]) == (line["verified"], line["sampled"])
        return bool(line["verified"]), line["sampled"] and (line["sampled"]["checked"], line["sampled"]["of"]), message

    assert listed()[:2] == (False, None)
    server.job("verify --sample 1%")
    verified, sampled, message = listed()
    assert (verified, sampled) == (False, (1, 5))
    assert "  sampled, 1 of 5, 20" in message
    server.job("verify --sample 100%")
    assert listed()[:2] == (True, None)
    note = Path(server.backend, "verified", manifest.name)
    full = json.loads(note.read_text()) | {"in_full": "2026-01-01T00:00:00+00:00"}
    note.write_text(json.dumps(full))
    server.job("verify --sample 1%")
    verified, sampled, message = listed()
    assert (verified, sampled) == (True, (1, 5))
    assert "verified 2026-01-01 00:00 UTC; sampled, 1 of 5" in message
    server.object_file(server.entries(manifest)["1"].sha256).unlink()
    server.job("verify --sample 1%")
    assert listed()[:2] == (False, None)


@pytest.mark.parametrize("sample", ["0", "0%", "101%", "-1%", "some", "nan"])
def test_an_invalid_share_is_refused(taken, sample):
    server, _manifest = taken
    assert server.job(f"verify --sample={sample}")[0] == Usage.exit_code


def test_every_flipped_bit_of_a_manifest_is_noticed(taken):
    server, manifest = taken
    file = manifest_file(server, manifest)
    good = file.read_bytes()
    for at in random.Random(3).sample(range(len(good)), 150):
        file.write_bytes(_flipped(good, at))
        (one,) = server.repository().snapshots()
        assert one.manifest is None
    assert manifest.id in one.problem
    with pytest.raises(SnapshotDamaged, match=manifest.id):
        server.repository().snapshot("latest")
    code, report = server.job("list")
    assert (code, report["snapshots"][0]["complete"]) == (0, False)
    assert manifest.id in report["snapshots"][0]["damaged"]
    assert server.job("prune --keep-last 1 --yes")[0] == SnapshotDamaged.exit_code
    second = server.back_up()
    assert (second.sequence, server.damage_of(second)) == (2, [])
    assert server.repository().snapshot("latest").id == second.id
    file.write_bytes(good)
    assert server.repository().snapshot(manifest.id) == manifest


def test_two_manifests_of_one_id(taken):
    server, manifest = taken
    file = manifest_file(server, manifest)
    copy = file.with_name(file.name.replace("00000001-", "00000005-"))
    copy.write_bytes(file.read_bytes())
    assert [one.manifest is None for one in server.repository().snapshots()] == [False, True]
    for which in (manifest.id, "latest"):
        with pytest.raises(SnapshotDamaged, match=copy.name):
            server.repository().snapshot(which)
    next_one = server.back_up()
    assert next_one.sequence == 6
    copy.unlink()
    assert server.repository().snapshot(manifest.id) == manifest


def test_a_list_that_cannot_be_read_is_named(taken):
    server, manifest = taken
    server.object_file(manifest.artifacts.lists[0]).unlink()
    code, report = server.job("verify")
    assert code == SnapshotDamaged.exit_code
    assert {"object": manifest.artifacts.lists[0], "what": "missing"} in report["damaged"]
    with pytest.raises(SnapshotDamaged):
        list(server.repository().files(manifest))
    assert server.damage_of(server.back_up()) == []


def test_an_empty_destination_has_no_snapshot(server):
    for words in ("list", "show", "verify", "prune"):
        assert server.job(words)[0] == NoSnapshot.exit_code
    assert not Path(server.backend).exists()
    server.repository()
    assert server.job("list") == (0, {**server.job("list")[1], "snapshots": []})
    for words in ("show", "verify --snapshot latest", "show --snapshot 20200101T000000Z-abcdef"):
        assert server.job(words)[0] == NoSnapshot.exit_code


def test_list_show_and_create_say_what_is_in_a_snapshot(server):
    server.use_mlflow()
    server.write("a", b"hello")
    code, created = server.job("create --allow-external")
    assert (code, created["outcome"]) == (0, "done")
    assert (created["artifacts"], created["artifact_bytes"]) == (1, 5)
    assert (created["runs"], created["deleted_runs"]) == (5, 2)
    assert created["rows"] > created["runs"]
    assert created["in_flight"].keys() == {"running_runs", "changed_files", "vanished_files"}
    server.job("verify")
    (line,) = server.job("list")[1]["snapshots"]
    assert (line["snapshot"], line["dialect"], line["rows"]) == (created["snapshot"], "sqlite", created["rows"])
    assert line["verified"]
    shown = server.job("show")[1]["manifest"]
    tables = {table["name"]: table["rows"] for table in shown["database"]["tables"]}
    for each in (line, shown):
        assert (each["runs"], each["deleted_runs"]) == (5, 2)
    assert tables["runs"] == 7
    assert shown["id"] == created["snapshot"]
    assert shown["database"]["tables"][0]["digest"]
    assert created["rows"] == sum(tables.values()) - tables["alembic_version"]  # as of a database in place
    assert "lists" not in shown["artifacts"]
    again = server.job("create --allow-external")[1]
    assert (again["new_objects"], again["new_bytes"], again["stored_bytes"]) == (0, 0, 0)


def test_external_artifacts_are_reported_and_make_the_snapshot_incomplete(server):
    server.use_mlflow()
    server.sql("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/' || experiment_id")
    server.sql("UPDATE runs SET artifact_uri = 'mlflow-artifacts:/0/' || run_uuid || '/artifacts'")
    server.sql("UPDATE model_versions SET storage_location = NULL")
    server.sql("DELETE FROM trace_request_metadata")
    server.sql("DELETE FROM trace_tags")
    server.write("a", b"a")
    code, report = server.job("create")
    assert (code, report["outcome"], report["external"]) == (0, "done", [])
    server.sql(f"UPDATE experiments SET artifact_location = '{server.artifacts}/1' WHERE experiment_id = 0")
    server.sql("UPDATE experiments SET artifact_location = 's3://elsewhere/2' WHERE experiment_id = 1")
    some = "(SELECT min(run_uuid) FROM runs)"
    server.sql(
        f"UPDATE runs SET artifact_uri = 'file://{server.folder}/old/{'a' * 32}/artifacts' WHERE run_uuid={some}"
    )
    last = "(SELECT max(run_uuid) FROM runs)"
    server.sql(f"UPDATE runs SET artifact_uri = 's3://u:pa55word@there/2/{'b' * 32}/artifacts' WHERE run_uuid={last}")
    code, report = server.job("create")
    assert (code, report["outcome"]) == (23, "incomplete")
    assert report["external"] == ["s3://elsewhere/2", f"file://{server.folder}/old", "s3://u:********@there/2"]
    assert server.job("create --allow-external")[0] == 0
    assert [line["complete"] for line in server.job("list")[1]["snapshots"]] == [True, False, False]
