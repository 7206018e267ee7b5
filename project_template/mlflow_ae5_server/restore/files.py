"""Artifacts from a snapshot into a target: every file is written, read back, and compared with its digest."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from mlflow_ae5_server.common.errors import ConfigurationError, DamagedError, NotEmptyError
from mlflow_ae5_server.common.text import shown
from mlflow_ae5_server.repository.blobs import BlobReader
from mlflow_ae5_server.repository.entries import FileEntry
from mlflow_ae5_server.repository.file_list import ParentFiles
from mlflow_ae5_server.restore.target import ArtifactTarget

_TOGETHER = 4 * 1024 * 1024  # bytes, and
_FILES = 64  # files that one thread takes at a time
T = TypeVar("T")


@dataclass
class RestoreCounts:
    """`files` and `bytes` were read back and are right; `written` of the files were not there before.

    `left_out` are names that are no files: links where the target has none, devices, sockets.
    """

    files: int = 0
    bytes: int = 0
    written: int = 0
    links: int = 0
    left_out: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, files: int, size: int, written: int) -> None:
        with self._lock:
            self.files += files
            self.bytes += size
            self.written += written


def restore(
    files: Callable[[], Iterator[FileEntry]], reader: BlobReader, target: ArtifactTarget, *, again: bool
) -> RestoreCounts:
    """Bring every file to `target` and prove it there. `again`: some may be there, and are left if they are right.

    `files` gives the list anew at each call. Raises DamagedError (the snapshot), StorageError (the target), and
    NotEmptyError where the target holds other files as well.
    """
    result = RestoreCounts()
    target.prepare()

    def bring(batch: list[FileEntry]) -> None:
        written = 0
        for entry in batch:
            if again and _is_there(entry, target):
                continue
            found = target.write(entry, reader.chunks(entry))
            if found != (entry.size, entry.sha256):
                raise _not_as_written(entry, found, target)
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

    each(bring, _batches(regular()), target.threads)
    # After all files, so that none is written through a link.
    for entry in files() if others else ():
        if entry.kind == "link" and target.link(entry):
            result.links += 1
        elif entry.kind != "file":
            result.left_out.append(shown(entry.path))
    with ThreadPoolExecutor(1) as pool:
        synced = pool.submit(target.sync)  # writes, while the names are counted
        _require_nothing_else(result, target)
        synced.result()
    return result


def found(files: Iterable[FileEntry], target: ArtifactTarget) -> RestoreCounts | None:
    """What `restore` would return where it had nothing to write, but for files that are not in the snapshot: they may
    be there as well. None where anything is missing or different. Reads only."""
    result = RestoreCounts()

    def look(batch: list[FileEntry]) -> None:
        for entry in batch:
            if entry.kind != "file" or not _is_there(entry, target):
                raise _DifferentError
        result.add(len(batch), sum(entry.size for entry in batch), 0)

    try:
        each(look, _batches(files), target.threads)
    except _DifferentError:
        return None
    return result


def _is_there(entry: FileEntry, target: ArtifactTarget) -> bool:
    """Unchanged, as read from the target; only what has the right size is read."""
    return target.size(entry.path) == entry.size and target.digest(entry.path) == (entry.size, entry.sha256)


class _DifferentError(Exception):
    pass


def refuse_names(files: Iterable[FileEntry], target: ArtifactTarget) -> None:
    """Raises ConfigurationError for a name that `target` cannot hold."""
    parents = ParentFiles()
    for entry in files:
        why = target.refusal(entry) if entry.kind != "special" else ""
        if not target.nests and (parent := parents.of(entry)) is not None:
            why = f"{shown(parent.path)} is a file there, and not a folder"
        if why:
            raise ConfigurationError(
                f"{target.shown} cannot hold {shown(entry.path)}: {why}",
                "restore to another kind of store, or rename it in the original and take a new snapshot",
            )


def each(work: Callable[[T], None], items: Iterable[T], threads: int) -> None:
    """`work` on every item, several at a time, with few of them waiting; the first failure ends it."""
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > 2 * threads:
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


def _not_as_written(entry: FileEntry, found: tuple[int, str] | None, target: ArtifactTarget) -> DamagedError:
    """The contents of the objects were right one by one. So either the list of them is wrong, or the store is."""
    message = "nothing" if found is None else f"{found[0]} bytes with the digest {found[1]}"
    return DamagedError(
        f"{shown(entry.path)} was written to {target.shown} and read back as {message}; "
        f"the snapshot says {entry.size} bytes with the digest {entry.sha256}",
        "run it again; if it stays so, use another snapshot",
    )


def _require_nothing_else(result: RestoreCounts, target: ArtifactTarget) -> None:
    found = target.count()
    if found != result.files + result.links:
        raise NotEmptyError(
            f"{target.shown} holds {found} files, and the snapshot {result.files + result.links}: "
            "somebody else has written there",
            "find out who; then run it again with --replace, which keeps all of them aside",
        )
