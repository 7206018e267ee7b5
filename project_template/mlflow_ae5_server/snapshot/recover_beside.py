"""What a restore keeps beside the artifact destination: its ledger, and the artifacts that were there before.

Beside `.../artifacts` that is `.../artifacts.restore.json` and `.../artifacts.<name>/`, both for a folder and for a
prefix in an object store. Where nothing can be put beside it (a mounted volume, the root of a bucket), both lie inside
and their names begin with `.mlflow-ae5-`.

Moving artifacts is repeatable: whoever is killed half-way goes on where he was. In a folder it is one rename per
entry of the top, in an object store a copy within the store and a deletion per object.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from mlflow_ae5_server.errors import ConfigurationError, StorageError
from mlflow_ae5_server.folders import local_folder
from mlflow_ae5_server.scrub import scrub

if TYPE_CHECKING:
    from obstore.store import ObjectStore

RESERVED = ".mlflow-ae5-"  # the top of the destination: names that begin so are ours, not artifacts
_LEDGER = "restore.json"
_COUNTED = 10_000  # files; beyond that "more than" says enough
_SERVER_COPY = 5 * 1024**3  # bytes; S3 copies larger objects only in parts
_THREADS = 16


@dataclass(frozen=True)
class Holdings:
    """The artifacts at a destination. `more`: counting stopped at a limit, and there are more."""

    files: int
    bytes: int
    example: str
    more: bool = False

    def __str__(self) -> str:
        return (
            f"{'more than ' if self.more else ''}{self.files} files ({self.bytes} bytes), among them {self.example!r}"
        )


class Beside(Protocol):
    """Raises StorageError for everything that goes wrong."""

    shown: str

    def read_ledger(self) -> bytes | None: ...
    def write_ledger(self, data: bytes | None) -> None:
        """Replace the ledger as a whole and for good; None removes it."""

    def holdings(self) -> Holdings | None:
        """What is at the destination; None where nothing is."""

    def aside(self, name: str) -> None:
        """Move everything at the destination to `name`."""

    def back(self, name: str) -> None:
        """Move everything at `name` to the destination, which holds nothing else."""

    def kept(self, name: str) -> bool:
        """Whether anything is kept at `name`."""

    def drop(self, name: str) -> None:
        """Remove for good what is kept at `name`."""


def beside(destination: str) -> Beside:
    """Raises ConfigurationError where `destination` is neither a folder nor an object store."""
    if (folder := local_folder(destination)) is not None:
        return BesideFolder(folder)
    from mlflow_ae5_server.snapshot import clouds

    if not clouds.known(destination):
        raise ConfigurationError(
            f"artifacts cannot be restored to {scrub(destination)}",
            "MLFLOW_ARTIFACTS_DESTINATION must be a folder, or s3://, gs://, abfss://, wasbs:// or az://",
        )
    return BesideStore(destination)


class BesideFolder:
    """`inside` says where things go; None finds out whether anything can be put beside the folder."""

    def __init__(self, folder: Path, *, inside: bool | None = None) -> None:
        self.shown = str(folder)
        self._folder = Path(os.path.realpath(folder))
        if inside is None:
            closed = os.path.ismount(self._folder) or not os.access(self._folder.parent, os.W_OK)
            inside = self._folder.is_dir() and closed
        self._inside = inside

    def read_ledger(self) -> bytes | None:
        try:
            return self._path(_LEDGER).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed(error, "read") from None

    def write_ledger(self, data: bytes | None) -> None:
        path = self._path(_LEDGER)
        try:
            if data is None:
                path.unlink(missing_ok=True)
                return
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_name(path.name + ".tmp")
            with open(temporary, "wb", opener=_private) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync(path.parent)
        except OSError as error:
            raise self._failed(error, "write") from None

    def holdings(self) -> Holdings | None:
        files, size, example = 0, 0, ""
        try:
            for file in self._files():
                if files == _COUNTED:
                    return Holdings(files, size, example, more=True)
                files, size, example = files + 1, size + file.stat(follow_symlinks=False).st_size, example or file.name
        except OSError as error:
            raise self._failed(error, "read") from None
        return Holdings(files, size, example) if files else None

    def aside(self, name: str) -> None:
        kept = self._path(name)
        try:
            if not self._folder.is_dir():
                return
            kept.mkdir(mode=0o700, exist_ok=True)
            self._move(self._folder, kept)
            _sync(kept)
        except OSError as error:
            raise self._failed(error, "move") from None

    def back(self, name: str) -> None:
        kept = self._path(name)
        try:
            if not kept.is_dir():
                return
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._move(kept, self._folder)
            kept.rmdir()
            _sync(self._folder)
        except OSError as error:
            raise self._failed(error, "move") from None

    def kept(self, name: str) -> bool:
        return self._path(name).is_dir()

    def drop(self, name: str) -> None:
        try:
            if self._path(name).is_dir():
                shutil.rmtree(self._path(name))
        except OSError as error:
            raise self._failed(error, "remove") from None

    def _move(self, source: Path, target: Path) -> None:
        for entry in sorted(os.listdir(source)):  # noqa: PTH208 - names are what is wanted
            if entry.startswith(RESERVED):
                continue
            if os.path.lexists(target / entry):
                _drop_empty(source / entry, target / entry)
            (source / entry).rename(target / entry)

    def _path(self, suffix: str) -> Path:
        if self._inside:
            return self._folder / f"{RESERVED}{suffix}"
        return self._folder.with_name(f"{self._folder.name}.{suffix}")

    def _files(self) -> Iterator[os.DirEntry[str]]:
        stack = [str(self._folder)]
        while stack:
            try:
                with os.scandir(stack.pop()) as entries:
                    for entry in entries:
                        if entry.name.startswith(RESERVED) and entry.path == str(self._folder / entry.name):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            stack.append(entry.path)
                        else:
                            yield entry
            except FileNotFoundError:
                continue

    def _failed(self, error: OSError, verb: str) -> StorageError:
        hint = "give this account write permission there"
        if error.errno == errno.ENOSPC:
            hint = "make room there"
        return StorageError(f"cannot {verb} beside {self.shown}: {error.strerror or error}", hint)


class BesideStore:
    def __init__(self, destination: str) -> None:
        from mlflow_ae5_server.snapshot import clouds

        self.shown = scrub(destination)
        parts = urlsplit(destination)
        above, _, self._name = parts.path.strip("/").rpartition("/")
        self._store: ObjectStore = clouds.open_store(parts._replace(path=f"/{above}" if above else "").geturl())

    def read_ledger(self) -> bytes | None:
        import obstore

        try:
            return bytes(obstore.get(self._store, self._at(_LEDGER)).bytes())
        except FileNotFoundError:
            return None
        except Exception as error:  # obstore's, of many classes
            raise self._failed(error, "read") from None

    def write_ledger(self, data: bytes | None) -> None:
        import obstore

        with self._translated("write to"):
            if data is None:
                with contextlib.suppress(FileNotFoundError):
                    obstore.delete(self._store, self._at(_LEDGER))
            else:
                obstore.put(self._store, self._at(_LEDGER), data, use_multipart=False)

    def holdings(self) -> Holdings | None:
        with self._translated("list"):
            found = list(islice(self._objects(self._name), _COUNTED + 1))
        if not found:
            return None
        counted = found[:_COUNTED]
        return Holdings(len(counted), sum(size for _path, size in counted), found[0][0], len(found) > len(counted))

    def aside(self, name: str) -> None:
        self._move(self._name, self._at(name))

    def back(self, name: str) -> None:
        self._move(self._at(name), self._name)

    def kept(self, name: str) -> bool:
        with self._translated("list"):
            return next(self._objects(self._at(name)), None) is not None

    def drop(self, name: str) -> None:
        import obstore

        with self._translated("delete in"):
            objects = self._objects(self._at(name))
            while chunk := [path for path, _size in islice(objects, 1000)]:
                obstore.delete(self._store, chunk)

    def _move(self, source: str, target: str) -> None:
        import obstore

        def copy(entry: tuple[str, int]) -> str:
            path, size = entry
            to = f"{target}/{path[len(source) :].lstrip('/')}".lstrip("/")
            if size > _SERVER_COPY:
                obstore.put(self._store, to, obstore.get(self._store, path).stream())
            else:
                obstore.copy(self._store, path, to)
            return path

        with self._translated("move in"), ThreadPoolExecutor(_THREADS) as threads:
            objects = self._objects(source)
            while chunk := list(islice(objects, 1000)):
                # Only what has been copied is deleted, and only after it has.
                obstore.delete(self._store, list(threads.map(copy, chunk)))

    def _objects(self, prefix: str) -> Iterator[tuple[str, int]]:
        import obstore

        for chunk in obstore.list(self._store, prefix or None):
            for meta in chunk:
                path = str(meta["path"])
                if prefix or not path.startswith(RESERVED):
                    yield path, int(meta["size"])

    def _at(self, suffix: str) -> str:
        return f"{self._name}.{suffix}" if self._name else f"{RESERVED}{suffix}"

    @contextlib.contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (StorageError, KeyboardInterrupt):
            raise
        except Exception as error:  # obstore's, of many classes
            raise self._failed(error, verb) from None

    def _failed(self, error: Exception, verb: str) -> Exception:
        from mlflow_ae5_server.snapshot import clouds

        return clouds.translate(error, self.shown, verb)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _drop_empty(source: Path, target: Path) -> None:
    """Make way for `source` where only empty folders are in it; FileExistsError where anything else is."""
    for folder, folders, files in os.walk(target, topdown=False):
        if files:
            raise FileExistsError(errno.EEXIST, f"{source} and {target} both hold files")
        for name in folders:
            Path(folder, name).rmdir()
    target.rmdir()
