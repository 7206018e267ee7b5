"""What the parts of a snapshot say to the place that keeps its contents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

LIMIT = 8 * 1024 * 1024  # bytes: no object is larger; longer contents are a sequence of objects


@dataclass(frozen=True)
class Stored:
    """An object by its content: SHA-256 (hex) and size in bytes of the plain, uncompressed content."""

    sha256: str
    size: int


class ObjectWriter(Protocol):
    def put(self, data: bytes | memoryview) -> Stored:
        """Keep `data`, at most LIMIT bytes, once. Raises StorageError."""


class ObjectReader(Protocol):
    def get(self, sha256: str) -> bytes:
        """The content, checked. Raises DamagedError where it is missing or not what its name says, StorageError."""
