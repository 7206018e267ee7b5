from __future__ import annotations

import contextlib
import gzip
import io
import random
import tarfile
import tracemalloc
import zipfile
from typing import Any

import pytest

from mlflow_ae5_deploy.common.errors import Configuration, ReleaseRefused
from mlflow_ae5_deploy.common.members import Limits
from mlflow_ae5_deploy.config.settings import SlipstreamSettings
from mlflow_ae5_deploy.release.archive import read_project_archive
from mlflow_ae5_deploy.release.edit import edit_project_file
from tests.yaml_bombs import BOMBS, ODD_VALUES


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.tar.gz", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.tar", "w"), ("a.zip", None), ("noname", "w:gz")],
)
def test_reads_every_format_ae5_takes(tmp_path, make, name, mode):
    path = tmp_path / name
    make.tar(path, make.good(), mode) if mode else make.zip(path, make.good())
    contents = read_project_archive(path, tmp_path / "out")
    assert contents.top == "project"
    assert list(contents.files) == ["anaconda-project.yml", "run.sh", "server/__init__.py"]
    assert [contents.files[path].mode for path in contents.files] == [0o644, 0o755, 0o644]
    assert contents.commands == ("TrackingServer", "GarbageCollection")
    assert contents.env_specs == ("default", "minimum")
    assert contents.variables == {
        "MLFLOW_BACKEND_STORE_URI": "sqlite:///data/mydb.sqlite",
        "MLFLOW_TRACKING_GC_TTL": "30d0h0m0s",
        "DESCRIBED": "old",
        "QUOTED": "60",
    }
    assert (tmp_path / "out" / "anaconda-project.yml").read_bytes() == make.project
    assert (tmp_path / "out" / "run.sh").stat().st_mode & 0o777 == 0o700


SYM, LNK, DIR = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([("/etc/passwd", b"x")], "'/etc/passwd' has an absolute path"),
        ([("C:/windows/x", b"x")], "absolute path"),
        ([("project/../../x", b"x")], "'..' in its path"),
        ([("../x", b"x")], "'..' in its path"),
        ([("project/a\\b", b"x")], "backslash"),
        ([("project/a\nb", b"x")], "control"),
        ([("project/a\x1b[2Jb", b"x")], "control"),
        ([("other/x", b"x")], "two top folders, 'project' and 'other'"),
        ([("stray.txt", b"x")], "two top folders, 'project' and 'stray.txt'"),
        ([("project/run.sh", b"x")], "'project/run.sh' is in the archive twice"),
        ([("./project//run.sh", b"x")], "twice"),
        ([("project/run.sh/x", b"x")], "lies below 'run.sh'"),
        ([("project/null", b"", tarfile.CHRTYPE)], "'project/null' is a device"),
        ([("project/disk", b"", tarfile.BLKTYPE)], "is a device"),
        ([("project/pipe", b"", tarfile.FIFOTYPE)], "is a device"),
        ([("project/l", b"", SYM, "/etc/passwd")], "'l' leaves the project folder (it points to '/etc/passwd')"),
        ([("project/l", b"", SYM, "../x")], "leaves the project folder"),
        ([("project/d/l", b"", SYM, "../../project/run.sh")], "leaves the project folder"),
        ([("project/l", b"", SYM, "")], "leaves the project folder"),
        ([("project/l", b"", SYM, "here/../x"), ("project/here", b"", SYM, ".")], "leaves the project folder"),
        ([("project/here", b"", SYM, "."), ("project/here/x", b"x")], "lies below 'here'"),
        ([("project/l", b"", SYM, "server")], "leads to a folder"),
        ([("project/l", b"", SYM, "nowhere")], "leads to nothing"),
        ([("project/l", b"", SYM, "m"), ("project/m", b"", SYM, "l")], "leads to nothing"),
        ([("project/h", b"", LNK, "/etc/passwd")], "leaves the project folder"),
        ([("project/h", b"", LNK, "../x")], "leaves the project folder"),
        ([("project/h", b"", LNK, "project/nowhere")], "leads to nothing"),
    ],
)
def test_unsafe_entries_are_refused_by_name(tmp_path, make, bad, says):
    entries = make.good() + [make.entry(*fields) for fields in bad]
    path = make.tar(tmp_path / "bad.tar.gz", entries)
    with pytest.raises(ReleaseRefused) as caught:
        read_project_archive(path, tmp_path / "out")
    assert says in caught.value.what
    assert str(path) in caught.value.where
    assert not (tmp_path / "out").exists()  # nothing is written before everything was checked


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (("../x", b"x"), "'..' in its path"),
        (("project/l", b"", SYM, "/etc/passwd"), "leaves the project folder"),
        (("project/pipe", b"", tarfile.FIFOTYPE), "is a device"),
        (("other/x", b""), "two top folders"),
    ],
)
def test_unsafe_entries_of_a_zip_are_refused_too(tmp_path, make, bad, says):
    path = make.zip(tmp_path / "bad.zip", [*make.good(), make.entry(*bad)])
    with pytest.raises(ReleaseRefused, match=says.replace(".", r"\.")):
        read_project_archive(path)


