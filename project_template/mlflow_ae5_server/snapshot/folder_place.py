"""A folder as the place of snapshots: folders 0700, files 0600, every file made under another name and renamed."""
# ruff: noqa: PTH108, PTH112, PTH120 - strings, as thousands of files are made

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from mlflow_ae5_server.errors import NoRoomError, StorageError
from mlflow_ae5_server.snapshot.places import Item

_TEMPORARY = "tmp"
_SPARE, _SPARE_SIZE = "spare", 64 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_HINTS = {
    **dict.fromkeys(_FULL, "make room there, or prune old snapshots; what was copied is used by the next backup"),
    errno.EACCES: "give this account write permission there",
    errno.EPERM: "give this account write permission there",
    errno.EROFS: "it is mounted read-only",
    errno.ENOENT: "is the volume still mounted?",
    errno.ESTALE: "is the volume still mounted?",
}


class FolderPlace:
    """See Place."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.realpath(folder))
        self.shown = str(folder)
        self.threads = min(8, (os.cpu_count() or 1) + 2)
        self._root = str(self.folder)
        self._made: set[str] = set()
        self._own = secrets.token_hex(4)
        self._count = itertools.count()

    def read(self, name: str) -> bytes | None:
        try:
            with open(f"{self._root}/{name}", "rb", buffering=0) as file:  # noqa: PTH123 - thousands of times
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._fail(error, "read")

    def write(self, name: str, data: bytes) -> None:
        try:
            os.rename(self._temporary(name, data, durable=False), f"{self._root}/{name}")  # noqa: PTH104
        except OSError as error:
            self._fail(error, "write to")

    def create(self, name: str, data: bytes) -> bool:
        try:
            temporary = self._temporary(name, data, durable=True)
            try:
                os.link(temporary, f"{self._root}/{name}")
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
                    raise
                return self._create_without_links(name, temporary)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
            self._sync_folder(os.path.dirname(name))
        except OSError as error:
            self._fail(error, "write to")
        return True

    def _create_without_links(self, name: str, temporary: str) -> bool:
        """Where the file system has no hard links: the name is taken first, empty, and then replaced as a whole."""
        final = f"{self._root}/{name}"
        try:
            os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return False
        os.rename(temporary, final)  # noqa: PTH104
        self._sync_folder(os.path.dirname(name))
        return True

    def items(self, prefix: str) -> Iterator[Item]:
        start = f"{self._root}/{prefix}".rstrip("/")
        if not os.path.isdir(start):
            return
        try:
            for folder, folders, files in os.walk(start, onerror=_raise):
                if folder == self._root and _TEMPORARY in folders:
                    folders.remove(_TEMPORARY)
                relative = folder[len(self._root) + 1 :]
                for file in files:
                    try:
                        state = os.lstat(f"{folder}/{file}")
                    except FileNotFoundError:
                        continue
                    yield Item(f"{relative}/{file}".lstrip("/"), state.st_size, state.st_mtime)
        except OSError as error:
            self._fail(error, "list")

    def delete(self, names: Iterable[str]) -> None:
        try:
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self._root}/{name}")
        except OSError as error:
            self._fail(error, "delete in")

    def sync(self) -> None:
        """One request for the file system: cheaper than one per file, and it reports what could not be written."""
        try:
            descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                library = ctypes.CDLL(None, use_errno=True)
                if not hasattr(library, "syncfs"):
                    os.sync()
                elif library.syncfs(descriptor) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number))
            finally:
                os.close(descriptor)
        except OSError as error:
            self._fail(error, "write to")

    def prepare(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError:
            raise StorageError(f"{self.shown} is a file, not a folder", "name a folder for the backups") from None
        except OSError as error:
            self._fail(error, "make")

    def clean(self) -> None:
        folder = f"{self._root}/{_TEMPORARY}"
        try:
            with contextlib.suppress(FileNotFoundError):
                for name in os.listdir(folder):  # noqa: PTH208
                    if not name.startswith(self._own):
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(f"{folder}/{name}")
        except OSError as error:
            self._fail(error, "delete in")

    def set_room_aside(self) -> None:
        try:
            if os.path.getsize(f"{self._root}/{_SPARE}") == _SPARE_SIZE:  # noqa: PTH202
                return
        except OSError:
            pass
        self.write(_SPARE, os.urandom(_SPARE_SIZE))  # a file system that compresses gains nothing

    def give_room(self) -> None:
        self.delete([_SPARE])

    def _temporary(self, name: str, data: bytes, *, durable: bool) -> str:
        """A file with `data` on the same file system, and the folder that `name` needs."""
        for folder in (_TEMPORARY, os.path.dirname(name)):
            self._make(folder)
        path = f"{self._root}/{_TEMPORARY}/{self._own}-{next(self._count)}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if durable:
                os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        finally:
            os.close(descriptor)
        return path

    def _make(self, folder: str) -> None:
        """Folders below the root only: where the root has gone, it is not made anew on whatever lies beneath."""
        if not folder or folder in self._made:
            return
        self._make(os.path.dirname(folder))
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{self._root}/{folder}", 0o700)  # noqa: PTH102
        self._made.add(folder)

    def _sync_folder(self, folder: str) -> None:
        descriptor = os.open(f"{self._root}/{folder}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _fail(self, error: OSError, verb: str) -> NoReturn:
        reason = (error.strerror or type(error).__name__).lower()
        hint = _HINTS.get(error.errno or 0, "check the volume and its permissions")
        kind = NoRoomError if error.errno in _FULL else StorageError
        raise kind(f"cannot {verb} the place of the backups {self.shown}: {reason}", hint) from None


def _raise(error: OSError) -> NoReturn:
    raise error
