from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from mlflow_ae5_deploy.common.errors import Configuration, ReleaseRefused
from mlflow_ae5_deploy.config.settings import SlipstreamSettings
from mlflow_ae5_deploy.release.archive import read_project_archive
from mlflow_ae5_deploy.release.customize import build
from mlflow_ae5_deploy.release.models import BuiltArchive, Release
from mlflow_ae5_deploy.release.provenance import same_content

TOP = "mlflow.tracking.server"
EVERYTHING = SlipstreamSettings(
    variables={"MLFLOW_TRACKING_GC_TTL": "7d0h0m0s", "NEW": "no"},
    dependencies={"mlflow": "==3.17.1", "cowsay": "=2.9"},
    channels=["https://mirror.example/conda"],
    commands={"Hello": {"unix": "echo hello"}},
)


def read(built: BuiltArchive, path: str) -> bytes:
    with tarfile.open(built.path) as tar:
        stream = tar.extractfile(f"{TOP}/{path}")
        assert stream is not None
        return stream.read()


def names(built: BuiltArchive) -> list[str]:
    with tarfile.open(built.path) as tar:
        return tar.getnames()


def test_the_same_input_gives_the_same_bytes(template, tmp_path, make):
    first = build(template, EVERYTHING, tmp_path / "one" / "a.tar.gz")
    for path in template.path.rglob("*"):  # other times, other permissions, other order of making
        os.utime(path, (1, 1))
        if path.is_file():
            path.chmod(0o600 | (path.stat().st_mode & 0o100))
    shuffled = EVERYTHING.model_copy(update={"variables": dict(reversed(EVERYTHING.variables.items()))})
    umask = os.umask(0o077)
    try:
        second = build(template, shuffled, tmp_path / "two" / "other-name.tar.gz")
    finally:
        os.umask(umask)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert (first.sha256, first.content_digest, first.size) == (second.sha256, second.content_digest, second.size)
    assert first.size == first.path.stat().st_size


def test_same_content_from_elsewhere_has_the_same_digest(template, tmp_path, make):
    archive = make.tar(tmp_path / "a.tar.gz", make.good())
    from_archive = Release("path", None, "a.tar.gz", archive, "0" * 64, "none")
    one = build(template, SlipstreamSettings(), tmp_path / "one.tar.gz")
    two = build(from_archive, SlipstreamSettings(), tmp_path / "two.tar.gz")
    assert one.content_digest == two.content_digest
    assert one.sha256 != two.sha256  # their provenance differs


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "run.sh").write_text("other"),
        lambda folder: (folder / "run.sh").rename(folder / "rum.sh"),
        lambda folder: (folder / "new").write_text(""),
    ],
)
def test_any_difference_changes_the_digest(template, tmp_path, change):
    before = build(template, SlipstreamSettings(), tmp_path / "a.tar.gz").content_digest
    change(template.path)
    assert build(template, SlipstreamSettings(), tmp_path / "a.tar.gz").content_digest != before


def test_modes_which_the_platform_does_not_give_back_are_no_part_of_the_content(template, tmp_path):
    before = build(template, SlipstreamSettings(), tmp_path / "a.tar.gz")
    (template.path / "run.sh").chmod(0o644)
    after = build(template, SlipstreamSettings(), tmp_path / "b.tar.gz")
    assert before.path.read_bytes() != after.path.read_bytes()
    assert same_content(before.path.read_bytes(), after).same


def test_the_archive_has_no_time_owner_or_order_of_its_own(template, tmp_path):
    built = build(template, SlipstreamSettings(), tmp_path / "a.tar.gz")
    data = built.path.read_bytes()
    assert data[3] == 0  # no file name in the gzip header
    assert data[4:8] == b"\0\0\0\0"  # no time either
    assert built.path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(built.path) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == sorted(m.name for m in members)
    assert {m.name.partition("/")[0] for m in members} == {TOP}
    assert {(m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, "", "")}
    assert len({m.mtime for m in members}) == 1
    assert {m.name: m.mode for m in members if m.isfile()}[f"{TOP}/run.sh"] == 0o755
    assert {m.mode for m in members} == {0o644, 0o755}