@pytest.mark.parametrize(
    ("project_file", "says"),
    [
        (None, "holds no anaconda-project.yml"),
        (b"commands: {Other: {unix: x}}", "no command TrackingServer (it has: Other)"),
        (b"name: x", "no command TrackingServer (it has: none at all)"),
        (b"commands: [TrackingServer]", "'commands' is not a mapping"),
        (b"commands: {TrackingServer: yes}", "command TrackingServer is not a mapping"),
        (b"commands: {TrackingServer: {windows: x}}", "has no 'unix' line"),
        (b"commands: {TrackingServer: {unix: x, env_spec: gone}}\nenv_specs: {a: {}}", "needs env_spec 'gone'"),
        (b"commands: {TrackingServer: {unix: x}}\nvariables: {A: true}", "variable A is a bool"),
        (b"commands: {TrackingServer: {unix: x}}\nvariables: {A: 2026-11-29}", "variable A is a date"),
        (b"commands: {TrackingServer: {unix: x}}\nvariables: {A: !!set {a}}", "variable A is a set"),
        (b"commands: {TrackingServer: {unix: x, env_spec: [a]}}\nenv_specs: {a: {}}", "needs env_spec ['a']"),
        (b"commands: {TrackingServer: {unix: x}}\nvariables: 3", "'variables' is neither"),
        (b"a: [1", "not valid YAML (line"),
        (b"a: 1\na: 2", "not valid YAML"),
        (b"a: !!python/object/apply:os.system [x]", "not valid YAML"),
        (b'a: "\\UFFFFFFFF"', "cannot be read"),
        (b"a: !!bool x", "cannot be read"),
        (b"a: !!int ''", "cannot be read"),
        (b"a: &s [1]\nb: &s [2]", "no command TrackingServer"),
        (b"- a", "not a mapping of keys"),
        (b"", "not a mapping of keys"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[" * 5000, "anaconda-project.yml"),
        *((content.encode(), says) for content, says in BOMBS.values()),
        (b"a: " + b"x" * (1 << 20), "larger than"),
    ],
)
def test_unusable_project_files_are_refused(tmp_path, make, project_file, says):
    entries = [make.entry("project/readme", b"x")]
    if project_file is not None:
        entries.append(make.entry("project/anaconda-project.yml", project_file))
    with pytest.raises(ReleaseRefused) as caught:
        read_project_archive(make.tar(tmp_path / "a.tar.gz", entries))
    assert says in caught.value.what


@pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: ascii(value[:30]))
@pytest.mark.parametrize("form", ["variables: {A: %s}", "variables: {? %s : 1}", "commands: {? %s : {}}", "x: %s"])
def test_an_odd_value_is_a_value_or_refused(tmp_path, make, form, value):
    text = "commands: {TrackingServer: {unix: x}}\n" if "commands" not in form else ""
    file = (text + form % value).encode()
    path = make.tar(tmp_path / "a.tar.gz", [make.entry("project/anaconda-project.yml", file)])
    with contextlib.suppress(ReleaseRefused):
        contents = read_project_archive(path)
        assert all(value is None or isinstance(value, str) for value in contents.variables.values())
        edited, _ = edit_project_file(file, SlipstreamSettings(variables={"B": "1"}), str(path))
        assert b"B: " in edited


def test_no_more_of_a_project_file_is_kept_than_is_read(tmp_path, make):
    path = make.tar(tmp_path / "a.tar.gz", [make.entry("project/anaconda-project.yml", b"\0" * (40 << 20))])
    tracemalloc.start()
    with pytest.raises(ReleaseRefused, match=r"anaconda-project.yml is larger than 128"):
        read_project_archive(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_misnamed_or_misplaced_project_file_is_pointed_out(tmp_path, make):
    deep = make.tar(tmp_path / "a.tar.gz", [make.entry("top/project/anaconda-project.yml", make.project)])
    with pytest.raises(ReleaseRefused, match=r"there is 'project/anaconda-project.yml'"):
        read_project_archive(deep)
    flat = make.tar(tmp_path / "b.tar.gz", [make.entry("anaconda-project.yml", make.project)])
    with pytest.raises(ReleaseRefused, match="is outside of the one top folder"):
        read_project_archive(flat)


def test_links_to_files_inside_are_read_as_copies(tmp_path, make):
    entries = [
        *make.good(),
        make.entry("project/server/to_run", b"", SYM, "../run.sh"),
        make.entry("project/links/chain", b"", SYM, "../server/to_run"),
        make.entry("project/hard", b"", LNK, "project/run.sh"),
    ]
    contents = read_project_archive(make.tar(tmp_path / "a.tar.gz", entries), tmp_path / "out")
    assert contents.files["links/chain"] == contents.files["hard"] == contents.files["run.sh"]
    for name in ("links/chain", "hard"):
        assert not (tmp_path / "out" / name).is_symlink()
        assert (tmp_path / "out" / name).read_bytes() == b"#!/bin/sh\n"


@pytest.mark.parametrize(
    ("limits", "says"),
    [(Limits(total=100), "unpacks to more than 100 bytes"), (Limits(entries=3), "more than 3 entries")],
)
def test_archives_beyond_the_limits_are_refused(tmp_path, make, limits, says):
    path = make.tar(tmp_path / "a.tar.gz", make.good())
    with pytest.raises(ReleaseRefused, match=says):
        read_project_archive(path, limits=limits)


def linked(kind: bytes, times: int) -> list[tuple[Any, ...]]:
    target = "project/zeros" if kind == LNK else "zeros"
    return [("project/zeros", b"\0" * 100_000), *((f"project/{n}", b"", kind, target) for n in range(times))]


@pytest.mark.parametrize("kind", [SYM, LNK])
@pytest.mark.parametrize(("times", "refused"), [(8, False), (9, True)])
def test_copies_count_before_they_are_written(tmp_path, make, kind, times, refused):
    """10 files of 100,000 bytes, a project file and what stands behind links."""
    entries = make.good() + [make.entry(*fields) for fields in linked(kind, times)]
    limits = Limits(total=900_000 + sum(len(entry.content) for entry in make.good()))
    path = make.tar(tmp_path / "a.tar.gz", entries)
    if not refused:
        read_project_archive(path, tmp_path / "out", limits=limits)
        return
    with pytest.raises(ReleaseRefused, match="unpacks to more than"):
        read_project_archive(path, tmp_path / "out", limits=limits)
    assert not (tmp_path / "out").exists()


def sparse(continued: int) -> bytes:
    """A header of GNU tar for a file with holes, whose map goes on for so many blocks."""
    header = bytearray(tarfile.TarInfo("project/holes").tobuf(tarfile.GNU_FORMAT))
    header[156:157], header[482:483] = tarfile.GNUTYPE_SPARSE, b"\1"
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:512]))
    return bytes(header) + (b"\0" * 504 + b"\1" + b"\0" * 7) * continued


