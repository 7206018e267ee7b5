"""Write version constraints into the package lists of `anaconda-project.yml`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow_ae5_deploy.common.text import package_name
from mlflow_ae5_deploy.release.comments import append, append_item
from mlflow_ae5_deploy.release.project_file import LIST_KEYS

_PARTS_OF_MLFLOW = ("mlflow-skinny", "mlflow-tracing")
_CONDA_ITEM = re.compile(r"(?P<channel>[^:\s]+::)?(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?P<rest>[^/@]*)")
_PIP_ITEM = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?P<extras>\[[^\]]*\])?(?P<spec>[^;]*)(?P<marker>;.*)?")


def pin(document: Any, dependencies: Mapping[str, str]) -> Iterator[str]:
    for package, spec in sorted((_parts_of_mlflow(document, dependencies) | dict(dependencies)).items()):
        changed = [
            f"package {old} → {item} ({list_name})"
            for list_name, packages in _package_lists(document)
            for old, item in _pin_in(packages, package, spec)
        ]
        stands = any(_find(packages, package) for _, packages in _package_lists(document))
        if stands:
            yield from changed
            continue
        for list_name, env_spec in _env_specs(document):
            append_item(_list_of(env_spec), f"{package}{spec}")
            yield f"package {package}{spec}: added ({list_name})"


def _parts_of_mlflow(document: Any, dependencies: Mapping[str, str]) -> dict[str, str]:
    """Constraints for MLflow's parts that a release locks: they need its version."""
    message = {package_name(package): spec for package, spec in dependencies.items()}
    parts = [part for part in _PARTS_OF_MLFLOW if "mlflow" in message and part not in message]
    locked = [part for part in parts if any(_find(packages, part) for _, packages in _package_lists(document))]
    return dict.fromkeys(locked, message.get("mlflow", ""))


def _env_specs(document: Any) -> Iterator[tuple[str, Any]]:
    from ruamel.yaml.comments import CommentedMap

    specs = document.get("env_specs")
    if not isinstance(specs, dict) or not specs:  # then the document's own packages are the one environment
        yield "the project", document
        return
    for name in specs:
        if not isinstance(specs[name], dict):
            specs[name] = CommentedMap()
        yield f"env_spec {name}", specs[name]


def _package_lists(document: Any) -> Iterator[tuple[str, Any]]:
    holders = [("the project", document), *_env_specs(document)]
    seen: list[Any] = []
    for list_name, holder in holders:
        for key in LIST_KEYS:
            packages = holder.get(key)
            if isinstance(packages, list) and not any(packages is other for other in seen):
                seen.append(packages)
                yield list_name, packages


def _list_of(holder: Any) -> Any:
    from ruamel.yaml.comments import CommentedSeq

    for key in LIST_KEYS:
        if isinstance(holder.get(key), list):
            return holder[key]
    append(holder, "packages", CommentedSeq())
    return holder["packages"]


def _find(packages: Any, package: str) -> list[tuple[Any, int, bool]]:
    """(list, index, whether it is a pip list) of every entry for `package`."""
    found: list[tuple[Any, int, bool]] = []
    for index, item in enumerate(packages):
        if isinstance(item, dict) and isinstance(item.get("pip"), list):
            pip = item["pip"]
            found += [(pip, n, True) for n, entry in enumerate(pip) if _name(_PIP_ITEM, entry) == package_name(package)]
        elif _name(_CONDA_ITEM, item) == package_name(package):
            found.append((packages, index, False))
    return found


def _name(pattern: re.Pattern[str], item: Any) -> str | None:
    found = pattern.match(item.strip()) if isinstance(item, str) else None
    return package_name(found["name"]) if found else None


def _pin_in(packages: Any, package: str, spec: str) -> list[tuple[str, str]]:
    """Write the constraint into all entries of a package; returns changed (old, new)."""
    changed = []
    for holder, index, is_pip in _find(packages, package):
        old = str(holder[index])
        new = _entry(old.strip(), spec, is_pip)
        if new != old:
            holder[index] = new
            changed.append((old, new))
    return changed


def _entry(old: str, spec: str, is_pip: bool) -> str:
    found = (_PIP_ITEM if is_pip else _CONDA_ITEM).match(old)
    assert found is not None  # noqa: S101 - _find matched it
    if not is_pip:
        return f"{found['channel'] or ''}{found['name']}{spec}"
    if re.match(r"=[^=]", spec):  # conda's `=2.9` means "any 2.9"; pip writes that `==2.9.*`
        spec = f"={spec}" if spec.endswith("*") else f"={spec}.*"
    marker = f" {found['marker']}" if found["marker"] else ""
    return f"{found['name']}{found['extras'] or ''}{spec}{marker}"
