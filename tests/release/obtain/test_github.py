"""Releases from GitHub: which one, its checksum, and its copy in the cache."""

from __future__ import annotations

import json
import stat
from dataclasses import replace

import pytest

from mlflow_ae5_deploy.common.errors import (
    Configuration,
    DeadlineExceeded,
    ReleaseRefused,
    UnexpectedAnswer,
    Unreachable,
)
from tests.manual_clock import ManualClock
from tests.release.obtain.support import ASSET, NAME, get, parts, refusal, sha


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