def sparse_map(numbers: int) -> bytes:
    info = tarfile.TarInfo("project/holes")
    info.size = 2 * numbers + 512
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1"}
    return info.tobuf(tarfile.PAX_FORMAT) + b"%d\n" % (numbers // 2) + b"0\n" * numbers


@pytest.mark.parametrize("blocks", [sparse(20_000), sparse_map(2_200_000)], ids=["old", "pax"])
def test_a_map_of_holes_is_not_read_without_end(tmp_path, blocks):
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(blocks + b"\0" * 10_240))
    with pytest.raises(ReleaseRefused, match="headers of an impossible size"):
        read_project_archive(path)


def test_the_directory_of_a_zip_is_not_read_without_end(tmp_path, make):
    path = make.zip(tmp_path / "a.zip", make.good())
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(270):
            info = zipfile.ZipInfo(f"project/{number}")
            info.comment = b"x" * 65_000
            archive.writestr(info, b"")
    with pytest.raises(ReleaseRefused, match="headers of an impossible size"):
        read_project_archive(path)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["project/" + "d/" * 3_000 + "x"], "a path of more than 1024 characters"),
        ([f"project/{n}/" + "d/" * 500 + "x" for n in range(21)], "more than 10,000 entries"),
    ],
)
def test_folders_count_also_where_they_are_no_entries(tmp_path, make, names, says):
    path = make.tar(tmp_path / "a.tar.gz", [*make.good(), *(make.entry(name) for name in names)])
    with pytest.raises(ReleaseRefused, match=says):
        read_project_archive(path, tmp_path / "out")


