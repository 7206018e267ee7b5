"""Artifacts in a folder, and what every kind of store does for collection."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from mlflow_ae5_server.common import durable

JOURNAL = ".mlflow-ae5-gc"  # below a store's root; no experiment and no run can have this name
_BATCH = 20  # items that a thread takes at a time
_LOCAL = 0.001  # seconds at most for one folder on a disk of this machine; a network takes longer
_ELSEWHERE = "a link on the way to its artifact folder leads elsewhere"
_NO_FOLDER = "its artifact folder is not a folder"
In = TypeVar("In")
Out = TypeVar("Out")


class StoreError(Exception):
    """Why the artifacts of one owner cannot be used; the others go on."""


@dataclass(frozen=True, slots=True)
class StoredSize:
    """Number of files at a path, and their bytes."""

    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class ArtifactFolder:
    """A folder in a store."""

    path: str  # below the store's root
    size: StoredSize
    newest: float  # when something in it was last written, in seconds


class Store(Protocol):
    """Artifacts. Paths are relative to the root; all methods raise StoreError."""

    shown: str
    through_server: bool

    def size(self, path: str) -> StoredSize | None:
        """The size of `path`; None if nothing is there.

        Raises StoreError where removing it would be wrong or fail.
        """

    def remove(self, path: str) -> None:
        """Remove `path`, if it exists, and the folder above if that is empty then."""

    def remove_empty(self, path: str) -> None:
        """Remove empty folders at and right below `path`."""

    def top(self) -> set[str]:
        """The names right below the root, without the journal's."""

    def folders(self, path: str) -> list[str]:
        """The folders right below `path`."""

    def folder(self, path: str) -> ArtifactFolder:
        """Size and age of a folder."""

    def journal_write(self, name: str, content: bytes) -> None: ...

    def journal_read(self) -> Iterator[tuple[str, bytes]]: ...

    def journal_drop(self, name: str) -> None: ...


def submit(
    threads: ThreadPoolExecutor, work: Callable[[In], Out], items: Sequence[In]
) -> list[tuple[int, Future[list[Out]]]]:
    """Start `work` for every item, in batches: (number of items, their results)."""

    def work_batch(batch: Sequence[In]) -> list[Out]:
        return [work(item) for item in batch]

    batches = [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]
    return [(len(batch), threads.submit(work_batch, batch)) for batch in batches]


def map_adaptively(
    threads: ThreadPoolExecutor,
    work: Callable[[In], Out],
    items: Sequence[In],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[Out], bool]:
    """`work` for every item, results in order, and whether the items were local.

    Remote ones, over a network, are worked on several at a time. Local ones take so little each that threads would only
    wait for each other in Python.
    """
    started = clock()
    first = [work(item) for item in items[:_BATCH]]
    local = clock() - started < _LOCAL * len(first)
    rest = items[_BATCH:]
    if local:
        return first + [work(item) for item in rest], local
    return first + [result for _number, results in submit(threads, work, rest) for result in results.result()], local


class FolderStore:
    """A folder of this machine: a local artifact destination, or "/" for paths."""

    through_server = False

    def __init__(self, root: Path, journal: Path | None = None) -> None:
        self._root = Path(os.path.realpath(root))
        self._journal = journal or self._root / JOURNAL
        self.shown = str(root)

    def size(self, path: str) -> StoredSize | None:
        top = self._folder(path)
        if top is None:
            return None
        files = size = 0
        waiting = [str(top)]
        with _os_errors("read", top):
            while waiting:
                folder = waiting.pop()
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise StoreError(f"this account cannot remove anything in {folder}")
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                            continue
                        if entry.is_symlink() and top not in Path(os.path.realpath(entry.path)).parents:
                            raise StoreError("a link in its artifact folder leads out of it")
                        files, size = files + 1, size + entry.stat(follow_symlinks=False).st_size
        return StoredSize(files, size)

    def _folder(self, path: str) -> Path | None:
        """The real folder, without links that lead elsewhere; None if there is none."""
        folder = self._root / path
        # From "/" links are the normal way to a volume; below a destination of ours there are none.
        if len(self._root.parts) > 1:
            return folder if self._is_folder_without_links(path) else None
        real = Path(os.path.realpath(folder))
        if not os.path.lexists(folder):
            return None
        if real.parts[-2:] != folder.parts[-2:]:
            raise StoreError(_ELSEWHERE)
        if folder.is_symlink() or not real.is_dir():
            raise StoreError(_NO_FOLDER)
        return real

    def _is_folder_without_links(self, path: str) -> bool:
        """Whether there is a folder at the end, and only folders on the way to it."""
        current, names = str(self._root), path.split("/")
        with _os_errors("read", self._root / path):
            for number, name in enumerate(names, 1):
                current = f"{current}/{name}"
                try:
                    mode = os.lstat(current).st_mode
                except (FileNotFoundError, NotADirectoryError):
                    return False
                if name in {"", ".", ".."} or (number < len(names) and stat.S_ISLNK(mode)):
                    raise StoreError(_ELSEWHERE)
        if not stat.S_ISDIR(mode):
            raise StoreError(_NO_FOLDER)
        return True

    def remove(self, path: str) -> None:
        folder = self._folder(path)
        if folder is None:
            return
        with _os_errors("removed", folder), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)  # never follows a link
        if len(Path(path).parts) > 1:
            _rmdir(folder.parent)

    def remove_empty(self, path: str) -> None:
        folder = self._root / path
        if not path or folder.is_symlink() or not folder.is_dir():
            return
        for item in list(folder.iterdir()):
            _rmdir(item)
        _rmdir(folder)

    def top(self) -> set[str]:
        with _os_errors("read", self.shown), contextlib.suppress(FileNotFoundError):
            return {item.name for item in self._root.iterdir() if not item.name.startswith(JOURNAL)}
        return set()

    def folders(self, path: str) -> list[str]:
        with _os_errors("read", self._root / path), os.scandir(self._root / path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))

    def folder(self, path: str) -> ArtifactFolder:
        files = size = 0
        newest = (self._root / path).lstat().st_mtime
        for item in (self._root / path).rglob("*"):
            status = item.lstat()
            newest = max(newest, status.st_mtime)
            if not item.is_dir() or item.is_symlink():
                files, size = files + 1, size + status.st_size
        return ArtifactFolder(path, StoredSize(files, size), newest)

    # journal ---------------------------------------------------------------------------------------------------------

    def journal_write(self, name: str, content: bytes) -> None:
        with _os_errors("written to", self._journal):
            self._journal.mkdir(mode=0o700, exist_ok=True)
            durable.write(self._journal / name, content, f"{name}.new")

    def journal_read(self) -> Iterator[tuple[str, bytes]]:
        if self._journal.is_dir():
            for file in sorted(self._journal.glob("*.json")):
                yield file.name, file.read_bytes()
            for file in self._journal.glob("*.json.new"):  # its writing was interrupted, so nothing was removed for it
                file.unlink(missing_ok=True)

    def journal_drop(self, name: str) -> None:
        (self._journal / name).unlink(missing_ok=True)
        _rmdir(self._journal)


@contextlib.contextmanager
def _os_errors(action: str, path: Path | str) -> Iterator[None]:
    """Turn OSError into StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.filename or path} cannot be {action}: {error.strerror}") from None


def _rmdir(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not empty, or not a folder, or not there
        folder.rmdir()
