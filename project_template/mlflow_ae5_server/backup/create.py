"""`backup create`: the database first, in one transaction, then the artifacts; the manifest last of all.

Whatever the database speaks of was in the store before it was read, so it is in the snapshot. Nothing is visible before
everything is on disk; cut off at any point, this leaves a note of how far it came, and the next one goes on from there.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from mlflow_ae5_server import __version__
from mlflow_ae5_server.backup import expected, external_artifacts
from mlflow_ae5_server.backup.artifacts import ArtifactSource
from mlflow_ae5_server.backup.copy import Copier, CopyTotals
from mlflow_ae5_server.common.errors import ConfigurationError, DamagedError, StorageError
from mlflow_ae5_server.common.keys import KeyCheck
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.common.text import amount, counted, shown
from mlflow_ae5_server.database import locks
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.repository import file_list
from mlflow_ae5_server.repository.blobs import BlobReader, BlobWriter
from mlflow_ae5_server.repository.check import BlobUses
from mlflow_ae5_server.repository.entries import FileEntry
from mlflow_ae5_server.repository.file_list import FileListWriter
from mlflow_ae5_server.repository.index import BlobIndex
from mlflow_ae5_server.repository.interfaces import BlobSink
from mlflow_ae5_server.repository.lock import RepositoryLock
from mlflow_ae5_server.repository.manifest import MAX_TEXT, ArtifactsPart, InFlight, Manifest
from mlflow_ae5_server.repository.repository import Repository, UnfinishedSnapshot
from mlflow_ae5_server.repository.reuse import ReusableBlobs
from mlflow_ae5_server.restore import journal

_LOCK_WAIT = 60.0  # seconds for a garbage collection in progress to end
_ATTEMPTS = 3  # at a list that refers to nothing damaged


class Dumped(Protocol):
    """What `create` needs of the database's part."""

    @property
    def dialect(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def tables(self) -> tuple[Any, ...]: ...
    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class BackupOptions:
    """`note_every`: seconds between two notes of how far it came. `waste`: bytes in shared objects of small files that
    may be kept for files long gone, before what is left of them is kept anew, and the next prune can free the rest.
    `allow_empty`: a store without any artifact, or a database without any run, is meant. `on_gone` is told what of the
    snapshot before is not in this one ("runs", "artifacts"), how many, and how many that had, where so many are gone
    that somebody should look."""

    rehash: bool = False
    allow_empty: bool = False
    keys: tuple[KeyCheck, ...] = ()
    note_every: float = 15.0
    waste: int = 64 * 1024 * 1024
    now: Callable[[], float] = time.time
    on_gone: Callable[[str, int, int], None] = lambda _what, _gone, _of: None
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)


def create(
    repository: Repository,
    store: Database,
    source: ArtifactSource,
    destination: str,
    dump: Callable[[Database, BlobSink], Dumped],
    backup_options: BackupOptions | None = None,
) -> Manifest:
    """Take a snapshot and publish it. `destination` is MLFLOW_ARTIFACTS_DESTINATION, to tell what lies outside.

    Raises BusyError, StorageError (also where artifacts should be and none is), ConfigurationError, UnfinishedError
    where a restore was cut off, and what `dump` raises; nothing is published then.
    """
    backup_options = backup_options or BackupOptions()
    with (
        locks.maintenance(store, _LOCK_WAIT),
        repository.lease("backup") as lease,
        contextlib.closing(BlobIndex()) as known,
    ):
        journal.refuse_unfinished(destination)  # one may have been cut off while this waited for the lock
        return _Capture(repository, lease, known, backup_options).run(store, source, destination, dump)


