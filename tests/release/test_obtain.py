"""Fetching over real sockets, from a server on loopback that drops connections, lies, redirects and changes."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import traceback
from dataclasses import replace
from typing import Any

import pytest
import trustme

from mlflow_ae5_deploy.common.clock import ManualClock
from mlflow_ae5_deploy.common.errors import (
    Configuration,
    DeadlineExceeded,
    Denied,
    DeployError,
    Refused,
    ReleaseRefused,
    UnexpectedAnswer,
    Unreachable,
)
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.release.models import FetchSettings, Release
from mlflow_ae5_deploy.release.source import obtain

NAME = "mlflow.tracking.server.1.2.3.tar.gz"
ASSET = f"/download/1.2.3/{NAME}"


@pytest.fixture
def archive(tmp_path, make):
    """A real project archive of about 100 kB, so that it comes in several pieces."""
    entries = [*make.good(), make.entry("project/noise", os.urandom(100_000))]
    return make.tar(tmp_path / "upstream.tar.gz", entries).read_bytes()


@pytest.fixture
def settings(https, ca_file, tmp_path):
    return FetchSettings(cache_dir=tmp_path / "cache", ca_file=ca_file, github_api=f"{https.url}/api")


@pytest.fixture
def github(https, reply, archive):
    """GitHub's API in small, and its assets behind a redirect to another address."""
    release = {
        "tag_name": "1.2.3",
        "assets": [
            {"name": "notes.txt", "browser_download_url": f"{https.url}/notes.txt"},
            {"name": NAME, "browser_download_url": f"{https.url}{ASSET}"},
        ],
    }
    https.replies["/api/releases/latest"] = reply(json.dumps(release).encode())
    https.replies["/api/releases/tags/1.2.3"] = reply(json.dumps(release).encode())
    https.replies["/api/releases?per_page=100"] = reply(json.dumps([release]).encode())
    https.replies[ASSET] = reply(redirect=f"{https.url}/blob/1?sig=once")
    https.replies["/blob/1?sig=once"] = reply(archive)
    return https


@pytest.fixture
def blob(github):
    return github.replies["/blob/1?sig=once"]


def get(desired: str, settings: FetchSettings, clock: ManualClock | None = None, **more: Any) -> Release:
    return obtain(desired, settings, clock=clock or ManualClock(), **more)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def refusal(kind: type[DeployError], *args: Any, **more: Any) -> DeployError:
    with pytest.raises(kind) as caught:
        get(*args, **more)
    assert type(caught.value) is kind
    return caught.value


def parts(settings: FetchSettings) -> list[str]:
    return sorted(p.name for p in (settings.cache_dir / "releases").iterdir() if ".part" in p.name)


@pytest.mark.parametrize("desired", ["latest", "1.2.3", "v1.2.3"])
def test_a_release_from_github_is_downloaded_and_recorded(github, settings, archive, desired):
    progress: list[tuple[int, int | None]] = []
    release = get(desired, settings, on_progress=lambda done, total: progress.append((done, total)))
    assert (release.kind, release.version, release.checked) == ("version", "1.2.3", "first-use")
    assert release.path.read_bytes() == archive
    assert release.sha256 == sha(archive)
    assert progress[0] == (0, len(archive))
    assert progress[-1] == (len(archive), len(archive))
    assert len(progress) > 2
    assert parts(settings) == []
    assert stat.S_IMODE(release.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(release.path.parent.stat().st_mode) == 0o700


def test_second_use_of_a_version_makes_no_request(github, settings):
    first = get("1.2.3", settings)
    github.clear()
    second = get("1.2.3", settings)
    assert github.requests == []
    assert second == replace(first, checked="recorded")
    assert get("1.2.3", replace(settings, offline=True)) == second


def test_latest_asks_once_and_downloads_once(github, settings):
    get("latest", settings)
    assert github.paths() == ["/api/releases/latest", ASSET, "/blob/1?sig=once"]
    github.requests.clear()
    get("latest", settings)
    assert github.paths() == ["/api/releases/latest"]


def test_tags_may_be_written_otherwise(github, settings, archive):
    del github.replies["/api/releases/tags/1.2.3"]
    assert get("1.2.3", settings).sha256 == sha(archive)


def test_unknown_version_names_those_there_are(github, settings):
    error = refusal(Configuration, "9.9.9", settings)
    assert "no release 9.9.9" in error.what
    assert "1.2.3" in error.remedy


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>sign in</html>", UnexpectedAnswer),
        (b"{}", ReleaseRefused),
        (b'{"assets": [{"name": "notes.txt"}, 3, null]}', ReleaseRefused),
        (b"[]", ReleaseRefused),
        (
            f'{{"assets": [{{"name": "{NAME}", "browser_download_url": "http://example.com/x"}}]}}'.encode(),
            Configuration,
        ),
        (f'{{"assets": [{{"name": "{NAME}"}}]}}'.encode(), Configuration),
    ],
)
def test_strange_answers_of_the_api(github, settings, body, kind):
    github.replies["/api/releases/latest"].body = body
    refusal(kind, "latest", settings)


