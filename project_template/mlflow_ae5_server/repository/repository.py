"""The snapshots of one place.

mlflow-ae5-backups.json            what this place is, and an id of its own
snapshots/<sequence>-<id>.json     manifests; one that is here is whole, and everything it names is on disk
unfinished/<sequence>-<id>.json    begun and not ended, with how far they came
verified/<sequence>-<id>.json      when a snapshot was last read back, and what was wrong
objects/ab/abcdef…                 contents, once each
damaged/abcdef…                    objects that were found damaged
newest.json                        names the snapshot that was published last
meant-empty.json                   the snapshot that is meant to have no artifact, see backup/expected.py
lease/<number>.json                who may write
tmp/                               (folders only) files that are being made
spare                              (folders only) a little room, given up by a prune that finds none
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlflow_ae5_server.common.errors import DamagedError, NoRoomError, NoSnapshotError, ProjectError, StorageError
from mlflow_ae5_server.common.text import shown
from mlflow_ae5_server.repository import blobs, file_list, manifest
from mlflow_ae5_server.repository import lock as lease
from mlflow_ae5_server.repository.backend import INTRUDER, MOST, Backend, decoded
from mlflow_ae5_server.repository.blobs import BlobReader
from mlflow_ae5_server.repository.entries import FileEntry
from mlflow_ae5_server.repository.interfaces import is_digest
from mlflow_ae5_server.repository.lock import LockTiming, RepositoryLock
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.open import open_backend

MARKER = "mlflow-ae5-backups.json"
NEWEST = "newest.json"
_MAX_LEAP = 1_000_000  # between the numbers of two snapshots, of which those between were pruned
_IDENTITY = re.compile("[0-9a-z]{1,64}")
SNAPSHOTS, UNFINISHED, VERIFIED = "snapshots", "unfinished", "verified"


@dataclass(frozen=True)
class SnapshotEntry:
    """A snapshot as its file names it. `manifest` is None where the file is damaged; `problem` then says how."""

    sequence: int
    id: str
    manifest: Manifest | None
    problem: str = ""

    @property
    def name(self) -> str:
        return manifest.file_name(self.sequence, self.id)


@dataclass(frozen=True)
class UnfinishedSnapshot:
    """An unfinished snapshot. `lists` are the parts of its list of artifacts that were kept, up to a point."""

    sequence: int
    id: str
    started: str
    read_from: float
    lists: tuple[str, ...]

    @property
    def name(self) -> str:
        return manifest.file_name(self.sequence, self.id)


class BackendBlobs(NamedTuple):
    """An object as it lies in the place: `size` there, and when it was written by the clock of the storage."""

    sha256: str
    size: int
    modified: float


class Repository:
    """Snapshots, by sequence. Reading needs no lease: what is published never changes."""

    def __init__(self, backend: Backend, identity: str) -> None:
        self.backend = backend
        self.identity = identity
        self.shown = backend.shown

    def listed(self) -> list[SnapshotEntry]:
        """Every published snapshot, oldest first, damaged ones included."""
        found = [self._listed(name) for name in self._published() if name.endswith(".json")]
        return sorted(found, key=lambda one: (one.sequence, one.id))

    def number(self) -> int:
        """Of published snapshots."""
        return sum(name.endswith(".json") for name in self._published())

    def _published(self) -> set[str]:
        """Raises DamagedError where a snapshot was published and none is there."""
        names = self._filled()
        if not any(name.endswith(".json") for name in names) and (noted := self.backend.read(NEWEST)) is not None:
            names = self._filled()  # the first one may have been published meanwhile
            if not any(name.endswith(".json") for name in names):
                newest = shown(str((decoded(noted) or {}).get("snapshot"))[: manifest.MAX_TEXT])
                raise DamagedError(
                    f"{SNAPSHOTS} in {self.shown} has no snapshot, but {newest} was published there",
                    f"bring that folder back from a copy; if it is lost, remove {NEWEST} and take another backup",
                )
        return names

    def _filled(self) -> set[str]:
        """Without the names that were taken and not filled yet: these are empty, and the snapshot counts as begun
        (see FolderPlace, where there are no links). One that is empty for another reason has lost its content."""
        items = list(self.backend.items(SNAPSHOTS))
        begun = self._names(UNFINISHED) if any(not item.size for item in items) else set()
        names = ((item.name.removeprefix(f"{SNAPSHOTS}/"), item.size) for item in items)
        return {name for name, size in names if size or name not in begun}

    def _listed(self, name: str) -> SnapshotEntry:
        sequence, snapshot = manifest.parse_name(name) or (0, shown(name.removesuffix(".json")))
        try:
            data = self.backend.read(f"{SNAPSHOTS}/{name}")
        except (DamagedError, StorageError) as error:  # of this one file: the folder was just read
            problem = f"the manifest of the snapshot {shown(name)} is damaged: {error.message}"
            return SnapshotEntry(sequence, snapshot, None, problem)
        try:
            return SnapshotEntry(sequence, snapshot, manifest.parse(data or b"", name))
        except DamagedError as error:
            return SnapshotEntry(sequence, snapshot, None, error.message)

    def snapshot(self, which: str = "latest") -> Manifest:
        """The snapshot of that id, or the newest. Raises NoSnapshotError, DamagedError."""
        listed = self.listed()
        if not listed:
            raise NoSnapshotError(f"there is no snapshot in {self.shown} yet", "make one: `backup`")
        if which == "latest":
            return _sound(listed[-1])
        found = [one for one in listed if one.id == which]
        if not found:
            known = ", ".join(one.id for one in listed[-10:])
            raise NoSnapshotError(f"there is no snapshot {which!r} in {self.shown}", f"the newest are: {known}")
        if len(found) > 1:
            names = ", ".join(one.name for one in found)
            raise DamagedError(f"two manifests are of the snapshot {which}: {names}", "remove the one that is a copy")
        return _sound(found[0])

    def files(self, snapshot: Manifest) -> Iterator[FileEntry]:
        """The list of artifacts, sorted by the bytes of the path. Raises DamagedError where it is not whole, also after
        the last entry, where they are not those that the manifest counts."""
        entries = file_list.read(BlobReader(self.backend, remembered=0), snapshot.artifacts.lists)
        return file_list.counted(entries, snapshot.artifacts)

    def reader(self) -> BlobReader:
        return BlobReader(self.backend)

    def database(self, snapshot: Manifest) -> dict[str, Any]:
        return snapshot.database

    def begun(self) -> list[UnfinishedSnapshot]:
        """Unfinished snapshots, oldest first. A note that cannot be read counts as one with nothing kept."""
        published = self._published()
        found = []
        for name in self._names(UNFINISHED) - published:
            if (named := manifest.parse_name(name)) is None:
                continue
            note = decoded(self.backend.read(f"{UNFINISHED}/{name}")) or {}
            lists, read_from = note.get("lists"), note.get("read_from")
            found.append(
                UnfinishedSnapshot(
                    *named,
                    str(note.get("started", "")),
                    float(read_from) if manifest.is_time(read_from) else 0.0,
                    tuple(lists) if isinstance(lists, list) and all(map(is_digest, lists)) else (),
                )
            )
        return sorted(found, key=lambda one: (one.sequence, one.id))

    def tidy(self) -> None:
        """Remove notes that have lost their purpose. Only for whoever holds the lease."""
        published = self._published()
        self.backend.delete([f"{SNAPSHOTS}/{name}" for name in self._names(SNAPSHOTS) - published])
        self.backend.delete([f"{UNFINISHED}/{name}" for name in self._names(UNFINISHED) & published])
        self.backend.delete([f"{VERIFIED}/{name}" for name in self._names(VERIFIED) - published])
        self.backend.clean()

    def _names(self, folder: str) -> set[str]:
        return {item.name.removeprefix(f"{folder}/") for item in self.backend.items(folder)}

    def note(self, begun: UnfinishedSnapshot) -> None:
        """Say how far an unfinished snapshot has come."""
        data = {"started": begun.started, "read_from": begun.read_from, "lists": begun.lists}
        self.backend.write(f"{UNFINISHED}/{begun.name}", json.dumps(data).encode())

    def forget(self, begun: list[UnfinishedSnapshot]) -> None:
        self.backend.delete([f"{UNFINISHED}/{one.name}" for one in begun])

    def publish(self, snapshot: Manifest) -> None:
        """Make it visible, after everything it names is on disk."""
        path, data = f"{SNAPSHOTS}/{snapshot.name}", snapshot.to_bytes()
        if len(data) > MOST or manifest.parse(data, snapshot.name) != snapshot:
            raise DamagedError(f"the manifest of the snapshot {snapshot.id} could not be read again", "report this")
        self.require_ours()
        self.backend.sync()
        if not self.backend.create(path, data):
            raise StorageError(f"there is a snapshot {snapshot.id} in {self.shown} already", "take another backup")
        if self.backend.read(path) != data:
            raise DamagedError(f"{path} in {self.shown} is not what was written", "is the volume sound?")
        with contextlib.suppress(NoRoomError):
            self.backend.write(NEWEST, json.dumps({"snapshot": snapshot.name}).encode())

    def require_ours(self) -> None:
        """That this is still the place that was opened: not another volume, not the empty folder below its mount."""
        marker = self.backend.read(MARKER)
        if marker is None or _identity(self.backend, marker) != self.identity:
            raise StorageError(
                f"{self.shown} is not the place any more that it was when this began", "is the volume still mounted?"
            )

    def kept(self) -> Iterator[BackendBlobs]:
        """Every object in the place. One without any content is none."""
        for item in self.backend.items(blobs.FOLDER):
            sha256 = item.name.rpartition("/")[2]
            if item.size and is_digest(sha256) and item.name == blobs.object_name(sha256):
                yield BackendBlobs(sha256, item.size, item.modified)

    def objects(self) -> Iterator[tuple[str, int]]:
        """Digest, and size as kept."""
        return ((item.sha256, item.size) for item in self.kept())

    def settled(self) -> float:
        """When, by the clock of the storage, everything written until then was on disk: a manifest is published, and
        a note of kept parts of a list is written, after that. 0.0 where neither is."""
        begun = {f"{UNFINISHED}/{one.name}" for one in self.begun() if one.lists}
        noted = [item.modified for item in self.backend.items(UNFINISHED) if item.name in begun]
        published = [item.modified for item in self.backend.items(SNAPSHOTS) if item.size]
        return max(published + noted, default=0.0)

    def verification(self, name: str) -> dict[str, Any]:
        """What was noted of the snapshot's last check; nothing where that makes no sense."""
        noted = decoded(self.backend.read(f"{VERIFIED}/{name}")) or {}
        return noted if _is_verification(noted) else {}

    def note_verification(self, name: str, data: dict[str, Any]) -> None:
        self.backend.write(f"{VERIFIED}/{name}", json.dumps(data).encode())

    def remove(self, listed: list[SnapshotEntry]) -> None:
        self.backend.delete([f"{SNAPSHOTS}/{one.name}" for one in listed])
        self.backend.delete([f"{VERIFIED}/{one.name}" for one in listed])

    def next_sequence(self) -> int:
        """Raises DamagedError for a number that no backup comes to: snapshots behind it would have none in the end."""
        named = [(one.sequence, f"{SNAPSHOTS}/{one.name}") for one in self.listed()]
        named += [(one.sequence, f"{UNFINISHED}/{one.name}") for one in self.begun()]
        last = 0
        for sequence, name in sorted(named):
            if sequence > last + _MAX_LEAP or sequence >= manifest.MAX_SEQUENCE:
                raise DamagedError(f"no snapshot can follow {name} in {self.shown}", INTRUDER)
            last = sequence
        return last + 1

    @contextlib.contextmanager
    def lease(self, purpose: str, timing: LockTiming | None = None, *, frees: bool = False) -> Iterator[RepositoryLock]:
        """Be the only writer; `frees`: to make room. Raises BusyError."""
        with lease.hold(self.backend, purpose, timing, frees=frees) as held:
            try:
                yield held
            finally:
                with contextlib.suppress(ProjectError):  # no room for it, or another repository by now
                    self.require_ours()
                    self.backend.set_room_aside()


