"""The manifest of a snapshot: all but its contents, in a file with a digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, TypeGuard

from mlflow_ae5_server.common import json_input, keys
from mlflow_ae5_server.common.errors import ANOTHER_SNAPSHOT, SnapshotDamaged
from mlflow_ae5_server.common.text import shown
from mlflow_ae5_server.database.contents import DatabasePart
from mlflow_ae5_server.repository.blob_types import is_digest

FORMAT = 1
MAX_SEQUENCE = 99_999_999
MAX_TEXT = 4096  # characters of a name or any other text
_MAX_DEPTH = 10  # checked before it is serialized again, indented, to be compared
_MAX_VALUES = 300_000  # more than MAX_FILE bytes of digests
_FILE = re.compile(r"(?P<sequence>\d{8})-(?P<id>\d{8}T\d{6}Z-[0-9a-f]{6})\.json\Z", re.ASCII)


@dataclass(frozen=True)
class ArtifactsPart:
    source: str
    files: int
    bytes: int
    lists: tuple[str, ...]  # blobs whose contents, one after another, are the file list
    links: int = 0  # recorded without content
    special: int = 0  # likewise: devices, sockets, pipes
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class InFlight:
    """What changed while the snapshot was taken."""

    running_runs: int = 0
    changed_files: int = 0
    vanished_files: int = 0
    names: tuple[str, ...] = ()  # of the first of these files


@dataclass(frozen=True)
class Manifest:
    """Snapshots are ordered by `sequence` alone: the times are for people."""

    id: str
    sequence: int
    started: str  # ISO 8601, UTC
    finished: str
    read_from: float  # seconds since 1970: no artifact was read before that
    mlflow_version: str
    release: str
    dialect: str
    revision: str
    tables: int
    rows: int
    runs: int  # without deleted ones
    database: dict[str, Any]  # the JSON of a DatabasePart
    artifacts: ArtifactsPart
    in_flight: InFlight
    external: tuple[str, ...]  # locations of artifacts that are not in the snapshot
    new_objects: int
    new_bytes: int
    stored_bytes: int
    keys: tuple[keys.KeyCheck, ...] = ()  # check values of MLflow's keys, never a key

    @property
    def name(self) -> str:
        """The name of its file."""
        return file_name(self.sequence, self.id)

    @property
    def complete(self) -> bool:
        return not self.external and not self.artifacts.unreadable

    @property
    def deleted_runs(self) -> int:
        """Runs that users deleted and garbage collection has not purged yet."""
        return int(self.database.get("deleted_runs", 0))

    @property
    def all_runs(self) -> int:
        return self.runs + self.deleted_runs

    @property
    def models(self) -> int:
        """Registered models."""
        tables = self.database.get("tables", ())
        return next((int(table["rows"]) for table in tables if table["name"] == "registered_models"), 0)

    @property
    def own_blobs(self) -> list[str]:
        """The blobs of the database and the file list, which names those of artifacts."""
        return [*DatabasePart.from_json(self.database).objects(), *self.artifacts.lists]

    def to_bytes(self) -> bytes:
        """The content of its file. The digest covers everything else in it."""
        data = {"format": FORMAT, **asdict(self)}
        return _canonical({**data, "digest": _digest(data)})


def file_name(sequence: int, snapshot: str) -> str:
    return f"{sequence:08d}-{snapshot}.json"


def parse_name(name: str) -> tuple[int, str] | None:
    """Sequence and id in a file's name; None for a name that is not a snapshot's."""
    found = _FILE.match(name)
    return (int(found["sequence"]), found["id"]) if found else None


def parse(data: bytes, name: str) -> Manifest:
    """The manifest in the file `name`. Raises SnapshotDamaged if it was changed."""
    try:
        found = json_input.parse(data, _MAX_DEPTH, _MAX_VALUES)
        digest = found.pop("digest")
        written = digest == _digest(found) and data == _canonical({**found, "digest": digest})
        supported = found.pop("format") == FORMAT
        manifest = _manifest(found) if supported and written else None
    except (ValueError, TypeError, KeyError, AttributeError):
        written, supported, manifest = False, True, None
    name = shown(name)
    if written and not supported:
        raise SnapshotDamaged(
            f"the snapshot {name} has a format that this release does not know", "use a newer release"
        )
    if manifest is None:
        how = "it is not what was written" if data else "its file is empty"
        raise SnapshotDamaged(f"the manifest of the snapshot {name} is damaged: {how}", ANOTHER_SNAPSHOT)
    if manifest.name != name:
        raise SnapshotDamaged(
            f"the manifest {name} is that of the snapshot {manifest.id}: it was copied or renamed",
            f"delete snapshots/{name} if snapshots/{manifest.name} exists; otherwise rename it to that",
        )
    return manifest


def _manifest(data: dict[str, Any]) -> Manifest:
    """Raises ValueError, KeyError or TypeError for values that no backup writes."""
    artifacts = ArtifactsPart(**_fields(ArtifactsPart, data["artifacts"]))
    if not all(map(is_digest, artifacts.lists)):
        raise ValueError("a part of the file list is not a blob")
    in_flight = InFlight(**_fields(InFlight, data["in_flight"]))
    parts = {"artifacts": artifacts, "in_flight": in_flight, "keys": keys.parse(data["keys"])}
    manifest = Manifest(**{**_fields(Manifest, data), **parts})
    if parse_name(manifest.name) is None or not is_moment(manifest.started) or not is_moment(manifest.finished):
        raise ValueError("a name or a time is malformed")
    try:
        DatabasePart.from_json(manifest.database)
    except SnapshotDamaged as error:
        raise ValueError(error.message) from None
    return manifest


def _fields(kind: type, data: dict[str, Any]) -> dict[str, Any]:
    types = {field.name: str(field.type) for field in fields(kind)}
    if data.keys() != types.keys():
        raise ValueError("unexpected fields")
    checks: dict[str, Callable[[Any], bool]] = {
        "str": lambda value: isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable(),
        "int": lambda value: type(value) is int and 0 <= value < 2**63,
        "float": is_time,
        "tuple[str, ...]": lambda value: isinstance(value, list) and all(map(checks["str"], value)),
    }
    for name, value in data.items():
        if (check := checks.get(types[name])) is not None and not check(value):
            raise ValueError(name)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}


def is_time(value: object) -> TypeGuard[float]:
    """Whether `value` can be seconds since 1970."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11


def is_moment(text: object) -> TypeGuard[str]:
    """Whether `text` is a time in UTC, ISO 8601."""
    try:
        return isinstance(text, str) and datetime.fromisoformat(text).utcoffset() == timedelta(0)
    except ValueError:
        return False


def _canonical(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, sort_keys=True, indent=1) + "\n").encode("ascii")


def _digest(data: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(data)).hexdigest()