def test_digest_published_by_github_is_compared(github, settings):
    latest = github.replies["/api/releases/latest"]
    release = json.loads(latest.body)
    release["assets"][1]["digest"] = "sha256:" + "0" * 64
    latest.body = json.dumps(release).encode()
    error = refusal(ReleaseRefused, "latest", settings)
    assert "the one published beside it: expected 000" in error.what


# --- interrupted downloads


def test_dropped_download_is_resumed_with_the_rest_only(github, blob, settings, archive):
    blob.cuts = [40_000, 30_000]
    clock = ManualClock()
    release = get("1.2.3", settings, clock)
    assert release.sha256 == sha(archive)
    ranges = [headers.get("Range") for path, headers in github.requests if path.startswith("/blob")]
    assert ranges == [None, "bytes=40000-", "bytes=70000-"]
    assert {headers.get("If-Range") for path, headers in github.requests if path.startswith("/blob")} == {None, '"one"'}
    assert clock.naps == [1.0, 3.0]


def test_three_tries_and_the_next_run_resumes(github, blob, settings, archive):
    blob.cuts = [10_000, 10_000, 10_000]
    error = refusal(Unreachable, "1.2.3", settings)
    assert "ended too early" in error.what
    assert not (settings.cache_dir / "releases" / NAME).exists()
    assert parts(settings) == [f"{NAME}.part", f"{NAME}.part.json"]
    github.requests.clear()
    assert get("1.2.3", settings).sha256 == sha(archive)
    assert [h.get("Range") for p, h in github.requests if p.startswith("/blob")] == ["bytes=30000-"]
    assert parts(settings) == []


def test_interrupted_by_the_user_and_resumed(github, settings, archive):
    def interrupt(done, _):
        if done > 50_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get("1.2.3", settings, on_progress=interrupt)
    github.requests.clear()
    assert get("1.2.3", settings).sha256 == sha(archive)
    (requests,) = [h["Range"] for p, h in github.requests if p.startswith("/blob")]
    assert int(requests.removeprefix("bytes=").rstrip("-")) > 50_000


@pytest.mark.parametrize("honest", [True, False])  # a server may obey Range and ignore If-Range
def test_file_replaced_in_the_meantime_is_never_glued(github, blob, settings, archive, make, tmp_path, honest):
    blob.cuts = [40_000, 0, 0]
    refusal(Unreachable, "1.2.3", settings)
    other = make.tar(tmp_path / "o.tar.gz", [*make.good(), make.entry("project/noise", os.urandom(90_000))])
    blob.body, blob.etag, blob.honest = other.read_bytes(), '"two"', honest
    assert get("1.2.3", settings).path.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_a_download_without_a_strong_etag_starts_again(github, blob, settings, archive, etag):
    blob.etag = etag
    blob.cuts = [40_000]
    assert get("1.2.3", settings).sha256 == sha(archive)
    assert not any("Range" in headers for _, headers in github.requests)


