"""release export: what is written is what `release.source: X.Y.Z` and a mirror expect."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mlflow_ae5_deploy.cli.main import main
from mlflow_ae5_deploy.common.clock import ManualClock
from mlflow_ae5_deploy.release.bundled import bundled_version
from mlflow_ae5_deploy.release.models import FetchSettings
from mlflow_ae5_deploy.release.source import obtain

NAME = f"mlflow.tracking.server.{bundled_version()}.tar.gz"


def export(capsys: pytest.CaptureFixture[str], folder: Path, code: int = 0) -> dict[str, Any]:
    assert main(["release", "export", str(folder), "--json"]) == code
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_the_folder_is_a_mirror_of_the_bundled_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = export(capsys, tmp_path / "new" / "mirror")

    mirror = tmp_path / "new" / "mirror"
    assert sorted(path.name for path in mirror.iterdir()) == [NAME, f"{NAME}.sha256"]
    digest = hashlib.sha256((mirror / NAME).read_bytes()).hexdigest()
    assert (told["outcome"], told["version"], told["sha256"]) == ("done", bundled_version(), digest)
    assert (mirror / f"{NAME}.sha256").read_text() == f"{digest}  {NAME}\n"
    settings = FetchSettings(cache_dir=tmp_path / "cache", mirror=str(mirror))
    for source in (bundled_version(), "latest"):
        release = obtain(source, settings, clock=ManualClock())
        assert (release.version, release.sha256) == (bundled_version(), digest)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum")
def test_sha256sum_accepts_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(capsys, tmp_path)

    subprocess.run(["sha256sum", "--check", f"{NAME}.sha256"], cwd=tmp_path, check=True, capture_output=True)


def test_again_it_changes_nothing_and_mends_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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

    told = export(capsys, tmp_path, code=3)

    assert "already there" in told["error"]["what"]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")

    told = export(capsys, tmp_path / "file" / "mirror", code=3)

    assert "Cannot export the release" in told["error"]["what"]
