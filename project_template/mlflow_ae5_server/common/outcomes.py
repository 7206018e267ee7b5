"""How the last run of each kind of job ended: small files on the volume, which the server's metrics are made from.

One file per kind, in `.../artifacts.outcomes/` next to the artifacts, or in `.../artifacts/.mlflow-ae5-outcomes/` where
nothing can be created next to them. Artifacts in an object store: next to the SQLite file, else next to the backups. A
job never fails because of them.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow_ae5_server.common import durable, folders, json_input
from mlflow_ae5_server.common.contract import EXIT_CODES
from mlflow_ae5_server.common.errors import ProjectError
from mlflow_ae5_server.common.report import say
from mlflow_ae5_server.common.settings import Settings

KINDS = ("backup", "check", "drill", "gc", "prune")
_VOLUMES = {
    "artifacts": "MLFLOW_ARTIFACTS_DESTINATION",
    "database": "MLFLOW_BACKEND_STORE_URI",
    "backups": "MLFLOW_TRACKING_BACKUP_DESTINATION",
}
_ACTIONS = {"create": "backup", "verify": "check", "prune": "prune"}
_SIZE = {
    "backup": "artifact_bytes",
    "check": "checked_bytes",
    "drill": "artifact_bytes",
    "gc": "bytes",
    "prune": "freed_bytes",
}
_LARGEST = 64 * 1024  # bytes of a file


def _kind_of(report: Mapping[str, Any]) -> str | None:
    """The kind of the job that wrote `report`; None for runs that only look."""
    if report.get("dry_run") or report.get("outcome") == "dry-run":
        return None
    command = report.get("command")
    if command == "Backup":
        return _ACTIONS.get(report.get("action", ""))
    return {"Drill": "drill", "GarbageCollection": "gc"}.get(str(command))


def parts(report: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(kind, report on it) of what the job did. A backup may also have pruned, which does not fail it."""
    kind = _kind_of(report)
    if kind is None:
        return
    yield kind, report
    if kind == "backup" and report.get("prune_error"):
        code, hint = EXIT_CODES["failed"], report.get("prune_hint", "")
        yield "prune", {"outcome": "failed", "exit_code": code, "error": report["prune_error"], "hint": hint}
    elif kind == "backup" and "kept" in report:
        yield "prune", {"outcome": "done", "exit_code": 0, "freed_bytes": report.get("freed_bytes")}


def record(settings: Settings, report: Mapping[str, Any], clock: Callable[[], float] = time.time) -> None:
    """Keep the outcome of a job that has ended."""
    ended = list(parts(report))
    if not ended:
        return
    problem, now = "", clock()
    for folder in _candidates(settings):
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            for kind, part in ended:
                _record(folder / f"{kind}.json", part, _SIZE[kind], now)
        except OSError as error:
            problem = f"{folder}: {error.strerror}"
        else:
            return
    if problem:
        say(f"note: the outcome is not in the server's metrics: {problem}")


def _record(file: Path, part: Mapping[str, Any], size: str, now: float) -> None:
    succeeded = part["exit_code"] == 0 and part["outcome"] != "skipped"
    before = _read(file)
    fields = {
        "finished": now,
        "succeeded": now if succeeded else before.get("succeeded"),
        "seconds": part.get("seconds"),  # not known of a prune after a backup
        "exit_code": part["exit_code"],
        "outcome": part["outcome"],
        "bytes": part.get(size) if succeeded else before.get("bytes"),
    }
    partial = f".{file.name}.{secrets.token_hex(4)}"  # two checks or drills may end at the same time
    durable.write(file, json.dumps(fields).encode(), partial)


def read(settings: Settings) -> dict[str, dict[str, float]]:
    """Kind -> the numbers of its last run, as `record` has them; none of what cannot be read."""
    if (folder := recorded_in(settings)) is None:
        return {}
    found = {kind: _read(folder / f"{kind}.json") for kind in KINDS}
    return {kind: _numbers(fields) for kind, fields in found.items() if fields}


def recorded_in(settings: Settings) -> Path | None:
    """Where the outcomes are; None where nothing could be recorded."""
    return next((folder for folder in _candidates(settings) if folder.is_dir()), None)


def local_folders(settings: Settings) -> Iterator[tuple[str, Path]]:
    """(volume, folder or SQLite file) of every volume that is on this machine."""
    for volume, setting in _VOLUMES.items():
        value = settings.value(setting) or ""
        with contextlib.suppress(ProjectError):
            path = folders.sqlite_file(value) if volume == "database" else folders.local_folder(value)
            if value and path is not None:
                yield volume, path


def _candidates(settings: Settings) -> list[Path]:
    for volume, path in local_folders(settings):
        near = path.with_name(f"{path.name}.outcomes")
        return [near] if volume == "database" else [near, path / ".mlflow-ae5-outcomes"]
    return []


def _read(file: Path) -> dict[str, Any]:
    """Empty where there is nothing usable."""
    try:
        with file.open("rb") as stream:
            content = json_input.parse(stream.read(_LARGEST))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _numbers(fields: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in fields.items() if type(value) in (int, float)}