class _Capture:
    def __init__(
        self, repository: Repository, lease: RepositoryLock, known: BlobIndex, backup_options: BackupOptions
    ) -> None:
        self._repository = repository
        self._lease = lease
        self._known = known
        self._options = backup_options
        self._cut = False  # an earlier list could not be read to its end
        self._reusable = ReusableBlobs(repository, known, backup_options.say)
        self._reader = BlobReader(repository.backend, remembered=0, on_damage=self._reusable.damaged)

    def run(
        self, store: Database, source: ArtifactSource, destination: str, dump: Callable[[Database, BlobSink], Dumped]
    ) -> Manifest:
        repository, backup_options = self._repository, self._options
        repository.tidy()
        begun = repository.begun()
        previous = self._previous()
        self._reusable.take()
        own = self._begin(begun)
        writer = BlobWriter(repository.backend, self._known, self._reusable.damaged)
        read_from = backup_options.now()
        elsewhere, running = external_artifacts.find(store, destination)
        database = dump(store, writer)
        backup_options.say(
            f"database: {len(database.tables)} tables, {sum(table.rows for table in database.tables)} rows"
        )
        if not backup_options.allow_empty and not _runs(database):
            self._refuse(own, lambda: expected.refuse_no_runs(store.shown, previous))
        lists, totals = self._copy_all(source, writer, own, begun, previous, read_from, database)
        empty = not totals.files and not totals.links
        meant = empty and (backup_options.allow_empty or expected.was_meant(repository, previous))
        if empty and not meant:
            self._refuse(own, lambda: expected.refuse_empty(store, destination, source.shown, previous))
        self._lease.check()
        manifest = _manifest(
            own, source, database, lists, totals, elsewhere, running, writer, read_from, backup_options
        )
        if meant:
            expected.note_meant(repository, manifest)
        repository.publish(manifest)
        repository.forget([own])
        self._reusable.settle()
        self._compare(previous, manifest, totals, resumed=bool(own.lists))
        return manifest

    def _refuse(self, own: UnfinishedSnapshot, look: Callable[[], None]) -> None:
        try:
            look()
        except StorageError:
            if not own.lists:  # else it had come further when all was there
                self._repository.forget([own])
            raise

    def _compare(self, previous: Manifest | None, made: Manifest, totals: CopyTotals, *, resumed: bool) -> None:
        if previous is None or (self._options.allow_empty and not (totals.files and made.runs)):
            return
        if expected.many_gone(previous.runs - made.runs, previous.runs):
            self._options.on_gone("runs", previous.runs - made.runs, previous.runs)
        # Where the list before this one was not all of the last snapshot's, what it knows is not what is left of that.
        left = totals.files if resumed or self._cut else totals.known
        gone = max(0, previous.artifacts.files - left)
        if expected.many_gone(gone, previous.artifacts.files):
            self._options.on_gone("artifacts", gone, previous.artifacts.files)

    def _previous(self) -> Manifest | None:
        listed = self._repository.listed()
        for one in listed:
            if one.manifest is None:
                self._options.say(f"warning: {one.problem}")
        return next((one.manifest for one in reversed(listed) if one.manifest is not None), None)

    def _begin(self, begun: list[UnfinishedSnapshot]) -> UnfinishedSnapshot:
        """The newest unfinished snapshot, to be finished, or a new one. One that others have overtaken stays behind:
        finished now, it would be the newest by its contents and not by its sequence."""
        started = datetime.fromtimestamp(self._options.now(), UTC)
        if begun and begun[-1].sequence == self._repository.next_sequence() - 1:
            self._options.say(f"resuming the unfinished snapshot {begun[-1].id}")
            return replace(begun[-1], started=_time(begun[-1].started) or started.isoformat(timespec="seconds"))
        name = f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        own = UnfinishedSnapshot(self._repository.next_sequence(), name, started.isoformat(timespec="seconds"), 0.0, ())
        self._repository.note(own)
        return own

    def _copy_all(
        self,
        source: ArtifactSource,
        writer: BlobWriter,
        own: UnfinishedSnapshot,
        begun: list[UnfinishedSnapshot],
        previous: Manifest | None,
        read_from: float,
        database: Dumped,
    ) -> tuple[tuple[str, ...], CopyTotals]:
        """Copy, and again where an object turned out damaged that part of the list had referred to by then.

        Raises DamagedError where that does not end, StorageError where objects have vanished meanwhile.
        """
        for _attempt in range(_ATTEMPTS):
            with contextlib.closing(BlobUses()) as uses:
                lists, totals = self._copy(source, writer, own, begun, previous, read_from, uses)
                uses.add([*_objects(database), *lists])
                lost = self._reusable.lost(uses)
            if not lost:
                return lists, totals
            self._options.say(f"warning: {counted(lost, 'objects')} turned out damaged meanwhile: once more without")
        raise DamagedError(
            f"objects in {self._repository.shown} turn out damaged again and again; no snapshot was made",
            "is the volume sound? Back up to another place",
        )

    def _copy(
        self,
        source: ArtifactSource,
        writer: BlobWriter,
        own: UnfinishedSnapshot,
        begun: list[UnfinishedSnapshot],
        previous: Manifest | None,
        read_from: float,
        uses: BlobUses,
    ) -> tuple[tuple[str, ...], CopyTotals]:
        backup_options = self._options
        noted = time.monotonic()

        def note() -> None:
            nonlocal noted
            if time.monotonic() - noted >= backup_options.note_every:
                copier.drain()
                self._repository.backend.sync()  # what the note names is believed
                first = min(own.read_from or read_from, read_from)
                self._repository.note(UnfinishedSnapshot(own.sequence, own.id, own.started, first, tuple(lists.lists)))
                backup_options.say(f"artifacts: {copier.totals.files} files so far, {amount(copier.totals.bytes)}")
                noted = time.monotonic()

        lists = FileListWriter(writer, note, on_entry=uses.refer)
        copier = Copier(
            source,
            writer,
            self._known,
            lists,
            store_threads=self._repository.backend.threads,
            load_slices=lambda: self._load_slices(begun),
        )
        if previous:
            writer.abandon(
                file_list.wasteful_blobs(self._tolerant(self._repository.files(previous)), backup_options.waste)
            )
        before = self._tolerant(self._repository.files(previous)) if previous else iter(())
        trusted = [previous.read_from] if previous else []
        if own.lists:
            before = file_list.continued(self._tolerant(file_list.read(self._reader, own.lists)), before)
            trusted.append(own.read_from)
        totals = copier.run(before, min(trusted, default=0.0), rehash=backup_options.rehash)
        return tuple(lists.lists), totals

    def _tolerant(self, entries: Iterator[FileEntry]) -> Iterator[FileEntry]:
        """Up to where the list of an earlier snapshot is damaged: what is not known from it is read again."""
        try:
            yield from entries
        except DamagedError as error:
            self._cut = True
            self._options.say(f"warning: an earlier list of artifacts cannot be used: {error.message}")

    def _load_slices(self, begun: list[UnfinishedSnapshot]) -> None:
        """What lies in shared objects, by content, from every list there is. Lists have most parts in common."""
        manifests = [one.manifest for one in self._repository.listed() if one.manifest is not None]
        groups = [manifest.artifacts.lists for manifest in reversed(manifests)] + [one.lists for one in begun]
        seen: set[str] = set()
        for lists in groups:
            new = [sha256 for sha256 in lists if sha256 not in seen]
            seen.update(new)
            for sha256 in new:
                with contextlib.suppress(DamagedError):
                    self._known.add_slices(list(_slices(file_list.lines(self._reader, sha256))))  # read before the lock


