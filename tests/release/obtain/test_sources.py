"""Other sources of a release than GitHub: URLs, mirrors and paths."""

from __future__ import annotations

import socket
import traceback
from dataclasses import replace

import pytest

from mlflow_ae5_deploy.common.errors import Configuration, DeployError, ReleaseRefused, Unreachable
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.release.models import Release
from tests.release.obtain.support import NAME, get, refusal, sha


def test_a_url_is_cached_and_its_secrets_are_not_shown(https, settings, reply, archive):
    https.replies["/x.tar.gz?token=0123456789abcdef"] = reply(archive)
    url = https.url.replace("://", "://user:hunter2hunter2@") + "/x.tar.gz?token=0123456789abcdef"
    release = get(url, settings)
    assert release.source == f"{https.url}/x.tar.gz"
    assert (release.kind, release.version, release.checked) == ("url", None, "first-use")
    assert https.requests[0][1]["Authorization"].startswith("Basic ")
    assert "hunter2hunter2" not in scrub("it was hunter2hunter2")
    assert "0123456789abcdef" not in scrub("it was 0123456789abcdef")
    for path in (settings.cache_dir / "releases").iterdir():
        assert "hunter2" not in path.name
        assert b"hunter2" not in path.read_bytes()
    https.clear()
    assert get(url, settings).checked == "recorded"
    assert https.requests == []


@pytest.mark.parametrize("status", [404, 401, 400, 503, 0])
def test_no_error_shows_a_secret(https, settings, reply, status):
    if status:
        https.replies["/x?token=0123456789abcdef"] = reply(statuses=[status] * 3)
        base = https.url
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            base = f"https://127.0.0.1:{listener.getsockname()[1]}"
    url = base.replace("://", "://user:hunter2hunter2@") + "/x?token=0123456789abcdef"
    with pytest.raises(DeployError) as caught:
        get(url, settings)
    text = "".join(traceback.format_exception(caught.value)) + str(vars(caught.value))
    assert "hunter2" not in text
    assert "0123456789abcdef" not in text


def test_credentials_do_not_follow_a_redirect(https, http, settings, reply, archive):
    other = http.url.replace("127.0.0.1", "localhost")
    https.replies["/x.tar.gz"] = reply(redirect=f"{other}/y.tar.gz")
    http.replies["/y.tar.gz"] = reply(archive)
    get(https.url.replace("://", "://user:hunter2hunter2@") + "/x.tar.gz", settings)
    assert "Authorization" in https.requests[0][1]
    assert "Authorization" not in http.requests[0][1]


@pytest.mark.parametrize(
    ("target", "kind", "says"),
    [
        ("http://example.com/x", Configuration, "not https"),
        ("ftp://127.0.0.1/x", Configuration, "not https"),
        ("file:///etc/passwd", Configuration, "names no host"),
        ("{}/x.tar.gz", Unreachable, "redirects in circles"),
    ],
)
def test_redirects_away_from_https_or_in_circles_are_refused(https, settings, reply, target, kind, says):
    https.replies["/x.tar.gz"] = reply(redirect=target.format(https.url))
    assert says in refusal(kind, f"{https.url}/x.tar.gz", settings).what


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://example.com/x.tar.gz", "not https"),
        ("http://127.0.0.1.example.com/x.tar.gz", "not https"),
        ("http://localhost@example.com/x.tar.gz", "not https"),
        ("ftp://example.com/x.tar.gz", "not https"),
        ("file:///x.tar.gz", "names no host"),
        ("https:///x.tar.gz", "names no host"),
        ("https://[::1/x", "not a URL"),
        ("https://example.com:port/x", "not a URL"),
    ],
)
def test_urls_without_https_or_host_are_refused(settings, url, says):
    assert says in refusal(Configuration, url, settings).what


def test_plain_http_on_this_machine(http, settings, reply, archive):
    http.replies["/mlflow.tracking.server.2.0.0.tar.gz"] = reply(archive)
    release = get(f"{http.url}/mlflow.tracking.server.2.0.0.tar.gz", settings)
    assert release.version == "2.0.0"


# --- mirrors


