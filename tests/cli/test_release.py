"""Releases from a folder, a mirror, `latest` and a URL; and the bundled one, exported for a mirror."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from mlflow_ae5_deploy.cli.main import main
from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.release.bundled import bundled_version
from mlflow_ae5_deploy.release.fetch import obtain
from mlflow_ae5_deploy.release.models import FetchSettings
from tests.cli.bench import make_release
from tests.manual_clock import ManualClock

NAME = f"mlflow.tracking.server.{bundled_version()}.tar.gz"


def export(capsys: pytest.CaptureFixture[str], folder: Path, code: int = 0) -> dict[str, Any]:
    assert main(["release", "export", str(folder), "--json"]) == code
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return shown


def test_the_folder_is_a_mirror_of_the_bundled_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = export(capsys, tmp_path / "new" / "mirror")

    mirror = tmp_path / "new" / "mirror"
    assert sorted(path.name for path in mirror.iterdir()) == [NAME, f"{NAME}.sha256"]
    digest = hashlib.sha256((mirror / NAME).read_bytes()).hexdigest()
    assert (shown["outcome"], shown["version"], shown["sha256"]) == ("done", bundled_version(), digest)
    assert (mirror / f"{NAME}.sha256").read_text() == f"{digest}  {NAME}\n"
    settings = FetchSettings(cache_dir=tmp_path / "cache", mirror=str(mirror))
    for source in (bundled_version(), "latest"):
        release = obtain(source, settings, clock=ManualClock())
        assert (release.version, release.sha256) == (bundled_version(), digest)


@pytest.mark.parametrize(
    ("exported", "remedy"), [(True, f"use `--release {{folder}}/{NAME}`."), (False, "Pack it (tar")]
)
def test_a_folder_that_is_given_for_a_release_leads_to_the_archive_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], exported: bool, remedy: str
) -> None:
    if exported:
        export(capsys, tmp_path / "mirror")
    else:
        (tmp_path / "mirror").mkdir()

    with pytest.raises(Configuration) as refused:
        obtain(str(tmp_path / "mirror"), FetchSettings(cache_dir=tmp_path / "cache"), clock=ManualClock())

    assert refused.value.what == "The release is a folder; an archive is needed."
    assert remedy.format(folder=tmp_path / "mirror") in refused.value.remedy


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum")
def test_sha256sum_accepts_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(capsys, tmp_path)

    subprocess.run(["sha256sum", "--check", f"{NAME}.sha256"], cwd=tmp_path, check=True, capture_output=True)


def test_again_it_changes_nothing_and_writes_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(capsys, tmp_path)
    os.utime(tmp_path / NAME, (1, 1))

    assert export(capsys, tmp_path)["outcome"] == "unchanged"
    (tmp_path / f"{NAME}.sha256").unlink()
    assert export(capsys, tmp_path)["outcome"] == "done"

    assert (tmp_path / NAME).stat().st_mtime == 1
    assert (tmp_path / f"{NAME}.sha256").exists()


def other(path: Path) -> None:
    path.write_bytes(b"other")


@pytest.mark.parametrize("make", [other, Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_another_archive_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Any) -> None:
    make(tmp_path / NAME)

    shown = export(capsys, tmp_path, code=3)

    assert "already there" in shown["error"]["what"]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_an_unwritable_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")

    shown = export(capsys, tmp_path / "file" / "mirror", code=3)

    assert "Cannot export the release" in shown["error"]["what"]


@pytest.fixture
def mirror(bench):
    folder = bench.folder / "mirror"
    folder.mkdir(exist_ok=True)
    shutil.copy(bench.release, folder / "mlflow.tracking.server.1.0.0.tar.gz")
    return folder


def configuration(bench, mirror):
    path = bench.folder / "mirrored.yaml"
    path.write_text(json.dumps({"release": {"source": "latest", "mirror": str(mirror)}}))
    return ["--config", str(path)]


def install(bench, capsys, *argv):
    return bench.run(capsys, "install", "--sandbox", "--json", *argv)


def test_latest_from_a_mirror_is_installed_and_the_repeat_changes_nothing(bench, capsys, mirror):
    options = configuration(bench, mirror)

    first = install(bench, capsys, *options, "--replace")
    again = install(bench, capsys, *options)

    assert first.code == 0, first.err
    assert "1.0.0" in first.data["stages"][3]["reason"]
    assert again.data["outcome"] == "unchanged", again.data


def test_a_newer_latest_is_a_planned_replacement(bench, capsys, mirror):
    options = configuration(bench, mirror)
    install(bench, capsys, *options, "--replace")
    newer = make_release(bench.folder, "newer.tar.gz", extra__txt="newer")
    shutil.copy(newer, mirror / "mlflow.tracking.server.1.1.0.tar.gz")

    cache = bench.folder / "state" / "releases"
    records = sorted(path.name for path in cache.iterdir())

    plan = bench.run(capsys, "plan", "--sandbox", "--json", *options)

    assert records == ["mlflow.tracking.server.1.0.0.tar.gz.sha256"]
    assert sorted(path.name for path in cache.iterdir()) == records, "a plan writes nothing, no checksum either"
    assert "no checksum to compare with" in plan.data["stages"][3]["reason"]
    assert "1.1.0" in plan.data["stages"][3]["reason"]
    (change,) = plan.data["stages"][5]["changes"]
    assert change["change"] == "replace_project"
    assert change["consequences"]
    (mirror / "mlflow.tracking.server.1.1.0.tar.gz").unlink()


@pytest.fixture
def web_mirror(mirror):
    (mirror / "latest").write_text("1.0.0\n")
    handler = functools.partial(Quiet, directory=str(mirror))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()
    (mirror / "latest").unlink()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_latest_is_downloaded_once_and_found_in_the_cache_afterwards(bench, capsys, web_mirror):
    options = configuration(bench, web_mirror)

    plan = bench.run(capsys, "plan", "--sandbox", "--json", *options)
    first = install(bench, capsys, *options, "--replace")
    again = install(bench, capsys, *options)

    assert plan.data["stages"][3]["changes"][0]["name"] == "1.0.0"
    assert first.data["stages"][3]["outcome"] == "changed", first.err
    assert "SHA-256 as at its first use" in first.data["stages"][3]["reason"]
    assert again.data["outcome"] == "unchanged", again.data