def test_the_archive_holds_its_provenance(template, tmp_path):
    built = build(template, EVERYTHING, tmp_path / "a.tar.gz")
    inside = json.loads(read(built, ".mlflow-ae5-deploy/provenance.json"))
    assert inside == built.provenance
    assert inside["schema"] == 1
    assert inside["release"] == {"kind": "bundled", "version": "0.1.0", "source": "bundled", "sha256": None}
    assert inside["content_digest"] == built.content_digest
    assert inside["changes"] == list(built.changes)
    assert inside["tool"].startswith("mlflow-ae5-deploy ")
    assert set(inside["files"]) == {"anaconda-project.yml", "run.sh", "server/__init__.py"}
    assert str(tmp_path) not in json.dumps(inside)


def test_untouched_project_file_stays_as_it_is(template, tmp_path, make):
    built = build(template, SlipstreamSettings(), tmp_path / "a.tar.gz")
    assert read(built, "anaconda-project.yml") == make.project
    assert built.changes == ()
    same = SlipstreamSettings(variables={"MLFLOW_TRACKING_GC_TTL": "30d0h0m0s"}, dependencies={"python": "=3.11"})
    again = build(template, same, tmp_path / "b.tar.gz")
    assert again.content_digest == built.content_digest
    assert again.changes == ()


def test_result_is_a_project_archive(template, tmp_path):
    built = build(template, EVERYTHING, tmp_path / "a.tar.gz")
    contents = read_project_archive(built.path)
    assert contents.top == TOP
    assert built.commands == contents.commands == ("TrackingServer", "GarbageCollection", "Hello")
    assert built.env_specs == ("default", "minimum")
    assert contents.variables["NEW"] == "no"


def test_what_must_not_travel_is_left_out(template, tmp_path):
    litter = [".git/config", "server/__pycache__/x.pyc", "x.pyc", ".ruff_cache/x", ".mlflow-ae5-deploy/provenance.json"]
    reported = ["envs/default/bin/python", "anaconda-project-local.yml", ".env", "server/.env"]
    kept = ["server/data/x", "data.txt", "environment", "server/envs/x"]
    for name in [*litter, *reported, *kept]:
        path = template.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    built = build(template, SlipstreamSettings(), tmp_path / "a.tar.gz")
    inside = set(names(built))
    assert all(f"{TOP}/{name}" in inside for name in kept)
    assert not any(f"{TOP}/{name}" in inside for name in [*litter[:-1], *reported])
    assert [change.split(" ")[0] for change in built.changes] == [
        ".env",
        "anaconda-project-local.yml",
        "envs",
        "server/.env",
    ]
    assert set(built.provenance["files"]) >= set(kept)


def test_data_folder_is_dropped_and_loudly_when_it_holds_files(template, tmp_path):
    (template.path / "data" / "mlflow").mkdir(parents=True)
    quiet = build(template, SlipstreamSettings(), tmp_path / "a.tar.gz")
    assert quiet.changes == ("data of the release: left out (AE5 puts a link to the shared volume there)",)
    (template.path / "data" / "mlflow" / "mydb.sqlite").write_text("precious")
    loud = build(template, SlipstreamSettings(), tmp_path / "a.tar.gz")
    assert loud.changes == ("data of the release: left out, with 1 file in it (data/mlflow/mydb.sqlite)",)
    assert (quiet.warnings, len(loud.warnings)) == ((), 1)
    assert not any(name.startswith(f"{TOP}/data") for name in names(loud))
    assert quiet.content_digest == loud.content_digest


def test_data_in_an_archive_is_dropped_too(tmp_path, make):
    entries = [*make.good(), make.entry("project/data/", kind=tarfile.DIRTYPE, mode=0o755)]
    release = Release("path", None, "a", make.tar(tmp_path / "a.tar.gz", entries), "", "none")
    built = build(release, SlipstreamSettings(), tmp_path / "b.tar.gz")
    assert "data of the release: left out" in built.changes[0]


def test_overlay_replaces_and_adds(template, tmp_path):
    overlay = tmp_path / "overlay"
    (overlay / "server").mkdir(parents=True)
    (overlay / "run.sh").write_text("#!/bin/sh\n")  # the same content: no change worth a sentence
    (overlay / "run.sh").chmod(0o755)
    (overlay / "server" / "__init__.py").write_text("new")
    (overlay / "server" / "extra.py").write_text("extra")
    (overlay / "server" / "link.py").symlink_to("extra.py")
    (overlay / "data").mkdir()
    (overlay / "data" / "x").write_text("x")
    built = build(template, SlipstreamSettings(overlay=overlay), tmp_path / "a.tar.gz")
    assert read(built, "server/__init__.py") == b"new"
    assert read(built, "server/link.py") == b"extra"
    assert built.changes[0].startswith("data of the overlay: left out, with 1 file")
    assert "copy them to the volume" in built.warnings[0]
    assert built.changes[1:] == (
        "file server/__init__.py: replaced (overlay)",
        "file server/extra.py: added (overlay)",
        "file server/link.py: added (overlay)",
    )