def _objects(database: Dumped) -> list[str]:
    from mlflow_ae5_server.database.dialects import DatabasePart

    return list(DatabasePart.from_json(database.to_json()).objects())


def _time(text: str) -> str:
    """`text` if it is a time, else nothing."""
    try:
        return text if datetime.fromisoformat(text).tzinfo else ""
    except ValueError:
        return ""


def _slices(entries: Iterable[FileEntry]) -> Iterator[tuple[str, str, int, int, int]]:
    for entry in entries:
        if len(entry.parts) == 1 and entry.parts[0].sha256 != entry.sha256:
            yield entry.sha256, *entry.parts[0]


def _runs(database: Dumped) -> int:
    return next((int(table.rows) for table in database.tables if table.name == "runs"), 0)


def _manifest(
    own: UnfinishedSnapshot,
    source: ArtifactSource,
    database: Dumped,
    lists: tuple[str, ...],
    totals: CopyTotals,
    elsewhere: list[str],
    running: int,
    writer: BlobWriter,
    read_from: float,
    backup_options: BackupOptions,
) -> Manifest:
    return Manifest(
        id=own.id,
        sequence=own.sequence,
        started=own.started,
        finished=datetime.fromtimestamp(backup_options.now(), UTC).isoformat(timespec="seconds"),
        read_from=read_from,
        mlflow_version=importlib.metadata.version("mlflow"),
        release=__version__,
        dialect=database.dialect,
        revision=database.revision,
        tables=len(database.tables),
        rows=sum(table.rows for table in database.tables),
        runs=_runs(database),
        database=database.to_json(),
        artifacts=ArtifactsPart(
            source=_cut(shown(source.shown)),
            files=totals.files,
            bytes=totals.bytes,
            lists=lists,
            links=totals.links,
            special=totals.special,
            unreadable=tuple(map(_cut, totals.unreadable)),
        ),
        in_flight=InFlight(running, totals.changed, totals.vanished, tuple(map(_cut, totals.names))),
        external=tuple(map(_cut, elsewhere + totals.external)),
        new_objects=writer.new_objects,
        new_bytes=writer.new_bytes,
        stored_bytes=writer.stored_bytes,
        keys=backup_options.keys,
    )


def _cut(text: str) -> str:
    """`text`, in a length that is read again."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def refuse_overlap(destination: str, location: str) -> None:
    """Backups among the artifacts would back themselves up; artifacts among the backups would be taken for foreign.

    Raises ConfigurationError.
    """
    if external_artifacts.is_inside(location, destination) or external_artifacts.is_inside(destination, location):
        raise ConfigurationError(
            f"the backups in {scrub(location)} and the artifacts in {scrub(destination)} lie in each other",
            "give MLFLOW_TRACKING_BACKUP_DESTINATION a place of its own, best on another volume",
        )


def database_files(store: Database) -> frozenset[Path]:
    """The files of an SQLite database: where they lie among the artifacts, they are none."""
    if store.file is None:
        return frozenset()
    file = store.file.resolve()
    suffixes = ("", "-wal", "-shm", "-journal", ".maintenance.lock")
    return frozenset(file.with_name(file.name + suffix) for suffix in suffixes)
