"""What differs between two projects, as lines for a person: `variable MLFLOW_WORKERS: auto → 2`.

Anybody with access to the observed project may have edited it, so its file can have any form and hold any secret. The
value of a variable is only shown where it is known to be harmless, or comes from the configuration.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from mlflow_ae5_deploy.common.errors import ReleaseRefused
from mlflow_ae5_deploy.config.checks import channel, is_confidential
from mlflow_ae5_deploy.release.archive import ArchiveSummary
from mlflow_ae5_deploy.release.packages import packages_of_specs
from mlflow_ae5_deploy.release.project_file import PROJECT_FILE, load_document, variable_default
from mlflow_ae5_deploy.release.tree import PROVENANCE_FOLDER

EDITED_BY_PLATFORM = {".gitignore", ".projectignore"}
# Numbers, switches and the like, so that a person may see their values, whoever wrote them.
HARMLESS_VARIABLES = frozenset(
    {
        "MLFLOW_DISABLE_TELEMETRY",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION",
        "MLFLOW_TRACKING_DATABASE_WAIT",
        "MLFLOW_TRACKING_GC_DRY_RUN",
        "MLFLOW_TRACKING_GC_INCLUDE_REGISTERED",
        "MLFLOW_TRACKING_GC_ORPHANS",
        "MLFLOW_TRACKING_GC_TTL",
        "MLFLOW_TRACKING_METRICS",
        "MLFLOW_TRACKING_UPGRADE_DRY_RUN",
        "MLFLOW_TRACKING_UPGRADE_REHEARSE",
        "MLFLOW_WORKERS",
    }
)
_NAMED = 5  # files that are named; of more, only their number
_LONGEST = 60  # characters of a name or value
_CONSTRAINT = re.compile(r"[A-Za-z0-9.*+!_<>=,|~ -]*\Z")  # no address, which may hold a token

Show = Callable[[str, Any], bool]
"""Whether the value of this name may be shown."""


def differences(observed: ArchiveSummary, desired: ArchiveSummary, configured: Collection[str] = ()) -> tuple[str, ...]:
    """What becomes of the observed project where the desired one replaces it. Needs both project files in `kept`.

    configured: variables whose desired value the configuration shows in plain text.
    """
    return (*_project_files(observed, desired, configured), *_files(observed, desired))


def _files(observed: ArchiveSummary, desired: ArchiveSummary) -> Iterator[str]:
    before, after = _digests(observed), _digests(desired)
    found = dict.fromkeys(before.keys() - after.keys(), "removed")
    found |= dict.fromkeys(after.keys() - before.keys(), "added")
    found |= {path: "changed" for path in after.keys() & before.keys() if before[path] != after[path]}
    if len(found) <= _NAMED:
        yield from (f"file {path}: {what}" for path, what in sorted(found.items()))
        return
    numbers = Counter(found.values())
    yield f"files: {', '.join(f'{numbers[what]} {what}' for what in ('changed', 'added', 'removed') if numbers[what])}"


def _digests(project: ArchiveSummary) -> dict[str, str]:
    return {
        path: entry.sha256
        for path, entry in project.files.items()
        if path != PROJECT_FILE and path not in EDITED_BY_PLATFORM and not path.startswith(f"{PROVENANCE_FOLDER}/")
    }


def _project_files(observed: ArchiveSummary, desired: ArchiveSummary, configured: Collection[str]) -> Iterator[str]:
    if observed.kept.get(PROJECT_FILE) == desired.kept.get(PROJECT_FILE):
        return
    try:
        before, after = (load_document(project.kept.get(PROJECT_FILE, b""), "") for project in (observed, desired))
    except ReleaseRefused:
        before = after = {}
    lines = [
        *_rows(
            "variable",
            _variables(before),
            _variables(after),
            had=lambda name, value: name in HARMLESS_VARIABLES and _is_plain(name, value),
            has=lambda name, value: (name in HARMLESS_VARIABLES or name in configured) and _is_plain(name, value),
        ),
        *_packages(before, after),
        *_channels(before, after),
        *_rows("command", _commands(before), _commands(after)),
    ]
    yield from lines or [f"file {PROJECT_FILE}: changed"]


def _never(_name: str, _value: Any) -> bool:
    return False


def _rows(
    what: str, before: Mapping[str, Any], after: Mapping[str, Any], *, had: Show = _never, has: Show = _never
) -> Iterator[str]:
    """had, has: whether the value before and after may be shown."""
    for name in sorted(before.keys() | after.keys()):
        old, new, line = before.get(name), after.get(name), f"{what} {_shown(name)}"
        if name not in after:
            yield f"{line}: removed"
        elif name not in before:
            yield f"{line}: added" + (f" ({_shown(new)})" if new is not None and has(name, new) else "")
        elif old != new and has(name, new):
            yield f"{line}: {f'{_shown(old)} →' if had(name, old) else 'changed to'} {_shown(new)}"
        elif old != new:
            yield f"{line}: changed"


def _is_plain(name: str, value: Any) -> bool:
    return value is None or (isinstance(value, str | int | float) and not is_confidential(name, str(value)))


def _is_constraint(_name: str, value: Any) -> bool:
    return bool(_CONSTRAINT.match(str(value)))


def _shown(value: Any) -> str:
    text = "no value" if value is None else " ".join(str(value).split()) or "empty"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _variables(document: Mapping[str, Any]) -> dict[str, Any]:
    section = document.get("variables")
    if isinstance(section, list):
        return dict.fromkeys(map(str, section))
    return {str(name): variable_default(value) for name, value in _mapping(section).items()}


def _commands(document: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in _mapping(document.get("commands")).items()}


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _packages(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Of all environments; a line that several of them have stands once."""
    had, has = packages_of_specs(before), packages_of_specs(after)
    lines = [
        line
        for spec in sorted(had.keys() & has.keys())
        for line in _rows("package", had[spec], has[spec], had=_is_constraint, has=_is_constraint)
    ]
    lines += [
        f"environment {_shown(spec)}: {'added' if spec in has else 'removed'}"
        for spec in sorted(had.keys() ^ has.keys())
    ]
    return list(dict.fromkeys(lines))


def _channels(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    had, has = (_texts(document.get("channels")) for document in (before, after))
    if had != has:
        old, new = (", ".join(map(_channel, channels)) or "none" for channels in (had, has))
        yield f"channels: {old} → {new}" if old != new else "channels: changed"


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _channel(value: str) -> str:
    try:
        return _shown(channel(value))
    except ValueError:  # an address with a token or password
        return "(an address that is not shown)"
