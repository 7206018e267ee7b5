from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.config.settings import SlipstreamSettings
from mlflow_ae5_deploy.release.bundled import bundled_version, template_dir
from mlflow_ae5_deploy.release.customize import build
from mlflow_ae5_deploy.release.fetch import obtain
from mlflow_ae5_deploy.release.models import FetchSettings
from tests.manual_clock import ManualClock


def make_template(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "anaconda-project.yml").write_text("name: x")
    return folder


def test_wheel_carries_the_template_in_the_package(tmp_path):
    package = tmp_path / "site-packages" / "mlflow_ae5_deploy"
    inside = make_template(package / "_project_template")
    make_template(package.parent / "project_template")  # somebody else's folder beside it does not matter
    assert template_dir(package) == inside


def test_a_checkout_has_the_template_next_to_the_package(tmp_path):
    package = tmp_path / "checkout" / "mlflow_ae5_deploy"
    package.mkdir(parents=True)
    checkout = make_template(package.parent / "project_template")
    assert template_dir(package) == checkout


def test_missing_template_is_an_incomplete_installation(tmp_path):
    with pytest.raises(Configuration, match="incomplete"):
        template_dir(tmp_path)


@pytest.mark.parametrize(
    ("source", "version"),
    [
        ('__version__ = "1.2.3"\n', "1.2.3"),
        ("# x\n__version__: str = '0.1'\n", "0.1"),
        ("version = '1'", None),
        (None, None),
    ],
)
def test_version_is_read_as_text(tmp_path, source, version):
    if source is not None:
        (tmp_path / "mlflow_ae5_server").mkdir()
        (tmp_path / "mlflow_ae5_server" / "__init__.py").write_text(source)
    if version is None:
        with pytest.raises(Configuration, match="version"):
            bundled_version(tmp_path)
    else:
        assert bundled_version(tmp_path) == version


def test_the_real_template_is_obtained_and_builds(tmp_path):
    release = obtain("bundled", FetchSettings(cache_dir=tmp_path / "cache"), clock=ManualClock())
    assert (release.kind, release.source, release.sha256, release.checked) == ("bundled", "bundled", None, "none")
    built = build(release, SlipstreamSettings(variables={"MLFLOW_TRACKING_GC_TTL": "7d0h0m0s"}), tmp_path / "a.tar.gz")
    assert {"TrackingServer", "GarbageCollection", "DatabaseUpgrade"} <= set(built.commands)
    assert not (tmp_path / "cache").exists()


def test_checksum_for_the_bundled_release_is_refused(tmp_path):
    with pytest.raises(Configuration, match="not an archive"):
        obtain("bundled", FetchSettings(cache_dir=tmp_path, sha256="0" * 64), clock=ManualClock())