def open_repository(url: str) -> Repository:
    """The snapshots at `url`, for reading. Raises StorageError where there are none, or something else."""
    return open_in(open_backend(url))


def open_in(backend: Backend) -> Repository:
    marker = backend.read(MARKER)
    if marker is None:
        if next(iter(backend.items("")), None) is None:
            raise NoSnapshotError(
                f"no backup was made in {backend.shown} yet: nothing is there",
                "make one: `backup`; if there should be some, check MLFLOW_TRACKING_BACKUP_DESTINATION and its volume",
            )
        raise StorageError(
            f"{backend.shown} is no place of backups: there is no {MARKER} in it",
            "check MLFLOW_TRACKING_BACKUP_DESTINATION; is the volume mounted?",
        )
    return Repository(backend, _identity(backend, marker))


def _identity(backend: Backend, marker: bytes) -> str:
    """Raises DamagedError where the marker is none."""
    content = decoded(marker) or {}
    identity = content.get("repository")
    if not isinstance(identity, str) or not _IDENTITY.fullmatch(identity):
        raise DamagedError(
            f"{MARKER} in {backend.shown} is damaged", "bring that file back, or give another destination"
        )
    if content.get("format") != manifest.FORMAT:
        raise DamagedError(
            f"{MARKER} in {backend.shown} is of a format that this release does not know", "use a newer release"
        )
    return identity


