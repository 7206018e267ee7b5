"""Export the bundled release as a mirror holds it: archive and checksum file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.files import storage_errors
from mlflow_ae5_deploy.config.settings import SlipstreamSettings
from mlflow_ae5_deploy.release.archive import read_project_archive, sha256_of
from mlflow_ae5_deploy.release.bundled import bundled_version, template_dir
from mlflow_ae5_deploy.release.customize import build
from mlflow_ae5_deploy.release.models import Release
from mlflow_ae5_deploy.release.versions import asset_name, checksum_file


@dataclass(frozen=True)
class Exported:
    """unchanged: both files were there already, with this content."""

    version: str
    archive: Path
    checksum: Path
    sha256: str
    size: int
    unchanged: bool


def export(folder: Path) -> Exported:
    """Write archive and checksum; Configuration for another archive of this version."""
    source = template_dir()
    version = bundled_version(source)
    archive = folder / asset_name(version)
    checksum = checksum_file(archive)
    with storage_errors("export the release", folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".export-") as work:
            release = Release("bundled", version, "bundled", source, None, "none")
            built = build(release, SlipstreamSettings(), Path(work, archive.name))
            unchanged = os.path.lexists(archive)
            if unchanged and not _same_content(archive, built.path):
                raise Configuration(
                    f"Another archive of release {version} is already there.",
                    where=str(archive),
                    remedy="Export to another folder, or delete that archive first.",
                )
            if not unchanged:
                _publish(built.path.read_bytes(), archive, Path(work))
            line = f"{sha256_of(archive)}  {archive.name}\n".encode()
            if not (checksum.is_file() and checksum.read_bytes() == line):
                unchanged = False
                _publish(line, checksum, Path(work))
        return Exported(version, archive, checksum, sha256_of(archive), archive.stat().st_size, unchanged)


def _same_content(archive: Path, other: Path) -> bool:
    """Not byte for byte: the compression of another machine may write other bytes."""
    try:
        return dict(read_project_archive(archive).files) == dict(read_project_archive(other).files)
    except Configuration:
        return False


def _publish(data: bytes, target: Path, work: Path) -> None:
    """Write a file in one step, with the user's usual permissions for web servers."""
    unfinished = work / f"{target.name}.unfinished"
    unfinished.write_bytes(data)
    os.replace(unfinished, target)  # noqa: PTH105 - the atomic one, by its usual name
