"""What the parts of a snapshot say to the place that keeps its contents."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol, TypeGuard

LIMIT = 8 * 1024 * 1024  # bytes: no object is larger; longer contents are a sequence of objects


_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: object) -> TypeGuard[str]:
    """Whether that can be the name of an object: a SHA-256 in lower-case hexadecimal digits."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


@dataclass(frozen=True)
class StoredBlob:
    """An object by its content: SHA-256 (hex) and size in bytes of the plain, uncompressed content."""

    sha256: str
    size: int


class BlobSink(Protocol):
    def put(self, data: bytes | memoryview) -> StoredBlob:
        """Keep `data`, at most LIMIT bytes, once. Raises StorageError."""


class BlobSource(Protocol):
    def get(self, sha256: str) -> bytes:
        """The content, checked. Raises DamagedError where it is missing or not what its name says, StorageError."""