def test_a_web_mirror_serves_version_checksum_and_archive(https, settings, reply, archive):
    https.replies["/m/latest"] = reply(b"1.2.3\n")
    https.replies[f"/m/{NAME}"] = reply(archive)
    https.replies[f"/m/{NAME}.sha256"] = reply(f"{sha(archive)}  {NAME}\n".encode())
    release = get("latest", replace(settings, mirror=f"{https.url}/m/"))
    assert release.sha256 == sha(archive)
    assert release.source == f"{https.url}/m/{NAME}"
    assert https.paths() == ["/m/latest", f"/m/{NAME}.sha256", f"/m/{NAME}"]


@pytest.mark.parametrize(
    ("replies", "desired", "kind", "says"),
    [
        ({}, "latest", Configuration, "no file 'latest'"),
        ({"latest": b"<html>"}, "latest", ReleaseRefused, "does not hold a version"),
        ({"latest": b"../../etc"}, "latest", ReleaseRefused, "does not hold a version"),
        ({}, "1.2.3", Configuration, "The mirror has no release 1.2.3."),
        ({f"{NAME}.sha256": b"<html>"}, "1.2.3", ReleaseRefused, "does not hold a SHA-256"),
    ],
)
def test_mirrors_with_missing_or_bad_files_are_refused(https, settings, reply, replies, desired, kind, says):
    https.replies.update({f"/m/{name}": reply(body) for name, body in replies.items()})
    assert says in refusal(kind, desired, replace(settings, mirror=f"{https.url}/m")).what


@pytest.fixture
def folder(tmp_path, archive):
    folder = tmp_path / "mirror"
    folder.mkdir()
    for version in ("0.9.0", "0.10.0", "0.10.0rc1"):
        (folder / f"mlflow.tracking.server.{version}.tar.gz").write_bytes(archive)
    return folder


def test_a_folder_mirror_offers_its_highest_version_as_latest(settings, folder, archive):
    there = replace(settings, mirror=str(folder), offline=True)
    release = get("latest", there)
    assert (release.version, release.sha256, release.checked) == ("0.10.0", sha(archive), "first-use")
    assert release.path.parent == folder
    assert str(folder) not in release.source
    assert get("0.10.0", there).checked == "recorded"
    (folder / "latest").write_text("0.9.0\n")
    assert get("latest", there).version == "0.9.0"
    error = refusal(Configuration, "7.7.7", there)
    assert "0.10.0, 0.10.0rc1, 0.9.0" in error.remedy


def test_a_folder_with_a_wrong_checksum_file_is_refused(settings, folder, archive):
    (folder / "mlflow.tracking.server.0.9.0.tar.gz.sha256").write_text("0" * 64)
    refusal(ReleaseRefused, "0.9.0", replace(settings, mirror=str(folder)))


def test_folder_that_is_not_there_or_empty(settings, tmp_path):
    refusal(Configuration, "latest", replace(settings, mirror=str(tmp_path / "gone")))
    (tmp_path / "empty").mkdir()
    refusal(Configuration, "latest", replace(settings, mirror=str(tmp_path / "empty")))


# --- paths


def test_a_path_is_used_directly_and_checked(settings, folder, archive):
    path = folder / "mlflow.tracking.server.0.9.0.tar.gz"
    release = get(str(path), settings)
    assert release == Release("path", "0.9.0", path.name, path, sha(archive), "none")
    assert get(str(path), replace(settings, sha256=sha(archive))).checked == "given"
    refusal(ReleaseRefused, str(path), replace(settings, sha256="0" * 64))


@pytest.mark.parametrize(
    ("name", "prepare", "kind", "says"),
    [
        ("gone.tar.gz", lambda p: None, Configuration, "does not exist"),
        ("folder", lambda p: p.mkdir(), Configuration, "is a folder"),
        ("page.tar.gz", lambda p: p.write_text("<html>"), ReleaseRefused, "a web page"),
    ],
)
def test_paths_that_are_no_archive_are_refused(settings, tmp_path, name, prepare, kind, says):
    prepare(tmp_path / name)
    assert says in refusal(kind, str(tmp_path / name), settings).what
