"""`backup create`: the database, then the artifacts, the manifest last.

The database is read in one transaction. Every artifact that the database refers to was in the store before the database
was read, so it is in the snapshot. Nothing is visible before everything is synced. Interrupted at any point, a backup
leaves an unfinished snapshot with the file list so far, and the next backup resumes there.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mlflow_ae5_server import __version__
from mlflow_ae5_server.backup import expected, external_artifacts
from mlflow_ae5_server.backup.artifacts import ArtifactSource
from mlflow_ae5_server.backup.copy import Copier, CopyTotals
from mlflow_ae5_server.backup.sizing import sized
from mlflow_ae5_server.common import progress
from mlflow_ae5_server.common.errors import RepositoryFailed, SnapshotDamaged
from mlflow_ae5_server.common.keys import KeyCheck
from mlflow_ae5_server.common.report import say, warn
from mlflow_ae5_server.common.text import counted, shown
from mlflow_ae5_server.database import locks, schema
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.database.contents import DatabasePart
from mlflow_ae5_server.repository import file_list
from mlflow_ae5_server.repository.blob_index import BlobIndex
from mlflow_ae5_server.repository.blob_types import BlobSink
from mlflow_ae5_server.repository.blobs import BlobReader, BlobWriter
from mlflow_ae5_server.repository.entries import FileEntry
from mlflow_ae5_server.repository.file_list import FileListWriter
from mlflow_ae5_server.repository.lock import RepositoryLock
from mlflow_ae5_server.repository.manifest import MAX_TEXT, ArtifactsPart, InFlight, Manifest
from mlflow_ae5_server.repository.repository import Repository, UnfinishedSnapshot
from mlflow_ae5_server.repository.reuse import ReusableBlobs
from mlflow_ae5_server.repository.used_blobs import UsedBlobs
from mlflow_ae5_server.restore import journal

_LOCK_WAIT = 60.0  # seconds for another job, or a starting server, to release the database
_ATTEMPTS = 3  # at a file list that refers to no damaged blob


@dataclass(frozen=True)
class BackupOptions:
    rehash: bool = False
    allow_empty: bool = False
    """A store without any artifact, or a database without any run, is intended."""
    keys: tuple[KeyCheck, ...] = ()
    save_every: float = 15.0
    """Seconds between two writes of the file list so far."""
    waste: int = 64 * 1024 * 1024
    """Bytes in packs that deleted files may occupy before the contents still used are stored again, so that a prune can
    free the packs."""
    now: Callable[[], float] = time.time
    on_gone: Callable[[str, int, int], None] = lambda _what, _gone, _before: None
    """Called with "runs" or "artifacts", how many of the previous snapshot are gone, and how many it had, where so many
    are gone that an administrator should look."""
    say: Callable[[str], None] = say
    warn: Callable[[str], None] = warn


def create_snapshot(
    repository: Repository,
    store: Database,
    source: ArtifactSource,
    destination: str,
    dump: Callable[[Database, BlobSink], DatabasePart],
    options: BackupOptions | None = None,
) -> Manifest:
    """Take a snapshot and publish it.

    `destination` is MLFLOW_ARTIFACTS_DESTINATION: other locations are external. Raises Locked, RepositoryFailed (also
    where artifacts are expected and none exists), Configuration, RestoreUnfinished where a restore was interrupted,
    and what `dump` raises; nothing is published then.
    """
    options = options or BackupOptions()
    with (
        locks.maintenance(store, _LOCK_WAIT),
        repository.lock("backup") as lock,
        contextlib.closing(BlobIndex()) as index,
    ):
        journal.refuse_interrupted(destination)  # a restore may have been interrupted while this waited for the lock
        return _Backup(repository, lock, index, options).run(store, source, destination, dump)


class _Backup:
    def __init__(self, repository: Repository, lock: RepositoryLock, index: BlobIndex, options: BackupOptions) -> None:
        repository.remove_leftovers()
        self._repository = repository
        self._lock = lock
        self._index = index
        self._options = options
        self._list_damaged = False  # an earlier file list could not be read to its end
        self._reusable = ReusableBlobs(repository, index, options.warn)
        self._reader = BlobReader(repository.backend, cached=0, on_damage=self._reusable.on_damage)
        self._writer = BlobWriter(repository.backend, index, self._reusable.on_damage)
        self._unfinished = repository.unfinished()
        self._previous = self._newest()
        self._reusable.load()
        self._own = self._start()
        self._read_from = options.now()

    def run(
        self,
        store: Database,
        source: ArtifactSource,
        destination: str,
        dump: Callable[[Database, BlobSink], DatabasePart],
    ) -> Manifest:
        repository, options = self._repository, self._options
        external, running = external_artifacts.find(store, destination)
        database = dump(store, self._writer)
        options.say(f"database: {counted(len(database.tables), 'tables')}, {counted(database.rows, 'rows')}")
        if not options.allow_empty and not database.runs:
            self._refuse(lambda: expected.refuse_no_runs(store.shown, self._previous))
        lists, totals = self._copy_all(source, database)
        empty = not totals.files and not totals.links
        intended = empty and (options.allow_empty or expected.was_meant(repository, self._previous))
        if empty and not intended:
            self._refuse(lambda: expected.refuse_empty(store, destination, source.shown, self._previous))
        self._lock.check()
        with progress.phase("publish"):
            manifest = self._manifest(source, database, lists, totals, external, running)
            if intended:
                expected.note_meant(repository, manifest)
            repository.publish(manifest)
            repository.remove_unfinished([self._own])
            self._reusable.clear_repaired()
        self._compare(manifest, totals)
        return manifest

    def _newest(self) -> Manifest | None:
        entries = self._repository.snapshots()
        for entry in entries:
            if entry.manifest is None:
                self._options.warn(entry.problem)
        return next((entry.manifest for entry in reversed(entries) if entry.manifest is not None), None)

    def _start(self) -> UnfinishedSnapshot:
        """The newest unfinished snapshot, to be resumed, or a new one.

        One with a newer snapshot behind it stays: finished now, it would be the newest by its contents and not by its
        sequence.
        """
        started = datetime.fromtimestamp(self._options.now(), UTC)
        sequence, newest = self._repository.next_sequence(), self._unfinished[-1] if self._unfinished else None
        if newest is not None and newest.sequence == sequence - 1:
            self._options.say(f"resuming the unfinished snapshot {newest.id}")
            return replace(newest, started=newest.started or started.isoformat(timespec="seconds"))
        name = f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        own = UnfinishedSnapshot(sequence, name, started.isoformat(timespec="seconds"), 0.0, ())
        self._repository.write_unfinished(own)
        return own

    def _refuse(self, check: Callable[[], None]) -> None:
        try:
            check()
        except RepositoryFailed:
            if not self._own.lists:  # otherwise an earlier run came further, when everything was there
                self._repository.remove_unfinished([self._own])
            raise

    # Artifacts

    def _copy_all(self, source: ArtifactSource, database: DatabasePart) -> tuple[tuple[str, ...], CopyTotals]:
        """Copy; repeat if a blob turned out damaged that the file list refers to.

        Raises SnapshotDamaged where that does not end, RepositoryFailed where blobs have vanished meanwhile.
        """
        for _attempt in range(_ATTEMPTS):
            with (
                contextlib.closing(UsedBlobs()) as used,
                progress.phase("examine-artifacts", "bytes") as phase,
            ):
                with sized(phase, source):
                    lists, totals = self._copy(source, used, phase)
                phase.was(totals.bytes)
                used.add([*database.objects(), *lists])
                damaged = self._reusable.count_damaged(used)
            if not damaged:
                return lists, totals
            self._options.warn(f"{counted(damaged, 'objects')} turned out to be damaged; copying again without them")
        raise SnapshotDamaged(
            f"objects in {self._repository.shown} are damaged again and again; no snapshot was made",
            "check the volume for errors, or back up to another destination",
        )

    def _copy(
        self, source: ArtifactSource, used: UsedBlobs, phase: progress.Phase
    ) -> tuple[tuple[str, ...], CopyTotals]:
        saved = time.monotonic()

        def save_list() -> None:
            nonlocal saved
            if time.monotonic() - saved >= self._options.save_every:
                copier.drain()
                self._repository.backend.sync()  # blobs in a saved list are trusted
                first = min(self._own.read_from or self._read_from, self._read_from)
                self._repository.write_unfinished(replace(self._own, read_from=first, lists=tuple(lists.lists)))
                saved = time.monotonic()

        lists = FileListWriter(self._writer, save_list, on_entry=used.add_entry)
        copier = Copier(
            source,
            self._writer,
            self._index,
            lists,
            store_threads=self._repository.backend.threads,
            load_slices=self._load_slices,
            on_bytes=phase.advance,
        )
        earlier: Iterator[FileEntry] = iter(())
        trusted = []
        if self._previous is not None:
            files = self._tolerant(self._repository.files(self._previous))
            self._writer.abandon(file_list.wasteful_packs(files, self._options.waste))
            earlier = self._tolerant(self._repository.files(self._previous))
            trusted.append(self._previous.read_from)
        if self._own.lists:
            earlier = file_list.continued(self._tolerant(file_list.read(self._reader, self._own.lists)), earlier)
            trusted.append(self._own.read_from)
        totals = copier.run(earlier, min(trusted, default=0.0), rehash=self._options.rehash)
        return tuple(lists.lists), totals

    def _tolerant(self, entries: Iterator[FileEntry]) -> Iterator[FileEntry]:
        """The entries before the damage of an earlier list: later files are read again."""
        try:
            yield from entries
        except SnapshotDamaged as error:
            self._list_damaged = True
            self._options.warn(f"an earlier list of artifacts cannot be used: {error.message}")

    def _load_slices(self) -> None:
        """Index the contents inside packs, from the distinct blobs of all file lists."""
        manifests = [entry.manifest for entry in self._repository.snapshots() if entry.manifest is not None]
        groups = [manifest.artifacts.lists for manifest in reversed(manifests)]
        groups += [snapshot.lists for snapshot in self._unfinished]
        for sha256 in dict.fromkeys(itertools.chain(*groups)):
            with contextlib.suppress(SnapshotDamaged):
                self._index.add_slices(
                    [
                        (entry.sha256, *entry.parts[0])
                        for entry in file_list.entries_in(self._reader, sha256)
                        if len(entry.parts) == 1 and entry.parts[0].sha256 != entry.sha256
                    ]
                )

    # Result

    def _manifest(
        self,
        source: ArtifactSource,
        database: DatabasePart,
        lists: tuple[str, ...],
        totals: CopyTotals,
        external: list[str],
        running: int,
    ) -> Manifest:
        return Manifest(
            id=self._own.id,
            sequence=self._own.sequence,
            started=self._own.started,
            finished=datetime.fromtimestamp(self._options.now(), UTC).isoformat(timespec="seconds"),
            read_from=self._read_from,
            mlflow_version=schema.mlflow_version(),
            release=__version__,
            dialect=database.dialect,
            revision=database.revision,
            tables=len(database.tables),
            rows=database.rows,
            runs=database.runs - database.deleted_runs,
            database=database.to_json(),
            artifacts=ArtifactsPart(
                source=_shortened(shown(source.shown)),
                files=totals.files,
                bytes=totals.bytes,
                lists=lists,
                links=totals.links,
                special=totals.special,
                unreadable=tuple(map(_shortened, totals.unreadable)),
            ),
            in_flight=InFlight(running, totals.changed, totals.vanished, tuple(map(_shortened, totals.names))),
            external=tuple(map(_shortened, external + totals.external)),
            new_objects=self._writer.new_objects,
            new_bytes=self._writer.new_bytes,
            stored_bytes=self._writer.stored_bytes,
            keys=self._options.keys,
        )

    def _compare(self, made: Manifest, totals: CopyTotals) -> None:
        previous = self._previous
        if previous is None or (self._options.allow_empty and not (totals.files and made.all_runs)):
            return
        purged = previous.all_runs - made.all_runs
        if expected.many_gone(purged, previous.all_runs):
            self._options.on_gone("runs", purged, previous.all_runs)
        # An earlier list that is resumed or damaged is not the one of the last snapshot, so its files do not count.
        remaining = totals.files if self._own.lists or self._list_damaged else totals.listed_before
        gone = max(0, previous.artifacts.files - remaining)
        if expected.many_gone(gone, previous.artifacts.files):
            self._options.on_gone("artifacts", gone, previous.artifacts.files)


def _shortened(text: str) -> str:
    """`text`, in a length that `manifest.parse` accepts."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
