"""Artifacts in a folder of this machine, and what every kind of store can do for collection."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

JOURNAL = ".mlflow-ae5-gc"  # below a store's root; no experiment and no run can have this name
_SOME = 20  # items that one hand takes at a time
_NEAR = 0.001  # seconds at most to look at one folder on a disk of this machine; a network takes longer
_ELSEWHERE = "a link on the way to its artifact folder leads elsewhere"
_NO_FOLDER = "its artifact folder is not a folder"
In = TypeVar("In")
Out = TypeVar("Out")


class TroubleError(Exception):
    """Why the artifacts of one owner cannot be looked at or removed. What concerns one owner must not stop the rest."""


@dataclass(frozen=True, slots=True)
class StoredSize:
    """What is at a place: number of files, and their bytes."""

    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class FoundFolder:
    """A folder below a store's root: its path, its size, and when the newest thing in it was written (seconds)."""

    path: str
    size: StoredSize
    newest: float


class Store(Protocol):
    """Paths are relative to the store's root, names joined by "/". All methods raise TroubleError."""

    shown: str
    through_server: bool

    def look(self, path: str) -> StoredSize | None:
        """What is there; None if there is nothing. Raises TroubleError where removing it would be wrong or fail."""

    def remove(self, path: str) -> None:
        """Remove all of it, and the folder above if that is empty then. No error if nothing is there."""

    def tidy(self, path: str) -> None:
        """Remove empty folders at and right below `path`."""

    def top(self) -> set[str]:
        """The names right below the root, without the journal's."""

    def names(self, path: str) -> list[str]:
        """The folders right below `path`."""

    def age(self, path: str) -> FoundFolder:
        """Size and age of a folder."""

    def journal_write(self, name: str, content: bytes) -> None: ...

    def journal_read(self) -> Iterator[tuple[str, bytes]]: ...

    def journal_drop(self, name: str) -> None: ...


def begin(
    hands: ThreadPoolExecutor, work: Callable[[In], Out], items: Sequence[In]
) -> list[tuple[int, Future[list[Out]]]]:
    """`work` for every item, several at a time. Returns in order what will be the results of so many items each."""

    def some(part: Sequence[In]) -> list[Out]:
        return [work(item) for item in part]

    parts = [items[start : start + _SOME] for start in range(0, len(items), _SOME)]
    return [(len(part), hands.submit(some, part)) for part in parts]


def spread(
    hands: ThreadPoolExecutor,
    work: Callable[[In], Out],
    items: Sequence[In],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[Out], bool]:
    """`work` for every item, results in order, and whether the items were near.

    Far ones, over a network, are worked on several at a time. Near ones take so little each that threads would only
    wait for each other in Python.
    """
    started = clock()
    first = [work(item) for item in items[:_SOME]]
    near = clock() - started < _NEAR * len(first)
    rest = items[_SOME:]
    if near:
        return first + [work(item) for item in rest], near
    return first + [result for _number, results in begin(hands, work, rest) for result in results.result()], near


