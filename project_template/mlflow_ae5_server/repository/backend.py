"""The interface to the storage of a repository: a folder or an object store.

Names are relative, of ASCII letters, digits, `.`, `-` and `/`. Every write is atomic: a reader sees all of it or
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from mlflow_ae5_server.common import json_input

INTRUDER = "it was not made by a backup: delete it, and check which other programs can write there"
MAX_FILE = 16 * 1024 * 1024  # bytes: larger than every blob and manifest


@dataclass(frozen=True, slots=True)
class BackendFile:
    name: str
    size: int
    modified: float
    """Seconds by the clock of the storage, comparable only with other times of the same storage."""


class Backend(Protocol):
    """The storage of a repository.

    Raises RepositoryFailed for every failure, except where a file does not exist; NoRoom where the storage is full;
    SnapshotDamaged for what no backup makes: a link, anything but a regular file, a file over MAX_FILE.
    """

    shown: str
    threads: int  # requests at a time that are worthwhile

    def read(self, name: str) -> bytes | None:
        """The content; None where the file does not exist."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file, replacing an existing one."""

    def create(self, name: str, data: bytes) -> bool:
        """Write a new file that survives a power failure; False where one exists."""

    def items(self, prefix: str) -> Iterator[BackendFile]:
        """All files below the folder `prefix` ("" for all), in any order."""

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; it is no error if some do not exist."""

    # These do nothing where the storage needs nothing.

    def sync(self) -> None:
        """Make all writes survive a power failure; check that the address leads to them."""
        return

    def prepare(self) -> None:
        """Create the folder, where that is possible."""
        return

    def clean(self) -> None:
        """Remove temporary files of killed writers. Only for the holder of the lock."""
        return

    def reserve_space(self) -> None:
        """Where storage can be full, occupy a little, so that a prune can start there."""
        return

    def release_space(self) -> None:
        """Free the space of `reserve_space`."""
        return


def decoded(data: bytes | None) -> dict[str, Any] | None:
    """The JSON object in a small file of a repository; None for anything else."""
    try:
        content = json_input.parse(data or b"")
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
