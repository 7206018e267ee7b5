"""Packages of a command's environment, from an archive's `anaconda-project.yml`."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_ae5_deploy.common.errors import ReleaseRefused
from mlflow_ae5_deploy.common.members import BrokenArchive, Limits, walk
from mlflow_ae5_deploy.common.text import package_name
from mlflow_ae5_deploy.common.yaml_limits import MAX_BYTES
from mlflow_ae5_deploy.release.archive import survey_members
from mlflow_ae5_deploy.release.bundled import SERVER_PACKAGE
from mlflow_ae5_deploy.release.project_file import LIST_KEYS, PROJECT_FILE, load_document

_ITEM = re.compile(r"(?:[^:\s]+::)?(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?P<spec>[^;#]*)")
_EXACT = re.compile(r"={1,2}\s*(?P<version>[0-9]{1,9}(?:\.[0-9]{1,9})*)(?:\.\*)?(?:=[^=]*)?\Z")
_LOWER = re.compile(r">=?\s*(?P<version>[0-9]{1,9}(?:\.[0-9]{1,9})*)")
_UPPER = re.compile(r"<(?P<too>=?)\s*(?P<version>[0-9]{1,9}(?:\.[0-9]{1,9})*)")

Version = tuple[int, ...]


@dataclass(frozen=True)
class PackageEnvironment:
    command: str
    name: str
    packages: Mapping[str, str]  # canonical name -> version constraint as written, such as `>=2.1,<2.2`
    ours: bool = False  # the archive's server is this tool's, which names the database driver itself


def environment_of(archive: bytes, command: str) -> PackageEnvironment:
    """The environment of a command in a project archive. Raises ReleaseRefused."""
    try:
        survey = survey_members(walk(io.BytesIO(archive), Limits()), "the project", keep={PROJECT_FILE: MAX_BYTES + 1})
    except BrokenArchive as error:
        raise ReleaseRefused(f"The archive {error}.", where="the project") from None
    document = load_document(survey.kept.get(PROJECT_FILE, b""), "the project")
    ours = any(path.startswith(f"{SERVER_PACKAGE}/") for path in survey.files)
    return read_environment(document, command, ours=ours)


def read_environment(document: Mapping[str, Any], command: str, *, ours: bool = False) -> PackageEnvironment:
    """Packages of the project and the command's env_spec, inherited ones included."""
    commands, specs = document.get("commands") or {}, document.get("env_specs") or {}
    entry = commands.get(command) if isinstance(commands, dict) else None
    desired = entry.get("env_spec") if isinstance(entry, dict) else None
    name = str(desired or next(iter(specs if isinstance(specs, dict) else ()), "") or "the project's")
    packages: dict[str, str] = {}
    for holder in (document, *_heirs(specs, name)):
        for key in LIST_KEYS:
            packages.update(_packages(holder.get(key)))
    return PackageEnvironment(command, name, packages, ours)


def packages_of_specs(document: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Package and version constraint as written, by environment; `` is that of the project."""
    specs = document.get("env_specs")
    holders = {"": document, **(specs if isinstance(specs, dict) else {})}
    return {
        str(name): {package: spec for key in LIST_KEYS for package, spec in _packages(holder.get(key))}
        for name, holder in holders.items()
        if isinstance(holder, dict)
    }


def _heirs(specs: Any, name: str) -> list[Mapping[str, Any]]:
    """The env_spec and what it inherits from, ancestors first, each once."""
    found: dict[str, Mapping[str, Any]] = {}
    entered: set[str] = set()
    stack = [name]
    while stack:
        current = stack[-1]
        spec = specs.get(current) if isinstance(specs, dict) else None
        if not isinstance(spec, dict) or current in entered:
            stack.pop()
            if isinstance(spec, dict):
                found.setdefault(current, spec)
            continue
        entered.add(current)
        parents = spec.get("inherit_from") or []
        stack += [str(parent) for parent in reversed(parents if isinstance(parents, list) else [parents])]
    return [*found.values()]


def _packages(items: Any) -> Iterator[tuple[str, str]]:
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            yield from _packages(item.get("pip"))
        elif isinstance(item, str) and (found := _ITEM.match(item.strip())):
            yield package_name(found["name"]), found["spec"].strip()


def exact_version(spec: str) -> Version | None:
    """(3, 17, 2) of `==3.17.2`, `=3.17.2` or `==3.17.*`; None for other constraints."""
    found = _EXACT.match(spec.strip())
    return _numbers(found["version"]) if found else None


def bounds(spec: str) -> tuple[Version | None, Version | None]:
    """(lowest allowed version, lowest forbidden one above it); None where open."""
    if (exact := exact_version(spec)) is not None:
        return exact, _next(exact)
    low, high = _LOWER.search(spec), _UPPER.search(spec)
    end = _numbers(high["version"]) if high else None
    return (_numbers(low["version"]) if low else None), _next(end) if end and high and high["too"] else end


def _next(version: Version) -> Version:
    return (*version[:-1], version[-1] + 1)


def _numbers(text: str) -> Version:
    return tuple(int(part) for part in text.split("."))
