"""Names of blobs, and the interfaces to write and read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol, TypeGuard

LIMIT = 8 * 1024 * 1024  # bytes: no blob is larger; longer contents are a sequence of blobs
_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: object) -> TypeGuard[str]:
    """Whether that can name a blob: a SHA-256 in lower-case hexadecimal digits."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


@dataclass(frozen=True)
class StoredBlob:
    sha256: str
    size: int
    """Bytes of the plain, uncompressed content."""


class BlobSink(Protocol):
    def put(self, data: bytes | memoryview) -> StoredBlob:
        """Store `data`, at most LIMIT bytes, once. Raises RepositoryFailed."""


class BlobSource(Protocol):
    def get(self, sha256: str) -> bytes:
        """The content, checked. Raises RepositoryFailed, SnapshotDamaged."""