def test_part_longer_than_the_file_is_given_up(github, blob, settings, archive):
    blob.cuts = [40_000, 0, 0]
    refusal(Unreachable, "1.2.3", settings)
    part = settings.cache_dir / "releases" / f"{NAME}.part"
    part.write_bytes(b"x" * (len(archive) + 5))
    assert get("1.2.3", settings).sha256 == sha(archive)


def test_truncation_without_announced_length_is_noticed(github, blob, settings, archive):
    blob.announce_length = False
    blob.cuts = [40_000]
    error = refusal(ReleaseRefused, "1.2.3", settings)
    assert "truncated" in error.what
    assert NAME in error.where or "/download/" in error.where
    assert get("1.2.3", settings).checked == "first-use"  # the truncated bytes left no record


def test_a_length_that_is_none_is_not_believed(github, blob, settings, archive):
    blob.announce_length = False
    blob.headers = {"Content-Length": "9" * 5_000}
    assert get("1.2.3", settings).sha256 == sha(archive)


def test_deadline_is_for_everything(github, settings):
    clock = ManualClock()

    def slow(done, _):
        clock.elapsed += 20

    error = refusal(DeadlineExceeded, "1.2.3", replace(settings, deadline=30), clock, on_progress=slow)
    assert "30 s" in error.what
    assert "it resumes the download" in error.remedy


def test_silence_is_not_waited_for(https, settings):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never says a word
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.tar.gz"
        error = refusal(Unreachable, url, replace(settings, read_timeout=0.05))
    assert "no answer in time" in error.what


# --- checksums


def test_a_matching_given_checksum_is_accepted(github, settings, archive):
    release = get("1.2.3", replace(settings, sha256=f"SHA256:{sha(archive).upper()}"))
    assert release.checked == "given"
    github.clear()
    assert get("1.2.3", replace(settings, sha256=sha(archive))).checked == "given"
    assert github.requests == []


def test_a_differing_given_checksum_is_refused_and_nothing_stored(github, settings, archive):
    wrong = "0" * 64
    error = refusal(ReleaseRefused, "1.2.3", replace(settings, sha256=wrong))
    assert wrong in error.what
    assert sha(archive) in error.what
    assert error.exit_code == 3
    assert not (settings.cache_dir / "releases" / NAME).exists()
    assert parts(settings) == []
    assert get("1.2.3", settings).checked == "first-use"


def test_replaced_release_is_refused_until_its_checksum_is_given(github, blob, settings, archive, make, tmp_path):
    get("1.2.3", settings).path.unlink()
    other = make.tar(tmp_path / "o.tar.gz", [*make.good(), make.entry("project/evil", b"x")]).read_bytes()
    blob.body = other
    error = refusal(ReleaseRefused, "1.2.3", settings)
    assert f"recorded on first use: expected {sha(archive)}, found {sha(other)}" in error.what
    assert f"--sha256 {sha(other)}" in error.remedy
    assert not (settings.cache_dir / "releases" / NAME).exists()
    assert get("1.2.3", replace(settings, sha256=sha(other))).checked == "given"
    assert get("1.2.3", settings).checked == "recorded"


def test_mirror_cannot_pass_off_other_content(github, settings, reply, make, tmp_path):
    get("1.2.3", settings).path.unlink()
    other = make.tar(tmp_path / "o.tar.gz", make.good()).read_bytes()
    github.replies[f"/mirror/{NAME}"] = reply(other)
    refusal(ReleaseRefused, "1.2.3", replace(settings, mirror=f"{github.url}/mirror"))


def test_damaged_cache_is_fetched_again(github, settings, archive):
    get("1.2.3", settings).path.write_bytes(archive[:-5] + b"12345")
    release = get("1.2.3", settings)
    assert release.checked == "recorded"
    assert release.path.read_bytes() == archive


def test_cached_copy_stays_when_another_checksum_is_given(github, settings, archive):
    get("1.2.3", settings)
    refusal(ReleaseRefused, "1.2.3", replace(settings, sha256="0" * 64))
    # offline it is only not in the cache: with a network, the right one might be found
    error = refusal(Unreachable, "1.2.3", replace(settings, sha256="0" * 64, offline=True))
    assert sha(archive) in error.what
    github.clear()
    assert get("1.2.3", settings).checked == "recorded"