def test_overlay_may_bring_the_project_file_and_is_then_edited(template, tmp_path, make):
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "anaconda-project.yml").write_bytes(make.project.replace(b"30d0h0m0s", b"1d0h0m0s"))
    custom = SlipstreamSettings(overlay=overlay, variables={"QUOTED": "61"})
    text = read(build(template, custom, tmp_path / "a.tar.gz"), "anaconda-project.yml").decode()
    assert "1d0h0m0s" in text
    assert 'QUOTED: "61"' in text


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda o: (o / "l").symlink_to("/etc/hostname"), "Link 'l' of the overlay leaves its folder"),
        (lambda o: (o / "l").symlink_to("../outside"), "leaves its folder"),
        (lambda o: (o / "l").symlink_to("gone"), "is broken"),
        (lambda o: (o / "l").symlink_to("l"), "is broken"),
        (lambda o: (o / "l").symlink_to("."), "leads to a folder"),
        (lambda o: os.mkfifo(o / "pipe"), "'pipe' of the overlay is not a regular file"),
        (lambda o: (o / "a\\b").write_text(""), "name that no archive can hold"),
        (lambda o: (o / "run.sh").mkdir() or (o / "run.sh" / "x").write_text(""), "both a file and a folder"),
        (lambda o: (o / "anaconda-project.yml").write_text("a: ["), "not valid YAML"),
        (lambda o: (o / "anaconda-project.yml").write_text("a: 1"), "no command TrackingServer"),
    ],
)
def test_overlays_with_unsafe_files_are_refused(template, tmp_path, spoil, says):
    (tmp_path / "outside").write_text("secret")
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    spoil(overlay)
    with pytest.raises(Configuration) as caught:
        build(template, SlipstreamSettings(overlay=overlay), tmp_path / "out" / "a.tar.gz")
    assert says in caught.value.what
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_overlay_is_refused(template, tmp_path):
    with pytest.raises(Configuration, match="not a folder"):
        build(template, SlipstreamSettings(overlay=tmp_path / "gone"), tmp_path / "a.tar.gz")


def test_lock_file_goes_when_dependencies_change(template, tmp_path):
    (template.path / "anaconda-project-lock.yml").write_text("locked: true")
    kept = build(template, SlipstreamSettings(variables={"NEW": "1"}), tmp_path / "a.tar.gz")
    assert f"{TOP}/anaconda-project-lock.yml" in names(kept)
    gone = build(template, SlipstreamSettings(dependencies={"mlflow": "==3.17.1"}), tmp_path / "a.tar.gz")
    assert f"{TOP}/anaconda-project-lock.yml" not in names(gone)
    assert "anaconda-project-lock.yml: left out" in gone.changes[-1]


def test_releases_own_password_is_refused(template, tmp_path):
    path = template.path / "anaconda-project.yml"
    path.write_text(path.read_text().replace("sqlite:///data/mydb.sqlite", "postgresql://u:hunter2@db/x"))
    with pytest.raises(Configuration) as caught:
        build(template, SlipstreamSettings(), tmp_path / "a.tar.gz")
    assert "hunter2" not in str(vars(caught.value))


def test_bad_release_leaves_nothing_behind(tmp_path, make):
    path = make.tar(tmp_path / "a.tar.gz", [*make.good(), make.entry("project/../x", b"")])
    with pytest.raises(ReleaseRefused, match=r"'\.\.' in its path"):
        build(Release("path", None, "a", path, "", "none"), SlipstreamSettings(), tmp_path / "out" / "b.tar.gz")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_is_a_configuration_error(template):
    with pytest.raises(Configuration, match="Cannot"):
        build(template, SlipstreamSettings(), Path("/dev/full/a.tar.gz"))
    with pytest.raises(Configuration, match="Cannot write"):
        build(template, SlipstreamSettings(), template.path / "run.sh" / "a.tar.gz")


def test_long_and_foreign_names_survive(template, tmp_path):
    name = "é" * 60 + "/" + "x" * 120 + "/ü.py"
    (template.path / name).parent.mkdir(parents=True)
    (template.path / name).write_text("x")
    built = build(template, SlipstreamSettings(), tmp_path / "a.tar.gz")
    assert read(built, name) == b"x"
    raw = gzip.decompress(built.path.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        assert tar.getmember(f"{TOP}/{name}").size == 1
