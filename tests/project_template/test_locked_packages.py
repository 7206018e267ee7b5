"""The environments of the project are locked: what AE5 installs tomorrow is what it installs today."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = Path("requirements", "lock.py")
PROJECT = Path("project_template", "anaconda-project.yml")
ENVIRONMENTS = ("default", "minimum")


def packages(environment: str) -> tuple[list[str], list[Requirement]]:
    """What comes from conda, and what from pip."""
    *conda, pip = yaml.safe_load((ROOT / PROJECT).read_text())["env_specs"][environment]["packages"]
    return conda, [Requirement(line) for line in pip["pip"]]


def locked(environment: str) -> dict[str, str]:
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in packages(environment)[1]}


def loose(name: str) -> list[Requirement]:
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements" / name).read_text().splitlines()]
    found: list[Requirement] = []
    for line in filter(None, lines):
        found += loose(line.removeprefix("-r ")) if line.startswith("-r ") else [Requirement(line)]
    return found


def check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / LOCK), "--check"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_lock_belongs_to_the_requirements() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stdout


def edit(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(text)


@pytest.mark.parametrize(
    ("file", "pattern", "replacement"),
    [
        ("requirements/minimum.in", r"^zstandard.*", "zstandard>=0.24"),
        ("requirements/default.in", r"\Z", "cowsay\n"),
        ("requirements/conda.txt", r"^openssl=.*", "openssl=3.5.7"),
        (str(PROJECT), r"- alembic==\S+", "- alembic==1.0.0"),
        (str(PROJECT), r"^ +- alembic==.*\n", ""),
        (str(PROJECT), r"- alembic==\S+", "- alembic>=1.0.0"),
        (str(PROJECT), r"- sqlite=\S+", "- sqlite"),
    ],
)
def test_an_edit_of_either_side_is_noticed(tmp_path: Path, file: str, pattern: str, replacement: str) -> None:
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / PROJECT.parent).mkdir()
    shutil.copy(ROOT / PROJECT, tmp_path / PROJECT)
    edit(tmp_path / file, pattern, replacement)
    done = check(tmp_path)
    assert done.returncode == 1
    assert "run `python requirements/lock.py`" in done.stdout


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_package_is_exact_and_as_required(environment: str) -> None:
    conda, pip = packages(environment)
    assert all(re.fullmatch(r"[a-z0-9_.-]+=[0-9][a-z0-9.]*", line) for line in conda)
    assert {"python", "pip", "sqlite", "openssl"} <= {line.partition("=")[0] for line in conda}
    assert any(line.startswith("python=3.11.") for line in conda)
    assert all(re.fullmatch(r"==[0-9][a-z0-9.]*", str(requirement.specifier)) for requirement in pip)
    for desired in loose(f"{environment}.in"):
        (found,) = (r for r in pip if canonicalize_name(r.name) == canonicalize_name(desired.name))
        assert desired.specifier.contains(str(found.specifier).removeprefix("=="))
        assert found.extras == desired.extras


def test_the_environments_agree() -> None:
    assert locked("minimum").items() < locked("default").items()
    assert packages("minimum")[0] == packages("default")[0]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_what_a_package_needs_is_locked_too(environment: str) -> None:
    """By the metadata of the packages here, as far as their versions are those of the lock."""
    versions, looked_at = locked(environment), set()
    for requests in packages(environment)[1]:
        name = canonicalize_name(requests.name)
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue
        if installed.version != versions[name]:
            continue
        looked_at.add(name)
        for needed in active(installed.requires or [], requests.extras):
            assert needed.specifier.contains(versions[canonicalize_name(needed.name)], prereleases=True), (name, needed)
    assert {"mlflow", "mlflow-skinny", "mlflow-tracing"} <= looked_at


def active(lines: list[str], extras: set[str]) -> Iterator[Requirement]:
    for requirement in map(Requirement, lines):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in ("", *extras)):
            yield requirement