@pytest.mark.parametrize("text", ["", "abc", "0" * 63, "g" * 64, "md5:" + "0" * 64])
def test_a_malformed_checksum_is_refused(settings, text):
    assert "not a SHA-256" in refusal(Configuration, "1.2.3", replace(settings, sha256=text)).what


# --- things that are no archive


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "a web page"),
        (b"", "empty"),
        (b"hello", "not an archive"),
    ],
)
def test_what_is_no_archive_is_refused(github, blob, settings, body, says):
    blob.body = body
    error = refusal(ReleaseRefused, "1.2.3", settings)
    assert says in error.what
    assert error.where == f"{github.url}{ASSET}"
    assert parts(settings) == []
    assert not (settings.cache_dir / "releases" / f"{NAME}.sha256").exists()


def test_compression_in_transit_does_not_unpack_the_archive(github, blob, settings, archive):
    blob.headers = {"Content-Encoding": "gzip"}  # what web servers say about .gz files when set up carelessly
    assert get("1.2.3", settings).path.read_bytes() == archive
    assert {headers["Accept-Encoding"] for _, headers in github.requests} == {"identity"}


# --- the server says no


@pytest.mark.parametrize(
    ("status", "headers", "kind", "says", "tries"),
    [
        (404, {}, Configuration, "no such file", 1),
        (401, {}, Denied, "refuses access", 1),
        (403, {}, Denied, "refuses access", 1),
        (403, {"X-RateLimit-Remaining": "0"}, Unreachable, "limits the number of requests", 1),
        (429, {}, Unreachable, "limits the number of requests", 3),
        (400, {}, Refused, "HTTP 400", 1),
        (503, {}, Unreachable, "HTTP 503", 3),
        (416, {}, Unreachable, "another part", 3),
    ],
)
def test_each_http_status_has_its_error_and_number_of_tries(https, settings, reply, status, headers, kind, says, tries):
    https.replies["/x.tar.gz"] = reply(b"x", headers=headers, statuses=[status] * 3)
    error = refusal(kind, f"{https.url}/x.tar.gz", settings)
    assert says in error.what
    assert len(https.requests) == tries


def test_passing_failures_are_retried(https, settings, reply, archive):
    https.replies["/x.tar.gz"] = reply(archive, statuses=[503, 502])
    clock = ManualClock()
    assert get(f"{https.url}/x.tar.gz", settings, clock).sha256 == sha(archive)
    assert clock.naps == [1.0, 3.0]


def test_a_refused_connection_names_the_ways_out(settings):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    clock = ManualClock()
    error = refusal(Unreachable, "1.2.3", replace(settings, github_api=f"https://127.0.0.1:{port}/api"), clock)
    assert "connection refused" in error.what
    for way_out in ("mirror", "--release PATH", "--release bundled"):
        assert way_out in error.remedy
    assert clock.naps == [1.0, 3.0]


def test_an_unknown_host_is_unreachable(settings):
    error = refusal(Unreachable, "https://nowhere.invalid/x.tar.gz", settings)
    assert "nowhere.invalid cannot be reached" in error.what


def test_an_untrusted_certificate_is_unreachable(https, settings):
    error = refusal(Unreachable, f"{https.url}/x.tar.gz", replace(settings, ca_file=None))
    assert "is not trusted" in error.what
    assert "ca_file" in error.remedy
    assert https.requests == []


@pytest.mark.parametrize("ours_in_the_environment", [True, False])
def test_authorities_of_the_file_and_the_usual_ones_are_trusted(
    github, settings, ca_file, tmp_path, monkeypatch, ours_in_the_environment
):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    in_environment, in_file = (ca_file, other) if ours_in_the_environment else (other, ca_file)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(in_environment))
    assert get("1.2.3", replace(settings, ca_file=in_file)).version == "1.2.3"


