"""Downloads from a server on loopback that drops connections, lies and refuses."""

from __future__ import annotations

import os
import socket
from dataclasses import replace

import pytest
import trustme

from mlflow_ae5_deploy.common.errors import (
    Configuration,
    DeadlineExceeded,
    Denied,
    Refused,
    ReleaseRefused,
    Unreachable,
)
from tests.manual_clock import ManualClock
from tests.release.obtain.support import ASSET, NAME, get, parts, refusal, sha


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
