from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from mlflow_ae5_deploy.config.settings import SlipstreamSettings
from mlflow_ae5_deploy.release.customize import build
from mlflow_ae5_deploy.release.models import BuiltArchive, Release
from mlflow_ae5_deploy.release.provenance import content_digest_of, same_content

PROVENANCE = ".mlflow-ae5-deploy/provenance.json"


@pytest.fixture
def built(template, tmp_path):
    (template.path / ".gitignore").write_text("*.pyc\n")
    return build(template, SlipstreamSettings(), tmp_path / "a.tar.gz")


def as_downloaded(
    built: BuiltArchive, change: Callable[[dict[str, bytes]], object] = lambda files: None, *, linked: bool = True
) -> bytes:
    """What AE5 gives back: another top folder, other modes, `change`d files, and, if `linked`, a link of its own."""
    with tarfile.open(built.path) as tar:
        files = {m.name.partition("/")[2]: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}
    change(files)
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"mlflow-service-0a1b2c/{name}")
            info.size = len(content)
            info.mode = 0o664
            info.mtime = 1_700_000_000
            tar.addfile(info, io.BytesIO(content))
        if linked:
            link = tarfile.TarInfo("mlflow-service-0a1b2c/data")
            link.type = tarfile.SYMTYPE
            link.linkname = "/data"
            tar.addfile(link)
    return raw.getvalue()


def test_own_archive_is_recognised(built):
    for data in (built.path.read_bytes(), as_downloaded(built)):
        recognition = same_content(data, built)
        assert recognition.same
        assert recognition.release == "bundled release 0.1.0"
        assert (recognition.reason, recognition.differences) == ("bundled release 0.1.0", ())
        assert content_digest_of(data) == built.content_digest


def test_files_of_the_platform_do_not_matter(built):
    def change(files):
        files[".gitignore"] += b"/data\n!/data/\n"
        files[".projectignore"] = b"x"

    assert same_content(as_downloaded(built, change), built).same


def test_the_archive_of_an_installed_project_is_the_release_it_was_made_from(template, tmp_path):
    """With the customizations of then, whatever the platform has added."""
    customized = SlipstreamSettings(variables={"MLFLOW_WORKERS": "2"})
    built = build(template, customized, tmp_path / "a.tar.gz")
    saved = tmp_path / "saved.tar.gz"

    def again(change: Callable[[dict[str, bytes]], object], settings: SlipstreamSettings) -> BuiltArchive:
        saved.write_bytes(as_downloaded(built, change, linked=False))
        return build(Release("path", None, saved.name, saved, "", "none"), settings, tmp_path / "b.tar.gz")

    for settings in (SlipstreamSettings(), customized):
        kept = again(lambda files: files.update({".projectignore": b"x"}), settings)
        assert kept.provenance["release"] == built.provenance["release"]
        assert kept.changes == built.changes != ()
    for change in (
        lambda f: f.update({"run.sh": b"other"}),
        lambda f: f.update({"new.sh": b"x"}),
        lambda f: f.pop(PROVENANCE),
    ):
        edited = again(change, SlipstreamSettings())
        assert edited.provenance["release"]["source"] == saved.name


def spoil_provenance(**fields: Any) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files[PROVENANCE] = json.dumps({**json.loads(files[PROVENANCE]), **fields}).encode()

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.update({"run.sh": b"other"}), "edited on the platform since the upload (run.sh)"),
        (lambda f: f.pop("run.sh"), "edited on the platform since the upload (run.sh is missing)"),
        (lambda f: f.pop(PROVENANCE), "not made by this tool"),
        (lambda f: f.update({PROVENANCE: b"{"}), "provenance cannot be read"),
        (lambda f: f.update({PROVENANCE: b"[]"}), "provenance cannot be read"),
        (lambda f: f.update({PROVENANCE: b"[" * 100_000}), "provenance cannot be read"),
        (spoil_provenance(schema=2), "provenance cannot be read"),
        (spoil_provenance(files=3), "provenance cannot be read"),
        (spoil_provenance(files={"a": 3}), "provenance cannot be read"),
        (spoil_provenance(release=None), "provenance cannot be read"),
        (spoil_provenance(content_digest=None), "provenance cannot be read"),
    ],
)
def test_other_content_is_recognised_as_different(built, change, says):
    data = as_downloaded(built, change)
    recognition = same_content(data, built)
    assert not recognition.same
    assert says in recognition.reason
    assert content_digest_of(data) is None


def test_another_version_of_ours_is_named(built, template, tmp_path):
    (template.path / "run.sh").write_text("newer")
    desired = build(template, SlipstreamSettings(), tmp_path / "b.tar.gz")
    recognition = same_content(as_downloaded(built), desired)
    assert not recognition.same
    assert recognition.release == "bundled release 0.1.0"
    assert recognition.differences == ("file run.sh: changed",)
    assert content_digest_of(as_downloaded(built)) == built.content_digest


@pytest.mark.parametrize("data", [b"", b"<html>", b"\x1f\x8bxxxxxxxxxxxxxxxxxxxx"])
def test_what_is_no_archive_is_not_ours(built, data):
    assert not same_content(data, built).same
    assert content_digest_of(data) is None


def test_truncated_archive_is_not_ours(built):
    assert not same_content(built.path.read_bytes()[:-20], built).same