class FolderStore:
    """A folder of this machine: the artifact destination of a server with local artifacts, or "/" for plain paths."""

    through_server = False

    def __init__(self, root: Path, journal: Path | None = None) -> None:
        self._root = Path(os.path.realpath(root))
        self._journal = journal or self._root / JOURNAL
        self.shown = str(root)

    def look(self, path: str) -> StoredSize | None:
        folder = self._folder(path)
        if folder is None:
            return None
        files = size = 0
        waiting = [str(folder)]
        try:
            while waiting:
                destination = waiting.pop()
                if not os.access(destination, os.W_OK | os.X_OK):
                    raise TroubleError(f"this account cannot remove anything in {destination}")
                with os.scandir(destination) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                            continue
                        if entry.is_symlink():
                            self._require_inside(entry.path, folder)
                        files, size = files + 1, size + entry.stat(follow_symlinks=False).st_size
        except OSError as error:
            raise TroubleError(f"{error.filename or folder} cannot be read: {error.strerror}") from None
        return StoredSize(files, size)

    def _folder(self, path: str) -> Path | None:
        """The real folder; None if it is not there. No link between the root and it may lead elsewhere."""
        folder = self._root / path
        # From "/" links are the normal way to a volume; below a destination of ours there are none.
        if len(self._root.parts) > 1:
            return folder if self._straight(path) else None
        real = Path(os.path.realpath(folder))
        if not os.path.lexists(folder):
            return None
        if real.parts[-2:] != folder.parts[-2:]:
            raise TroubleError(_ELSEWHERE)
        if folder.is_symlink() or not real.is_dir():
            raise TroubleError(_NO_FOLDER)
        return real

    def _straight(self, path: str) -> bool:
        """Whether there is a folder at the end, and only folders on the way to it."""
        destination, names = str(self._root), path.split("/")
        for number, name in enumerate(names, 1):
            destination = f"{destination}/{name}"
            try:
                mode = os.lstat(destination).st_mode
            except (FileNotFoundError, NotADirectoryError):
                return False
            except OSError as error:
                raise TroubleError(f"{destination} cannot be read: {error.strerror}") from None
            if name in {"", ".", ".."} or (number < len(names) and stat.S_ISLNK(mode)):
                raise TroubleError(_ELSEWHERE)
        if not stat.S_ISDIR(mode):
            raise TroubleError(_NO_FOLDER)
        return True

    @staticmethod
    def _require_inside(link: str, folder: Path) -> None:
        if folder not in Path(os.path.realpath(link)).parents:
            raise TroubleError("a link in its artifact folder leads out of it")

    def remove(self, path: str) -> None:
        folder = self._folder(path)
        if folder is None:
            return
        try:
            shutil.rmtree(folder)  # never follows a link
        except FileNotFoundError:
            pass
        except OSError as error:
            raise TroubleError(f"{error.filename or folder} cannot be removed: {error.strerror}") from None
        if len(Path(path).parts) > 1:
            _rmdir(folder.parent)

    def tidy(self, path: str) -> None:
        folder = self._root / path
        if not path or folder.is_symlink() or not folder.is_dir():
            return
        for item in list(folder.iterdir()):
            _rmdir(item)
        _rmdir(folder)

    def top(self) -> set[str]:
        try:
            return {item.name for item in self._root.iterdir() if not item.name.startswith(JOURNAL)}
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise TroubleError(f"{self.shown} cannot be read: {error.strerror}") from None

    def names(self, path: str) -> list[str]:
        try:
            with os.scandir(self._root / path) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError as error:
            raise TroubleError(f"{self._root / path} cannot be read: {error.strerror}") from None

    def age(self, path: str) -> FoundFolder:
        files = size = 0
        newest = (self._root / path).lstat().st_mtime
        for item in (self._root / path).rglob("*"):
            fields = item.lstat()
            newest = max(newest, fields.st_mtime)
            if not item.is_dir() or item.is_symlink():
                files, size = files + 1, size + fields.st_size
        return FoundFolder(path, StoredSize(files, size), newest)

    # journal ---------------------------------------------------------------------------------------------------------

    def journal_write(self, name: str, content: bytes) -> None:
        try:
            self._journal.mkdir(mode=0o700, exist_ok=True)
            temporary = self._journal / f"{name}.new"
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._journal / name)
            _sync(self._journal)
        except OSError as error:
            raise TroubleError(f"nothing can be written to {self._journal}: {error.strerror}") from None

    def journal_read(self) -> Iterator[tuple[str, bytes]]:
        if self._journal.is_dir():
            for file in sorted(self._journal.glob("*.json")):
                yield file.name, file.read_bytes()
            for file in self._journal.glob("*.json.new"):  # cut off while it was written: nothing was begun for it
                file.unlink(missing_ok=True)

    def journal_drop(self, name: str) -> None:
        (self._journal / name).unlink(missing_ok=True)
        _rmdir(self._journal)


def _rmdir(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # not empty, or not a folder, or gone
        return


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
