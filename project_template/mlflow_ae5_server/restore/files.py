"""Write the artifacts of a snapshot to a target; read every file back and compare it with its digest."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from mlflow_ae5_server.common.errors import Configuration, SnapshotDamaged, TargetNotEmpty
from mlflow_ae5_server.common.progress import reported
from mlflow_ae5_server.common.text import shown
from mlflow_ae5_server.repository.blobs import BlobReader
from mlflow_ae5_server.repository.entries import FileEntry
from mlflow_ae5_server.repository.file_list import ParentFiles
from mlflow_ae5_server.restore.target import ArtifactTarget

_TOGETHER = 4 * 1024 * 1024  # bytes, and
_FILES = 64  # files that one thread takes at a time
_SMALL = 64 * 1024  # bytes at most of a file, on average
_LOCAL = 0.064  # seconds at most for so many on a disk of this machine; a network takes longer
T = TypeVar("T")


@dataclass
class RestoreCounts:
    files: int = 0  # that were read back and are right
    bytes: int = 0
    written: int = 0  # of the files; the others were there already
    links: int = 0
    left_out: list[str] = field(default_factory=list)  # links where the target has none, devices, sockets
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, files: int, size: int, written: int) -> None:
        with self._lock:
            self.files += files
            self.bytes += size
            self.written += written


def restore(
    files: Callable[[], Iterator[FileEntry]],
    reader: BlobReader,
    target: ArtifactTarget,
    *,
    again: bool,
    on_bytes: Callable[[int], None] = lambda _number: None,
) -> RestoreCounts:
    """Write every file to `target` and verify it there. `again`: files that are there and right are left.

    on_bytes: called from any thread with the size of what was written, or is there.

    Raises SnapshotDamaged (the snapshot), RepositoryFailed (the target), and TargetNotEmpty where the target holds
    other files as well.
    """
    result = RestoreCounts()
    target.prepare()

    def write(batch: list[FileEntry]) -> None:
        written = 0
        for entry in batch:
            if again and _is_there(entry, target):
                on_bytes(entry.size)
                continue
            read_back = target.write(entry, reported(reader.chunks(entry), on_bytes))
            if read_back != (entry.size, entry.sha256):
                raise _not_as_written(entry, read_back, target)
            written += 1
        result.add(len(batch), sum(entry.size for entry in batch), written)

    others = False

    def regular() -> Iterator[FileEntry]:
        nonlocal others
        for entry in files():
            if entry.kind == "file":
                yield entry
            else:
                others = True

    each(write, _batches(regular()), target.threads, here=_never if target.nests else _on_local_disk)
    # After all files, so that none is written through a link.
    for entry in files() if others else ():
        if entry.kind == "link" and target.link(entry):
            result.links += 1
        elif entry.kind != "file":
            result.left_out.append(shown(entry.path))
    with ThreadPoolExecutor(1) as pool:
        synced = pool.submit(target.sync)  # writes while the names are counted
        _require_nothing_else(result, target)
        synced.result()
    return result


def matching(files: Iterable[FileEntry], target: ArtifactTarget) -> RestoreCounts | None:
    """Count the files where all are in `target` and right, other files or not; None where one is not. Reads only."""
    result = RestoreCounts()

    def compare(batch: list[FileEntry]) -> None:
        for entry in batch:
            if entry.kind != "file" or not _is_there(entry, target):
                raise _DifferentError
        result.add(len(batch), sum(entry.size for entry in batch), 0)

    try:
        each(compare, _batches(files), target.threads)
    except _DifferentError:
        return None
    return result


class _DifferentError(Exception):
    pass


def _is_there(entry: FileEntry, target: ArtifactTarget) -> bool:
    """Whether the file is unchanged, as read from the target; only one of the right size is read."""
    return target.size(entry.path) == entry.size and target.digest(entry.path) == (entry.size, entry.sha256)


def refuse_names(files: Iterable[FileEntry], target: ArtifactTarget) -> None:
    """Raise Configuration for a name that `target` cannot hold."""
    parents = ParentFiles()
    for entry in files:
        why = target.refusal(entry) if entry.kind != "special" else ""
        if not target.nests and (parent := parents.of(entry)) is not None:
            why = f"{shown(parent.path)} is a file there, and not a folder"
        if why:
            raise Configuration(
                f"{target.shown} cannot hold {shown(entry.path)}: {why}",
                "restore to another kind of store, or rename it in the original and take a new snapshot",
            )


def _never(_item: object, _seconds: float) -> bool:
    return False


def _on_local_disk(batch: list[FileEntry], seconds: float) -> bool:
    """Whether these are small files on a disk of this machine, as the last ones took so few `seconds`.

    Threads would wait for each other then, in Python and for the folder: with four, all takes twice as long.
    """
    return seconds < _LOCAL and sum(entry.size for entry in batch) <= _SMALL * len(batch)


def each(
    work: Callable[[T], None],
    items: Iterable[T],
    threads: int,
    *,
    here: Callable[[T, float], bool] = _never,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Call `work` with every item, several at a time, with few of them waiting. The first failure ends it.

    here: whether to work on an item in this thread, given the seconds that the last one in it took; half as many for
    each item since, because that one may have been an exception.
    """
    pending: deque[Future[None]] = deque()
    seconds = 0.0
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                if here(item, seconds):
                    started = clock()
                    work(item)
                    seconds = clock() - started
                else:
                    pending.append(pool.submit(work, item))
                    seconds /= 2
                while pending and (len(pending) > 2 * threads or pending[0].done()):
                    pending.popleft().result()
            while pending:
                pending.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _batches(files: Iterable[FileEntry]) -> Iterator[list[FileEntry]]:
    batch: list[FileEntry] = []
    size = 0
    for entry in files:
        if batch and (len(batch) == _FILES or size + entry.size > _TOGETHER):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    if batch:
        yield batch


def _not_as_written(entry: FileEntry, read_back: tuple[int, str] | None, target: ArtifactTarget) -> SnapshotDamaged:
    """The objects were right one by one, so either the list of files is wrong or the target is."""
    message = "nothing" if read_back is None else f"{read_back[0]} bytes with the digest {read_back[1]}"
    return SnapshotDamaged(
        f"{shown(entry.path)} was written to {target.shown} and read back as {message}; "
        f"the snapshot has {entry.size} bytes with the digest {entry.sha256}",
        "run it again; if it fails again, use another snapshot",
    )


def _require_nothing_else(result: RestoreCounts, target: ArtifactTarget) -> None:
    observed, expected = target.count(), result.files + result.links
    if observed != expected:
        raise TargetNotEmpty(
            f"{target.shown} holds {observed} files, and the snapshot {expected}: another program has written there",
            "find that program; then run this again with --replace, which saves all of them",
        )
