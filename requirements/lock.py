"""Lock the environments of the server project: every package that they hold, at one version.

    python requirements/lock.py             add, change or drop what the .in files say; keep every other version
    python requirements/lock.py --upgrade   take the newest versions that fit
    python requirements/lock.py --check     say whether the lock belongs to the .in files (exit code 1: no); no network

It solves `default.in` and `minimum.in` with pip, takes `conda.txt` as it is, and writes the `env_specs` of
`project_template/anaconda-project.yml`. AE5 installs from there, on linux-64, so it runs there too, with the Python of
that project: pip evaluates environment markers for the interpreter that runs it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
PROJECT_FILE = HERE.parent / "project_template" / "anaconda-project.yml"
ENVIRONMENTS = {"default": "All drivers", "minimum": "SQLite and local artifacts"}
TARGET = ("Linux", "x86_64", "3.11")
# The oldest C library among the systems that AE5 runs on is that of RHEL 8, 2.28.
WHEELS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
HEAD = (
    "\n# Locked by requirements/lock.py: edit requirements/*.in and run it again. A comment names what needs a package."
)
SUM = "\n# Checksum: "
SECTION = "\nenv_specs:\n"
NAMED = 3  # packages in a comment


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--upgrade", action="store_true")
    choice.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    before, locked = split(PROJECT_FILE.read_text(encoding="utf-8"))
    if options.check:
        return check(before, locked)
    if (platform.system(), platform.machine(), platform.python_version().rpartition(".")[0]) != TARGET:
        sys.exit(f"Run it with Python {TARGET[2]} on {TARGET[0]} {TARGET[1]}.")
    keep = [] if options.upgrade else pinned(locked, "default")
    text = SECTION
    for name, description in ENVIRONMENTS.items():
        packages = solve(HERE / f"{name}.in", keep)
        keep = [f"{item['name']}=={item['version']}" for item in packages]  # of the first, for the others
        text += "".join(f"{line}\n" for line in environment(name, description, packages))
    head = before.partition(HEAD)[0]
    PROJECT_FILE.write_text(f"{head}{HEAD}{SUM}{checksum(text)}{text}", encoding="utf-8")
    return 0


def split(text: str) -> tuple[str, str]:
    """What is written by hand, and the locked section."""
    before, section, after = text.partition(SECTION)
    if not section:
        sys.exit(f"{PROJECT_FILE} has no env_specs.")
    return before, section + after


def check(before: str, locked: str) -> int:
    if before.endswith(f"{SUM}{checksum(locked)}"):
        return 0
    print("The lock in anaconda-project.yml does not belong to requirements/: run `python requirements/lock.py`.")
    return 1


def checksum(locked: str) -> str:
    """Of the locked section and of what it was made from."""
    sources = [(HERE / name).read_text(encoding="utf-8") for name in ("conda.txt", *(f"{e}.in" for e in ENVIRONMENTS))]
    return hashlib.sha256("\0".join([*sources, locked]).encode()).hexdigest()


def pinned(locked: str, name: str) -> list[str]:
    """The lock of one environment as constraints for pip, which takes no extras there."""
    packages = yaml.safe_load(locked)["env_specs"][name]["packages"]
    requirements = [Requirement(line) for item in packages if isinstance(item, dict) for line in item["pip"]]
    return [f"{requirement.name}{requirement.specifier}" for requirement in requirements]


def solve(wanted: Path, keep: Iterable[str]) -> list[dict[str, Any]]:
    """Name, version, requested extras, and what needs it, of every package that pip would install."""
    with tempfile.TemporaryDirectory() as folder:
        report, constraints = Path(folder, "report.json"), Path(folder, "constraints.txt")
        constraints.write_text("\n".join(keep), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--report", str(report), "--target", folder, "--only-binary", ":all:"]
        command += [part for wheel in WHEELS for part in ("--platform", wheel)]
        if subprocess.run([*command, "-r", str(wanted), "-c", str(constraints)], check=False).returncode:
            sys.exit(f"pip finds no solution for {wanted.name}. Try --upgrade: a version kept may stand in the way.")
        items = json.loads(report.read_text(encoding="utf-8"))["install"]
    packages: dict[str, dict[str, Any]] = {canonicalize_name(item["metadata"]["name"]): package(item) for item in items}
    for needing, needed in edges(packages):
        packages[needed]["for"].add(needing)
    return sorted(packages.values(), key=lambda item: canonicalize_name(item["name"]))


def package(item: Mapping[str, Any]) -> dict[str, Any]:
    """What this script needs of an entry of pip's report. `name` is spelled as `pip freeze` spells it: AE5 compares."""
    metadata = item["metadata"]
    return {
        "name": metadata["name"],
        "version": metadata["version"],
        "requires": metadata.get("requires_dist", []),
        "asked": item["requested"],
        "extras": set(item.get("requested_extras", ())),
        "for": set(),
    }


def edges(packages: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """(needing, needed), by following the metadata from what was asked for, extras included."""
    todo = [(name, extra) for name, item in packages.items() if item["asked"] for extra in ("", *item["extras"])]
    seen = set(todo)
    while todo:
        name, extra = todo.pop()
        for line in packages[name]["requires"]:
            requirement = Requirement(line)
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            needed = canonicalize_name(requirement.name)
            yield packages[name]["name"], needed
            new = {(needed, more) for more in ("", *requirement.extras)} - seen
            seen |= new
            todo += new


def environment(name: str, description: str, packages: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield f"  {name}:"
    yield f"    description: {description}"
    yield "    packages:"
    conda = (HERE / "conda.txt").read_text(encoding="utf-8").splitlines()
    yield from (f"      - {line}" for line in conda if line and not line.startswith("#"))
    yield "      - pip:"
    for item in packages:
        extras = f"[{','.join(sorted(item['extras']))}]" if item["extras"] else ""
        needing = sorted(item["for"], key=str.lower)
        more = [] if len(needing) <= NAMED else [f"and {len(needing) - NAMED} more"]
        comment = "" if item["asked"] else f"  # {', '.join([*needing[:NAMED], *more])}"
        yield f"          - {item['name']}{extras}=={item['version']}{comment}"


if __name__ == "__main__":
    sys.exit(main())
