"""Write and read blobs: contents stored once, named by their SHA-256.

The file of a blob is `objects/ab/abcdef…`: one byte for the encoding (`z` a zstd frame, `r` raw, where that is
smaller), then the data. The name is the digest of the plain content, so every reader can check it.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator

import zstandard

from mlflow_ae5_server.common.errors import SnapshotDamaged
from mlflow_ae5_server.repository.backend import Backend
from mlflow_ae5_server.repository.blob_index import BlobIndex
from mlflow_ae5_server.repository.blob_types import LIMIT, StoredBlob
from mlflow_ae5_server.repository.entries import FileEntry, FilePart

FOLDER = "objects"
_RAW, _ZSTD = b"r", b"z"
_LEVEL = 1  # artifacts are mostly compressed already, and the time of a backup counts
_SAMPLE, _SAMPLED = 32 * 1024, 1024 * 1024  # bytes: of longer contents, samples are compressed first
_MISMATCH = "its content does not match its digest"


def _ignore(_sha256: str, _what: str) -> None:
    """The default `on_damage`."""


class BlobWriter:
    """Stores contents. Safe for several threads.

    A blob that another thread is writing counts as stored. A blob of `index` is read before it is reused; a damaged one
    is stored again. `on_damage` is called with the digest of each damaged one, and what
    is wrong.
    """

    def __init__(self, backend: Backend, index: BlobIndex, on_damage: Callable[[str, str], None] = _ignore) -> None:
        self.new_objects = 0
        self.new_bytes = 0  # plain
        self.stored_bytes = 0  # as stored
        self._backend = backend
        self._index = index
        self._on_damage = on_damage
        self._lock = threading.Lock()
        self._abandoned: frozenset[str] = frozenset()
        self._verified: set[str] = set()

    def abandon(self, packs: frozenset[str]) -> None:
        """Store contents of these packs again instead of referring to them."""
        self._abandoned = packs

    def put(self, data: bytes | memoryview) -> StoredBlob:
        stored = StoredBlob(hashlib.sha256(data).hexdigest(), len(data))
        self.store(stored.sha256, data)
        return stored

    def store(self, sha256: str, data: bytes | memoryview) -> None:
        """`put` for content with a known digest."""
        if len(data) > LIMIT:
            raise ValueError("a blob is larger than the limit")
        if not self._index.claim(sha256):
            return
        if self._index.has(sha256):
            if is_intact(self._backend, sha256):
                return
            self._on_damage(sha256, _MISMATCH)
        encoded = encode(data)
        self._backend.write(blob_name(sha256), encoded)
        with self._lock:
            self.new_objects += 1
            self.new_bytes += len(data)
            self.stored_bytes += len(encoded)

    def has_all(self, parts: tuple[FilePart, ...]) -> bool:
        """Whether all of them are stored already, according to the index."""
        return all(self._index.present(part.sha256) and part.sha256 not in self._abandoned for part in parts)

    def verify_all(self, parts: tuple[FilePart, ...]) -> bool:
        """The same, and each was read once in this run. For one thread."""
        return self.has_all(parts) and all(self._verify(part.sha256) for part in parts)

    def _verify(self, sha256: str) -> bool:
        if sha256 in self._verified or not self._index.has(sha256):  # or this run has stored it
            return True
        if not is_intact(self._backend, sha256):
            self._index.discard(sha256)
            self._on_damage(sha256, _MISMATCH)
            return self._index.present(sha256)  # another thread is storing it again
        self._verified.add(sha256)
        return True


class BlobReader:
    """Reads and checks contents; caches the last few packs. Safe for several threads.

    `on_damage` is called for every blob that exists and does not match its digest.
    """

    def __init__(self, backend: Backend, cached: int = 6, on_damage: Callable[[str, str], None] = _ignore) -> None:
        self._backend = backend
        self._on_damage = on_damage
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._limit = cached
        self._lock = threading.Lock()

    def get(self, sha256: str) -> bytes:
        with self._lock:
            if (data := self._cache.get(sha256)) is not None:
                self._cache.move_to_end(sha256)
                return data
        try:
            stored = self._backend.read(blob_name(sha256))
        except SnapshotDamaged as error:
            self._on_damage(sha256, error.message)
            raise
        if stored is None:
            raise SnapshotDamaged(
                f"the object {sha256} is missing in {self._backend.shown}", "verify the snapshots there"
            )
        plain = decode(stored, sha256)
        if plain is None:
            self._on_damage(sha256, _MISMATCH)
            raise SnapshotDamaged(
                f"the object {sha256} in {self._backend.shown} is damaged: its {len(stored)} bytes do not match its "
                "digest",
                "verify the snapshots there",
            )
        with self._lock:
            self._cache[sha256] = plain
            while len(self._cache) > self._limit:
                self._cache.popitem(last=False)
        return plain

    def chunks(self, entry: FileEntry) -> Iterator[memoryview]:
        """The content of a file in pieces; the caller checks the digest of the whole."""
        for part in entry.parts:
            data = self.get(part.sha256)
            if len(data) != part.total:
                raise SnapshotDamaged(f"the object {part.sha256} is of {len(data)} bytes, not {part.total}", "")
            yield memoryview(data)[part.offset : part.offset + part.length]


def blob_name(sha256: str) -> str:
    return f"{FOLDER}/{sha256[:2]}/{sha256}"


def is_intact(backend: Backend, sha256: str) -> bool:
    """Read a blob: does it exist, and match its digest?"""
    try:
        stored = backend.read(blob_name(sha256))
    except SnapshotDamaged:
        return False
    return stored is not None and decode(stored, sha256) is not None


def encode(data: bytes | memoryview) -> bytes:
    """The stored form of a content."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    size = len(data)
    if size > _SAMPLED and not any(len(compressor.compress(sample)) < 0.97 * _SAMPLE for sample in _samples(data)):
        return _RAW + data
    compressed = compressor.compress(data)
    return _ZSTD + compressed if len(compressed) < size else _RAW + data


def _samples(data: bytes | memoryview) -> Iterator[memoryview]:
    """A few pieces of a long content, at positions that fit no format's structure."""
    view = memoryview(data)
    for position in (0.0, 0.191, 0.382, 0.618, 0.809):
        start = int(position * (len(view) - _SAMPLE))
        yield view[start : start + _SAMPLE]


def decode(stored: bytes, sha256: str) -> bytes | None:
    """The plain content; None where it does not have that digest."""
    encoding, body = stored[:1], memoryview(stored)[1:]
    try:
        if encoding == _ZSTD:
            if zstandard.frame_content_size(body) > LIMIT:
                return None
            plain = zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
        elif encoding == _RAW:
            plain = bytes(body)
        else:
            return None
    except zstandard.ZstdError:
        return None
    return plain if hashlib.sha256(plain).hexdigest() == sha256 else None