def test_trust_is_neither_blind_nor_careless_about_names(https, settings, reply, archive, tmp_path):
    https.replies["/x.tar.gz"] = reply(archive)
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    error = refusal(Unreachable, f"{https.url}/x.tar.gz", replace(settings, ca_file=other))
    assert "is not trusted" in error.what
    by_another_name = https.url.replace("127.0.0.1", "localhost")
    error = refusal(Unreachable, f"{by_another_name}/x.tar.gz", settings)
    assert "not valid for 'localhost'" in error.what
    assert https.requests == []


def test_files_of_authorities_that_cannot_be_used(https, settings, tmp_path, monkeypatch):
    url = f"{https.url}/x.tar.gz"
    assert "does not exist" in refusal(Configuration, url, replace(settings, ca_file=tmp_path / "gone.pem")).what
    (tmp_path / "bad.pem").write_text("nothing of the kind")
    assert "no certificate" in refusal(Configuration, url, replace(settings, ca_file=tmp_path / "bad.pem")).what
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
    assert "REQUESTS_CA_BUNDLE" in refusal(Configuration, url, replace(settings, ca_file=None)).what


# --- offline


def test_offline_names_the_ways_out_and_what_is_cached(github, settings):
    get("1.2.3", settings)
    github.clear()
    for desired in ("latest", "4.5.6", "https://example.com/x.tar.gz"):
        error = refusal(Unreachable, desired, replace(settings, offline=True))
        assert error.exit_code == 10
        assert "mirror" in error.remedy
        assert "In the cache: 1.2.3." in error.remedy
    assert github.requests == []


def test_without_record_the_cache_is_only_read(github, settings, archive, tmp_path):
    looking = replace(settings, record=False)
    folder = tmp_path / "only"
    folder.mkdir()
    (folder / NAME).write_bytes(archive)
    mirrored = replace(looking, mirror=str(folder), offline=True)
    assert get("latest", mirrored).checked == "none"
    (folder / f"{NAME}.sha256").write_text(sha(archive))
    assert get("1.2.3", mirrored).checked == "announced"
    assert get("1.2.3", replace(mirrored, sha256=sha(archive))).checked == "given"
    for desired in ("1.2.3", "latest"):  # would have to be downloaded
        refusal(Unreachable, desired, looking)
        refusal(Unreachable, desired, replace(looking, offline=True))
    assert not settings.cache_dir.exists()

    get("1.2.3", settings)
    kept = settings.cache_dir / "releases"
    kept.joinpath(f"{NAME}.lock").unlink()
    assert get("1.2.3", looking).checked == "recorded"
    kept.joinpath(NAME).write_bytes(b"damaged")
    refusal(Unreachable, "1.2.3", looking)
    assert sorted(path.name for path in kept.iterdir()) == [NAME, f"{NAME}.sha256"]


# --- URLs


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


# --- the cache folder


def test_a_full_disk_names_the_remedy(github, settings):
    releases = settings.cache_dir / "releases"
    releases.mkdir(parents=True)
    (releases / f"{NAME}.part").symlink_to("/dev/full")  # every write to it says: no space left
    error = refusal(Configuration, "1.2.3", settings)
    assert "No space left on device" in error.what
    assert "free some space" in error.remedy


def test_cache_folder_that_cannot_be_made(settings, tmp_path):
    (tmp_path / "file").write_text("")
    error = refusal(Configuration, "1.2.3", replace(settings, cache_dir=tmp_path / "file"))
    assert "Cannot write" in error.what


def test_cache_of_old_becomes_private(github, settings):
    (settings.cache_dir / "releases").mkdir(parents=True, mode=0o755)
    get("1.2.3", settings)
    assert stat.S_IMODE((settings.cache_dir / "releases").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (settings.cache_dir / "releases").iterdir()} == {0o600}


def test_another_process_at_work_is_waited_for(github, settings):
    import fcntl

    releases = settings.cache_dir / "releases"
    releases.mkdir(parents=True)
    with (releases / f"{NAME}.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        clock = ManualClock()
        error = refusal(DeadlineExceeded, "1.2.3", replace(settings, deadline=60), clock)
        assert "another process" in error.what
        assert clock.elapsed >= 60
    assert github.requests == []
    assert get("1.2.3", settings).version == "1.2.3"
