"""What differs between two projects, as lines for a person: `variable MLFLOW_WORKERS: auto → 2`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlflow_ae5_deploy.common.errors import ReleaseRefused
from mlflow_ae5_deploy.config.checks import is_confidential
from mlflow_ae5_deploy.release.archive import ArchiveSummary
from mlflow_ae5_deploy.release.packages import packages_of_specs
from mlflow_ae5_deploy.release.project_file import PROJECT_FILE, load_document, variable_default
from mlflow_ae5_deploy.release.tree import PROVENANCE_FOLDER

EDITED_BY_PLATFORM = {".gitignore", ".projectignore"}
_NAMED = 5  # files that are named; of more, only their number
_LONGEST = 60  # characters of a value


def differences(observed: ArchiveSummary, desired: ArchiveSummary) -> tuple[str, ...]:
    """What becomes of the observed project where the desired one replaces it. Needs both project files in `kept`."""
    return (*_project_files(observed, desired), *_files(observed, desired))


def _files(observed: ArchiveSummary, desired: ArchiveSummary) -> Iterator[str]:
    before, after = _digests(observed), _digests(desired)
    found = dict.fromkeys(before.keys() - after.keys(), "removed")
    found |= dict.fromkeys(after.keys() - before.keys(), "added")
    found |= {path: "changed" for path in after.keys() & before.keys() if before[path] != after[path]}
    if len(found) <= _NAMED:
        yield from (f"file {path}: {what}" for path, what in sorted(found.items()))
        return
    numbers = [f"{list(found.values()).count(what)} {what}" for what in ("changed", "added", "removed")]
    yield f"files: {', '.join(text for text in numbers if not text.startswith('0 '))}"


def _digests(project: ArchiveSummary) -> dict[str, str]:
    return {
        path: entry.sha256
        for path, entry in project.files.items()
        if path != PROJECT_FILE and path not in EDITED_BY_PLATFORM and not path.startswith(f"{PROVENANCE_FOLDER}/")
    }


def _project_files(observed: ArchiveSummary, desired: ArchiveSummary) -> Iterator[str]:
    if observed.kept.get(PROJECT_FILE) == desired.kept.get(PROJECT_FILE):
        return
    try:
        before, after = (load_document(project.kept.get(PROJECT_FILE, b""), "") for project in (observed, desired))
    except ReleaseRefused:
        before = after = {}
    lines = [
        *_rows("variable", _variables(before), _variables(after)),
        *_packages(before, after),
        *_channels(before, after),
        *_rows("command", _names(before, "commands"), _names(after, "commands"), show=False),
    ]
    yield from lines or [f"file {PROJECT_FILE}: changed"]


def _rows(what: str, before: Mapping[str, Any], after: Mapping[str, Any], *, show: bool = True) -> Iterator[str]:
    """show: the values too, except those that may be secrets."""
    for name in sorted(before.keys() | after.keys()):
        had, has = before.get(name), after.get(name)
        if name in before and name in after and had == has:
            continue
        visible = show and not any(value and is_confidential(name, str(value)) for value in (had, has))
        if name not in after:
            yield f"{what} {name}: removed"
        elif name not in before:
            yield f"{what} {name}: added" + (f" ({_shown(has)})" if visible and has is not None else "")
        else:
            yield f"{what} {name}: {_shown(had)} → {_shown(has)}" if visible else f"{what} {name}: changed"


def _shown(value: Any) -> str:
    text = "no value" if value is None else " ".join(str(value).split()) or "empty"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _variables(document: Mapping[str, Any]) -> dict[str, Any]:
    section = document.get("variables")
    if isinstance(section, list):
        return dict.fromkeys(map(str, section))
    return {str(name): variable_default(value) for name, value in _mapping(section).items()}


def _names(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {str(name): value for name, value in _mapping(document.get(key)).items()}


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _packages(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Of all environments; a line that several of them have stands once."""
    had, has = packages_of_specs(before), packages_of_specs(after)
    lines = [line for spec in sorted(had.keys() & has.keys()) for line in _rows("package", had[spec], has[spec])]
    lines += [
        f"environment {spec}: {'added' if spec in has else 'removed'}" for spec in sorted(had.keys() ^ has.keys())
    ]
    return list(dict.fromkeys(lines))


def _channels(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    had, has = ([*map(str, document.get("channels") or ())] for document in (before, after))
    if had != has:
        yield f"channels: {', '.join(had) or 'none'} → {', '.join(has) or 'none'}"