def make_in(backend: Backend) -> Repository:
    """The same, made where there is nothing yet. Raises StorageError where there is something that is not ours."""
    backend.prepare()
    if not backend.read(MARKER):
        for item in backend.items(""):
            if item.name != MARKER:
                raise StorageError(
                    f"{backend.shown} holds something else: {shown(item.name)}", "give an empty or a new place"
                )
        content = {"format": manifest.FORMAT, "repository": secrets.token_hex(16)}
        data = (json.dumps(content) + "\n").encode()
        if not backend.create(MARKER, data) and not backend.read(MARKER):
            backend.write(MARKER, data)  # one that was made and never filled
    return open_in(backend)


def _is_verification(noted: dict[str, Any]) -> bool:
    """As `verify.note` writes it."""
    counts = (noted.get(name, 0) for name in ("checked_objects", "of_objects", "found"))
    times = (noted.get("at"), *(noted.get(name) or noted.get("at") for name in ("right", "in_full")))
    damaged = noted.get("damaged")
    return (
        all(type(count) is int and 0 <= count < 2**63 for count in counts)
        and all(map(manifest.is_moment, times))
        and isinstance(damaged, list)
        and all(isinstance(one, dict) and is_digest(one.get("object", "0" * 64)) for one in damaged)
    )


def _sound(listed: SnapshotEntry) -> Manifest:
    if listed.manifest is None:
        raise DamagedError(listed.problem, "choose another one by its id: --snapshot ID", snapshot=listed.id)
    return listed.manifest
