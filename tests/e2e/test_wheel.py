"""The built wheel, alone in an environment that does not see the checkout, installs on the sandbox."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_ae5_deploy.sandbox import lifecycle

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bin folder. The other packages are shared with this environment, by a path that brings no checkout along."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    command = ["--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *command], check=True, capture_output=True, timeout=120)
    (packages,) = folder.glob("lib/python*/site-packages")
    shared = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (packages / "shared.pth").write_text("\n".join(shared) + "\n")
    return folder / "bin"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("elsewhere")
    yield folder
    lifecycle.reset(folder / "state" / "sandbox")


def run(bin_folder: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(bin_folder / command[0]), *command[1:]],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "MLFLOW_AE5_DEPLOY_STATE": str(folder / "state")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_holds_what_it_needs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    template = "mlflow_ae5_deploy/_project_template/"
    on_disk = {
        template + path.relative_to(ROOT / "project_template").as_posix()
        for path in (ROOT / "project_template").rglob("*")
        if path.is_file() and not any("cache" in part for part in path.parts)
    }

    assert on_disk <= set(names)
    assert f"{template}anaconda-project.yml" in names
    assert "mlflow_ae5_deploy/config/reference.yaml" in names
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith((".dist-info", ".data"))} == {"mlflow_ae5_deploy"}
    pages = {name.partition(".data/data/share/doc/mlflow-ae5-deploy/")[2] for name in names if ".data/" in name}
    assert {"CHANGELOG.md", "runbooks/index.md"} < pages
    assert [page for page in pages if not page.startswith(("CHANGELOG.md", "runbooks/"))] == []
    assert "mlflow_ae5_deploy/config/schema.json" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".sqlite", ".db"))]


def test_the_version_is_that_of_the_project(fresh: Path, elsewhere: Path, wheel: Path) -> None:
    source = (ROOT / "project_template/mlflow_ae5_server/__init__.py").read_text()
    (version,) = re.findall(r'^__version__ = "(.*)"$', source, re.MULTILINE)

    shown = run(fresh, elsewhere, "mlflow-ae5-deploy", "--version")

    assert shown.stdout == f"mlflow-ae5-deploy {version}\n"
    assert wheel.name == f"mlflow_ae5_deploy-{version}-py3-none-any.whl"
    assert f'{version}"' not in (ROOT / "pyproject.toml").read_text()


def test_comes_from_the_wheel_with_its_template(fresh: Path, elsewhere: Path) -> None:
    shown = run(
        *(fresh, elsewhere, "python", "-c"),
        "import mlflow_ae5_deploy, sys; from mlflow_ae5_deploy.release.bundled import template_dir;"
        "print(mlflow_ae5_deploy.__file__, template_dir(), *sys.path, sep='\\n')",
    )

    assert shown.returncode == 0, shown.stderr
    package, template, *path = shown.stdout.splitlines()
    home = str(fresh.parent)
    assert package.startswith(home)
    assert template.startswith(home)
    assert str(ROOT) not in path


def test_installs_on_the_sandbox(fresh: Path, elsewhere: Path) -> None:
    done = run(fresh, elsewhere, "mlflow-ae5-deploy", "install", "--sandbox", "--json")
    proved = run(fresh, elsewhere, "mlflow-ae5-deploy", "verify", "--sandbox")

    assert done.returncode == 0, done.stderr
    assert "bundled" in json.loads(done.stdout)["stages"][3]["reason"]
    assert proved.returncode == 0, proved.stdout + proved.stderr
