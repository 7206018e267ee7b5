"""Where snapshots are kept: a folder, or a prefix in an object store. The same few verbs for both.

Names are relative, of ASCII letters, digits, `.`, `-` and `/`. Every write is atomic: a reader sees all
of it or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from mlflow_ae5_server.common import json_input

INTRUDER = "no backup makes that: who else can write there? Remove it, and take that permission away"
MOST = 16 * 1024 * 1024  # bytes: no file of a backup is larger; see objects.LIMIT and manifest.py


@dataclass(frozen=True, slots=True)
class BackendFile:
    """`modified` is seconds by the clock of the storage, comparable only with other times of the same storage."""

    name: str
    size: int
    modified: float


class Backend(Protocol):
    """Raises StorageError for everything that goes wrong, except where something is simply not there; NoRoomError where
    the place is full; DamagedError for what no backup makes: a link, anything else than a file, a file over MOST."""

    shown: str
    threads: int  # how many requests at a time are worth while

    def read(self, name: str) -> bytes | None:
        """The content, None where there is nothing of that name."""

    def write(self, name: str, data: bytes) -> None:
        """Put `data` there, over what may be there."""

    def create(self, name: str, data: bytes) -> bool:
        """Put `data` there for good (it survives a power failure); False, and nothing done, where something is."""

    def items(self, prefix: str) -> Iterator[BackendFile]:
        """Everything below the folder `prefix` ("" for all), in any order."""

    def delete(self, names: Iterable[str]) -> None:
        """Take names away; those that are gone already are no error."""

    def sync(self) -> None:
        """Return when everything written so far survives a power failure, and can be found at the address still."""

    def prepare(self) -> None:
        """Make the place, where it can be made."""

    def clean(self) -> None:
        """Remove what writers that were killed have left. Only for whoever holds the lease."""

    def set_room_aside(self) -> None:
        """Where the place can be full: keep a little for whoever is to free more, and could not so much as begin."""

    def give_room(self) -> None:
        """Let go of what was set aside."""


def decoded(data: bytes | None) -> dict[str, Any] | None:
    """The JSON object in a small file of a repository; None for anything else."""
    try:
        content = json_input.parse(data or b"")
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
