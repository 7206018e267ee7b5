"""The repository of snapshots at one backup destination.

mlflow-ae5-backups.json            marks the repository, with an id of its own
snapshots/<sequence>-<id>.json     manifests; everything that one refers to was synced before it
unfinished/<sequence>-<id>.json    snapshots in progress or interrupted, with the file list so far
verified/<sequence>-<id>.json      result of the last check of a snapshot, see check.py
objects/ab/abcdef…                 blobs and packs, see blobs.py
damaged/abcdef…                    blobs found damaged, see damage.py
newest.json                        names the snapshot published last
meant-empty.json                   the snapshot that is meant to have no artifact, see backup/expected.py
lock/<number>.json                 who may write, see lock.py
tmp/                               (folders only) temporary files of writers
spare                              (folders only) a little space for a prune that finds none
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mlflow_ae5_server.common.errors import NoRoom, NoSnapshot, ProjectError, RepositoryFailed, SnapshotDamaged
from mlflow_ae5_server.common.folders import local_folder
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.common.text import shown
from mlflow_ae5_server.repository import blobs, file_list, lock, manifest
from mlflow_ae5_server.repository.backend import INTRUDER, MAX_FILE, Backend, decoded
from mlflow_ae5_server.repository.blob_types import is_digest
from mlflow_ae5_server.repository.blobs import BlobReader
from mlflow_ae5_server.repository.entries import FileEntry
from mlflow_ae5_server.repository.folder_backend import FolderBackend
from mlflow_ae5_server.repository.lock import RepositoryLock
from mlflow_ae5_server.repository.manifest import Manifest

MARKER = "mlflow-ae5-backups.json"
NEWEST = "newest.json"
SNAPSHOTS, UNFINISHED, VERIFIED = "snapshots", "unfinished", "verified"
_MAX_GAP = 1_000_000  # between the numbers of two snapshots, of which those between were pruned
_IDENTITY = re.compile("[0-9a-z]{1,64}")


@dataclass(frozen=True)
class SnapshotEntry:
    """A published snapshot, named by its file."""

    sequence: int
    id: str
    manifest: Manifest | None
    """None where the file is damaged."""
    problem: str = ""
    """What is wrong with the file."""

    @property
    def name(self) -> str:
        return manifest.file_name(self.sequence, self.id)


@dataclass(frozen=True)
class UnfinishedSnapshot:
    sequence: int
    id: str
    started: str
    read_from: float
    lists: tuple[str, ...]
    """The blobs of its file list that were stored, up to some entry."""

    @property
    def name(self) -> str:
        return manifest.file_name(self.sequence, self.id)


class BlobFile(NamedTuple):
    sha256: str
    size: int
    """As stored."""
    modified: float
    """By the clock of the storage."""


class Repository:
    """Reading needs no lock: published snapshots never change."""

    def __init__(self, backend: Backend, identity: str) -> None:
        self.backend = backend
        self.identity = identity
        self.shown = backend.shown

    # Snapshots

    def snapshots(self) -> list[SnapshotEntry]:
        """Every published snapshot, oldest first, damaged ones included."""
        entries = [self._entry(name) for name in self._published() if name.endswith(".json")]
        return sorted(entries, key=lambda entry: (entry.sequence, entry.id))

    def count(self) -> int:
        """The number of published snapshots."""
        return sum(name.endswith(".json") for name in self._published())

    def _published(self) -> set[str]:
        """Raises SnapshotDamaged where a snapshot was published and none exists."""
        names = self._complete_names()
        if not any(name.endswith(".json") for name in names) and (noted := self.backend.read(NEWEST)) is not None:
            names = self._complete_names()  # the first one may have been published meanwhile
            if not any(name.endswith(".json") for name in names):
                newest = shown(str((decoded(noted) or {}).get("snapshot"))[: manifest.MAX_TEXT])
                raise SnapshotDamaged(
                    f"{SNAPSHOTS} in {self.shown} has no snapshot, although {newest} was published there",
                    f"restore that folder from a copy; if there is none, delete {NEWEST} and take another backup",
                )
        return names

    def _complete_names(self) -> set[str]:
        """The names of manifests, without those that are still being written.

        Where there are no hard links, FolderBackend creates a name empty and fills it later: its snapshot is unfinished
        until then. A file that is empty for another reason has lost its content.
        """
        items = list(self.backend.items(SNAPSHOTS))
        unfinished = self._names(UNFINISHED) if any(not item.size for item in items) else set()
        names = ((item.name.removeprefix(f"{SNAPSHOTS}/"), item.size) for item in items)
        return {name for name, size in names if size or name not in unfinished}

    def _names(self, folder: str) -> set[str]:
        return {item.name.removeprefix(f"{folder}/") for item in self.backend.items(folder)}

    def _entry(self, name: str) -> SnapshotEntry:
        sequence, snapshot = manifest.parse_name(name) or (0, shown(name.removesuffix(".json")))
        try:
            data = self.backend.read(f"{SNAPSHOTS}/{name}")
        except (SnapshotDamaged, RepositoryFailed) as error:  # of this one file: the folder was just read
            problem = f"the manifest of the snapshot {shown(name)} is damaged: {error.message}"
            return SnapshotEntry(sequence, snapshot, None, problem)
        try:
            return SnapshotEntry(sequence, snapshot, manifest.parse(data or b"", name))
        except SnapshotDamaged as error:
            return SnapshotEntry(sequence, snapshot, None, error.message)

    def snapshot(self, which: str = "latest") -> Manifest:
        """The newest, or that of the id `which` or its end. Raises NoSnapshot, SnapshotDamaged."""
        entries = self.snapshots()
        if not entries:
            raise NoSnapshot(f"there is no snapshot in {self.shown} yet", "run `backup`")
        same = entries[-1:] if which == "latest" else named(entries, which)
        if not same:
            newest = ", ".join(entry.id for entry in entries[-10:])
            raise NoSnapshot(f"there is no snapshot {which!r} in {self.shown}", f"name one of these: {newest}")
        if len({entry.id for entry in same}) > 1:
            names = ", ".join(entry.id for entry in same)
            raise NoSnapshot(f"several ids end in {which!r}: {names}", "give the whole id")
        if len(same) > 1:
            names = ", ".join(entry.name for entry in same)
            raise SnapshotDamaged(f"the snapshot {which} has two manifests: {names}", "remove the one that is a copy")
        if same[0].manifest is None:
            raise SnapshotDamaged(same[0].problem, "choose another one by its id: --snapshot ID", snapshot=same[0].id)
        return same[0].manifest

    def files(self, snapshot: Manifest) -> Iterator[FileEntry]:
        """The file list, sorted by the bytes of the path.

        Raises SnapshotDamaged; after the last entry, too, if they are not as many as the manifest says.
        """
        entries = file_list.read(BlobReader(self.backend, cached=0), snapshot.artifacts.lists)
        return file_list.counted(entries, snapshot.artifacts)

    def reader(self) -> BlobReader:
        return BlobReader(self.backend)

    def publish(self, snapshot: Manifest) -> None:
        """Make a snapshot visible, after everything that it refers to is synced."""
        path, data = f"{SNAPSHOTS}/{snapshot.name}", snapshot.to_bytes()
        if len(data) > MAX_FILE or manifest.parse(data, snapshot.name) != snapshot:
            raise SnapshotDamaged(f"the manifest of the snapshot {snapshot.id} could not be read again", "report this")
        self.require_same()
        self.backend.sync()
        if not self.backend.create(path, data):
            raise RepositoryFailed(f"there is a snapshot {snapshot.id} in {self.shown} already", "take another backup")
        if self.backend.read(path) != data:
            raise SnapshotDamaged(f"{path} in {self.shown} is not what was written", "check the volume for errors")
        with contextlib.suppress(NoRoom):
            self.backend.write(NEWEST, json.dumps({"snapshot": snapshot.name}).encode())

    def remove(self, entries: list[SnapshotEntry]) -> None:
        self.backend.delete([f"{folder}/{entry.name}" for folder in (SNAPSHOTS, VERIFIED) for entry in entries])

    def next_sequence(self) -> int:
        """The next number. Raises SnapshotDamaged for one that no backup reaches."""
        named = [(entry.sequence, f"{SNAPSHOTS}/{entry.name}") for entry in self.snapshots()]
        named += [(entry.sequence, f"{UNFINISHED}/{entry.name}") for entry in self.unfinished()]
        last = 0
        for sequence, name in sorted(named):
            if sequence > last + _MAX_GAP or sequence >= manifest.MAX_SEQUENCE:
                raise SnapshotDamaged(f"{name} in {self.shown} has the highest sequence number there can be", INTRUDER)
            last = sequence
        return last + 1

    # Unfinished snapshots

    def unfinished(self) -> list[UnfinishedSnapshot]:
        """Unfinished snapshots, oldest first; without a list if the file is malformed."""
        entries = []
        for name in self._names(UNFINISHED) - self._published():
            if (named := manifest.parse_name(name)) is None:
                continue
            content = decoded(self.backend.read(f"{UNFINISHED}/{name}")) or {}
            started, lists, read_from = (content.get(key) for key in ("started", "lists", "read_from"))
            entries.append(
                UnfinishedSnapshot(
                    *named,
                    started if manifest.is_moment(started) else "",
                    float(read_from) if manifest.is_time(read_from) else 0.0,
                    tuple(lists) if isinstance(lists, list) and all(map(is_digest, lists)) else (),
                )
            )
        return sorted(entries, key=lambda entry: (entry.sequence, entry.id))

    def write_unfinished(self, snapshot: UnfinishedSnapshot) -> None:
        data = {"started": snapshot.started, "read_from": snapshot.read_from, "lists": snapshot.lists}
        self.backend.write(f"{UNFINISHED}/{snapshot.name}", json.dumps(data).encode())

    def remove_unfinished(self, snapshots: list[UnfinishedSnapshot]) -> None:
        self.backend.delete([f"{UNFINISHED}/{snapshot.name}" for snapshot in snapshots])

    def remove_leftovers(self) -> None:
        """Remove files that serve no snapshot any more. Only for the holder of the lock."""
        published = self._published()
        self.backend.delete([f"{SNAPSHOTS}/{name}" for name in self._names(SNAPSHOTS) - published])
        self.backend.delete([f"{UNFINISHED}/{name}" for name in self._names(UNFINISHED) & published])
        self.backend.delete([f"{VERIFIED}/{name}" for name in self._names(VERIFIED) - published])
        self.backend.clean()

    # Blobs

    def stored_blobs(self) -> Iterator[BlobFile]:
        """Every blob in the repository; an empty file is none."""
        for item in self.backend.items(blobs.FOLDER):
            sha256 = item.name.rpartition("/")[2]
            if item.size and is_digest(sha256) and item.name == blobs.blob_name(sha256):
                yield BlobFile(sha256, item.size, item.modified)

    def blob_sizes(self) -> Iterator[tuple[str, int]]:
        """Digest and stored size of every blob."""
        return ((blob.sha256, blob.size) for blob in self.stored_blobs())

    def synced_until(self) -> float:
        """The time, by the clock of the storage, before which all writes were synced.

        Every manifest and every unfinished file list is written after a sync. 0.0 where neither exists.
        """
        with_lists = {f"{UNFINISHED}/{entry.name}" for entry in self.unfinished() if entry.lists}
        times = [item.modified for item in self.backend.items(UNFINISHED) if item.name in with_lists]
        times += [item.modified for item in self.backend.items(SNAPSHOTS) if item.size]
        return max(times, default=0.0)

    # Access

    def require_same(self) -> None:
        """Raises RepositoryFailed if the address leads to another repository by now."""
        marker = self.backend.read(MARKER)
        if marker is None or _identity(self.backend, marker) != self.identity:
            raise RepositoryFailed(
                f"{self.shown} was replaced by another repository during this run",
                "check that the volume is still mounted",
            )

    @contextlib.contextmanager
    def lock(self, purpose: str, *, use_spare: bool = False) -> Iterator[RepositoryLock]:
        """Be the only writer, if need be in the reserved space. Raises Locked."""
        with lock.hold(self.backend, purpose, use_spare=use_spare) as held:
            try:
                yield held
            finally:
                with contextlib.suppress(ProjectError):  # no room for it, or another repository by now
                    self.require_same()
                    self.backend.reserve_space()


def open_backend(url: str) -> Backend:
    """The backend at `url`. Sends and creates nothing. Raises Configuration."""
    if (folder := local_folder(url)) is not None:
        return FolderBackend(folder)
    from mlflow_ae5_server.common import object_store
    from mlflow_ae5_server.repository.object_store_backend import ObjectStoreBackend

    return ObjectStoreBackend(object_store.open_store(url), scrub(url))


def named(entries: Sequence[SnapshotEntry], which: str) -> list[SnapshotEntry]:
    """The snapshots of the id `which`; where there is none, those whose ids end with it, as in `backup list`."""
    return [entry for entry in entries if entry.id == which] or [
        entry for entry in entries if entry.id.endswith(f"-{which}")
    ]


def open_repository(url: str) -> Repository:
    """The repository at `url`. Raises NoSnapshot if it is empty, RepositoryFailed."""
    return _open(open_backend(url))


def _open(backend: Backend) -> Repository:
    marker = backend.read(MARKER)
    if marker is None:
        if next(iter(backend.items("")), None) is None:
            raise NoSnapshot(
                f"no backups in {backend.shown} yet",
                "run `backup`; if there should be some, check MLFLOW_TRACKING_BACKUP_DESTINATION and its volume",
            )
        raise RepositoryFailed(
            f"{backend.shown} is not a backup repository: it has no {MARKER}",
            "check MLFLOW_TRACKING_BACKUP_DESTINATION and that its volume is mounted",
        )
    return Repository(backend, _identity(backend, marker))


def create_repository(backend: Backend) -> Repository:
    """Open a repository, or create it in an empty backend. Raises RepositoryFailed."""
    backend.prepare()
    if not backend.read(MARKER):
        for item in backend.items(""):
            if item.name != MARKER:
                raise RepositoryFailed(
                    f"{backend.shown} contains something else: {shown(item.name)}", "use an empty or a new destination"
                )
        content = {"format": manifest.FORMAT, "repository": secrets.token_hex(16)}
        data = (json.dumps(content) + "\n").encode()
        if not backend.create(MARKER, data) and not backend.read(MARKER):
            backend.write(MARKER, data)  # it was created empty and never filled
    return _open(backend)


def _identity(backend: Backend, marker: bytes) -> str:
    """The id in a marker. Raises SnapshotDamaged."""
    content = decoded(marker) or {}
    identity = content.get("repository")
    if not isinstance(identity, str) or not _IDENTITY.fullmatch(identity):
        raise SnapshotDamaged(
            f"{MARKER} in {backend.shown} is damaged", "restore that file from a copy, or use another destination"
        )
    if content.get("format") != manifest.FORMAT:
        raise SnapshotDamaged(
            f"{MARKER} in {backend.shown} has a format that this release does not know", "use a newer release"
        )
    return identity
