"""A folder as the storage of a repository: folders 0700, files 0600."""
# ruff: noqa: PTH120, PTH208 - names in open folders, which pathlib cannot express

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import re
import secrets
import stat
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from mlflow_ae5_server.common import folders, text
from mlflow_ae5_server.common.errors import FULL, NoRoom, RepositoryFailed, SnapshotDamaged
from mlflow_ae5_server.repository.backend import INTRUDER, MAX_FILE, BackendFile

_TEMPORARY = "tmp"
_OURS = re.compile(r"tmp/[0-9a-f]{8}-[0-9]+")  # being written, or left by a killed writer
_OF_FILE_SYSTEMS = frozenset({"lost+found", ".snapshot"})
_SPARE, _SPARE_SIZE = "spare", 64 * 1024
_NO_NAMES = frozenset({"", ".", ".."})
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
# A link, a loop of links, a socket, a device, a folder instead of a file or the reverse.
_UNEXPECTED = frozenset({errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
_HINTS = {
    **dict.fromkeys(FULL, "free disk space there, or prune old snapshots; what was copied is used by the next backup"),
    errno.EACCES: "give this account write permission there",
    errno.EPERM: "give this account write permission there",
    errno.EROFS: "it is mounted read-only",
    errno.ENOENT: "check that the volume is still mounted",
    errno.ESTALE: "check that the volume is still mounted",
}


class FolderBackend:
    """A Backend. `link` makes hard links, where the file system has them.

    The folder is opened once: wherever its path leads later, everything is done in the folder that was opened.
    """

    def __init__(self, folder: Path, link: Callable[..., None] = os.link) -> None:
        self.folder = folders.real(folder)
        self.shown = str(folder)
        self.threads = min(8, (os.cpu_count() or 1) + 2)
        self._descriptor: int | None = None
        self._created: set[str] = set()
        self._own = secrets.token_hex(4)
        self._count = itertools.count()
        self._link = link

    def read(self, name: str) -> bytes | None:
        with self._translated("read", name):
            try:
                with self._folder(name) as (folder, last):
                    descriptor = os.open(last, _READ, dir_fd=folder)
            except FileNotFoundError:
                return None
            try:
                state = os.fstat(descriptor)
                if not stat.S_ISREG(state.st_mode):
                    raise self._intruder(name, "is no regular file")
                if state.st_size > MAX_FILE:
                    raise self._intruder(name, f"has {state.st_size} bytes, more than any file of a backup")
                return os.read(descriptor, state.st_size + 1)
            finally:
                os.close(descriptor)

    def write(self, name: str, data: bytes) -> None:
        with (
            self._translated("write to", name),
            self._temporary(name, data, durable=False) as (tmp, temporary),
            self._folder(name) as (folder, last),
        ):
            os.rename(temporary, last, src_dir_fd=tmp, dst_dir_fd=folder)

    def create(self, name: str, data: bytes) -> bool:
        with (
            self._translated("write to", name),
            self._temporary(name, data, durable=True) as (tmp, temporary),
            self._folder(name) as (folder, last),
        ):
            try:
                self._link(temporary, last, src_dir_fd=tmp, dst_dir_fd=folder)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
                    raise
                # No hard links here: create the name with no content, then replace it as a whole.
                try:
                    os.close(os.open(last, _NEW, 0o600, dir_fd=folder))
                except FileExistsError:
                    return False
                os.rename(temporary, last, src_dir_fd=tmp, dst_dir_fd=folder)
            os.fsync(folder)
        return True

    def items(self, prefix: str) -> Iterator[BackendFile]:
        """List without following links; anything but a regular file has size 0."""
        with self._translated("list", prefix):
            try:
                with self._folder(f"{prefix}/x" if prefix else "x") as (folder, _last):
                    yield from self._walk(folder, f"{prefix}/" if prefix else "")
            except FileNotFoundError:
                return

    def _walk(self, folder: int, above: str) -> Iterator[BackendFile]:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = above + entry.name
                try:
                    state = entry.stat(follow_symlinks=False)
                    if name in _OF_FILE_SYSTEMS or (_OURS.fullmatch(name) and stat.S_ISREG(state.st_mode)):
                        continue
                    if not stat.S_ISDIR(state.st_mode) or name.count("/") >= (2 if name.startswith("objects/") else 1):
                        yield BackendFile(name, state.st_size if stat.S_ISREG(state.st_mode) else 0, state.st_mtime)
                        continue
                    inner = os.open(entry.name, _FOLDER, dir_fd=folder)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self._translate(error, "list", name)
                try:
                    yield from self._walk(inner, f"{name}/")
                finally:
                    os.close(inner)

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            with (
                self._translated("delete in", name),
                contextlib.suppress(FileNotFoundError),
                self._folder(name) as (folder, last),
            ):
                os.unlink(last, dir_fd=folder)

    def sync(self) -> None:
        """Sync the file system in one call, which also reports failed writes.

        Then check that the path still leads to the folder that was opened.
        """
        library = ctypes.CDLL(None, use_errno=True)
        try:
            if not hasattr(library, "syncfs"):
                os.sync()
            elif library.syncfs(self._root()) != 0:
                self._fail(OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())), "write to")
            opened, now = os.fstat(self._root()), os.lstat(self.folder)
        except OSError as error:
            self._fail(error, "write to")
        if stat.S_ISLNK(now.st_mode):
            raise self._became_link()
        if not os.path.samestat(now, opened):
            raise RepositoryFailed(
                f"{self.shown} was replaced by another folder during this run",
                "check that the volume is still mounted",
            )

    def prepare(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError:
            raise self._no_folder() from None
        except OSError as error:
            self._fail(error, "make")

    def clean(self) -> None:
        with (
            self._translated("delete in", _TEMPORARY),
            contextlib.suppress(FileNotFoundError),
            self._folder(f"{_TEMPORARY}/x") as (folder, _last),
        ):
            for name in os.listdir(folder):
                if _OURS.fullmatch(f"{_TEMPORARY}/{name}") and not name.startswith(self._own):
                    self.delete([f"{_TEMPORARY}/{name}"])

    def reserve_space(self) -> None:
        with contextlib.suppress(OSError):
            state = os.stat(_SPARE, dir_fd=self._root(), follow_symlinks=False)
            if stat.S_ISREG(state.st_mode) and state.st_size == _SPARE_SIZE:
                return
        self.write(_SPARE, os.urandom(_SPARE_SIZE))  # random: some file systems compress

    def release_space(self) -> None:
        self.delete([_SPARE])

    def _root(self) -> int:
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self.folder, _FOLDER)
            except FileNotFoundError:
                raise
            except OSError as error:
                if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                    self._fail(error, "open")
                raise (self._became_link() if self.folder.is_symlink() else self._no_folder()) from None
            weakref.finalize(self, os.close, self._descriptor)
        return self._descriptor

    @contextlib.contextmanager
    def _folder(self, name: str) -> Iterator[tuple[int, str]]:
        """Open the folder of `name` without following links; yield it and the last part."""
        *folders, last = name.split("/")
        if not _NO_NAMES.isdisjoint((*folders, last)) or "\0" in name:
            raise self._intruder(name, "is no name that a backup uses")
        descriptor = os.open(".", _FOLDER, dir_fd=self._root())
        try:
            for number, part in enumerate(folders, 1):
                try:
                    inner = os.open(part, _FOLDER, dir_fd=descriptor)
                except OSError as error:
                    if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                        raise self._intruder("/".join(folders[:number]), "is no folder") from None
                    raise
                os.close(descriptor)
                descriptor = inner
            yield descriptor, last
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _temporary(self, name: str, data: bytes, *, durable: bool) -> Iterator[tuple[int, str]]:
        """A temporary file with `data`; also creates the folder of `name`."""
        self._make(_TEMPORARY)
        self._make(os.path.dirname(name))
        with self._folder(f"{_TEMPORARY}/{self._own}-{next(self._count)}") as (folder, temporary):
            descriptor = os.open(temporary, _NEW, 0o600, dir_fd=folder)
            try:
                try:
                    view = memoryview(data)
                    while view:
                        view = view[os.write(descriptor, view) :]
                    if durable:
                        os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                yield folder, temporary
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)

    def _make(self, folder: str) -> None:
        """Create folders below the root, never the root: it may be unmounted."""
        if not folder or folder in self._created:
            return
        self._make(os.path.dirname(folder))
        with contextlib.suppress(FileExistsError), self._folder(folder) as (above, last):
            os.mkdir(last, 0o700, dir_fd=above)
        self._created.add(folder)

    @contextlib.contextmanager
    def _translated(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._translate(error, verb, name)

    def _translate(self, error: OSError, verb: str, name: str) -> NoReturn:
        if error.errno in _UNEXPECTED:
            raise self._intruder(name, "is no regular file") from None
        if error.errno in _FORBIDDEN and verb in {"read", "list"}:
            raise SnapshotDamaged(
                f"{text.shown(name)} in {self.shown} cannot be read: permission denied",
                "give this account read permission there",
            ) from None
        self._fail(error, verb, name if error.errno in _FORBIDDEN else "")

    def _became_link(self) -> SnapshotDamaged:
        return SnapshotDamaged(f"{self.shown} was replaced by a link during this run", INTRUDER)

    def _no_folder(self) -> RepositoryFailed:
        return RepositoryFailed(f"{self.shown} is a file, not a folder", "use a folder for the backups")

    def _intruder(self, name: str, what: str) -> SnapshotDamaged:
        return SnapshotDamaged(f"{text.shown(name)} in {self.shown} {what}", INTRUDER)

    def _fail(self, error: OSError, verb: str, name: str = "") -> NoReturn:
        reason = (error.strerror or type(error).__name__).lower()
        hint = _HINTS.get(error.errno or 0, "check the volume and its permissions")
        kind = NoRoom if error.errno in FULL else RepositoryFailed
        where = f"{text.shown(name)} in {self.shown}" if name else f"the backup destination {self.shown}"
        raise kind(f"cannot {verb} {where}: {reason}", hint) from None