def test_a_bomb_is_noticed_before_it_is_unpacked(tmp_path):
    raw = io.BytesIO()
    info = tarfile.TarInfo("project/bomb")
    info.size = 1 << 40
    raw.write(info.tobuf())
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(raw.getvalue()))
    with pytest.raises(ReleaseRefused, match="unpacks to more than"):
        read_project_archive(path)


def test_a_bomb_in_an_extended_header_is_noticed(tmp_path):
    info = tarfile.TarInfo("././@PaxHeader")
    info.type = tarfile.XHDTYPE
    info.size = 1 << 30
    path = tmp_path / "bomb.tar"
    path.write_bytes(info.tobuf() + b"\0" * 4096)
    with pytest.raises(ReleaseRefused, match="impossible size"):
        read_project_archive(path)


def test_a_bomb_behind_the_end_is_noticed(tmp_path, make):
    plain = make.tar(tmp_path / "a.tar", make.good(), "w").read_bytes()
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(plain + b"\0" * (1 << 20)))
    with pytest.raises(ReleaseRefused, match="after its end"):
        read_project_archive(path, limits=Limits(total=10_000))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "is a web page"),
        (b'{"message": "Not Found"}', "is a JSON document"),
        (b"\xfd7zXZ\0" + b"\0" * 600, "compressed with xz"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"hello" * 300, "is not an archive"),
        (b"\0" * 2048, "is not an archive"),
        (b"\x1f\x8b" + b"x" * 50, "truncated or damaged"),
        (gzip.compress(b"hello", mtime=0), "truncated or damaged"),
        (b"PK\x03\x04" + b"\0" * 40, "truncated or damaged"),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path, data, says):
    path = tmp_path / "release.tar.gz"
    path.write_bytes(data)
    with pytest.raises(ReleaseRefused, match=says) as caught:
        read_project_archive(path)
    assert "release.tar.gz" in caught.value.what


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "zip"])
def test_every_truncation_is_noticed(tmp_path, make, mode):
    path = tmp_path / "a"
    make.zip(path, make.good()) if mode == "zip" else make.tar(path, make.good(), mode)
    whole = path.read_bytes()
    # A plain tar ends in zero blocks up to a record of 10 KiB; without the last of them it is still whole.
    end = len(whole.rstrip(b"\0")) if mode == "w" else len(whole)
    for length in [*range(0, end, max(1, end // 60)), end - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ReleaseRefused):
            read_project_archive(path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "zip"])
def test_damage_never_raises_anything_else(tmp_path, make, mode):
    path = tmp_path / "a"
    make.zip(path, make.good()) if mode == "zip" else make.tar(path, make.good(), mode)
    whole = path.read_bytes()
    dice = random.Random(5)
    refused = 0
    for _ in range(300):
        broken = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        path.write_bytes(bytes(broken))
        try:
            read_project_archive(path)
        except ReleaseRefused:
            refused += 1
    assert refused > 50


def test_unreadable_file_is_a_configuration_error(tmp_path):
    with pytest.raises(Configuration, match="does not exist"):
        read_project_archive(tmp_path / "gone.tar.gz")
    with pytest.raises(Configuration, match="not a regular file"):
        read_project_archive(tmp_path)
