"""Objects: contents kept once, under their SHA-256, compressed where that makes them smaller.

In the place an object is `objects/ab/abcdef…`: one byte that says how it is kept (`z` a zstd frame, `r` as it is), then
that. The name is the digest of the plain bytes, so whoever reads it can tell whether it is right.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator

import zstandard

from mlflow_ae5_server.common.errors import DamagedError
from mlflow_ae5_server.repository.backend import Backend
from mlflow_ae5_server.repository.entries import FileEntry, FilePart
from mlflow_ae5_server.repository.index import BlobIndex
from mlflow_ae5_server.repository.interfaces import LIMIT, StoredBlob

FOLDER = "objects"
_PLAIN, _ZSTD = b"r", b"z"
_LEVEL = 1  # artifacts are mostly packed already, and the time of a backup counts
_SAMPLE, _SAMPLED = 32 * 1024, 1024 * 1024  # bytes: pieces that are tried first, of contents longer than that


class BlobWriter:
    """Keeps contents. Safe for several threads; what another thread is just writing counts as kept.

    `known` are the objects that are there already. One of them is used for content that is at hand only after it was
    read and is right: else it is written again. `on_damage` is told of those that are not.
    """

    def __init__(
        self, backend: Backend, known: BlobIndex, on_damage: Callable[[str, str], None] = lambda _sha256, _what: None
    ) -> None:
        self.new_objects = 0
        self.new_bytes = 0  # plain
        self.stored_bytes = 0  # in the place
        self._backend = backend
        self._known = known
        self._on_damage = on_damage
        self._lock = threading.Lock()
        self._abandoned: frozenset[str] = frozenset()
        self._proven: set[str] = set()

    def abandon(self, shared: frozenset[str]) -> None:
        """Do not refer to these shared objects any more: what is still needed of them is kept anew."""
        self._abandoned = shared

    def put(self, data: bytes | memoryview) -> StoredBlob:
        stored = StoredBlob(hashlib.sha256(data).hexdigest(), len(data))
        self.keep(stored.sha256, data)
        return stored

    def keep(self, sha256: str, data: bytes | memoryview) -> None:
        """`put` for content whose digest is known."""
        if len(data) > LIMIT:
            raise ValueError("an object is larger than the limit")
        if not self._known.claim(sha256):
            return
        if self._known.has(sha256):
            if is_right(self._backend, sha256):
                return
            self._on_damage(sha256, "it is not its content")
        packed = pack(data)
        self._backend.write(object_name(sha256), packed)
        with self._lock:
            self.new_objects += 1
            self.new_bytes += len(data)
            self.stored_bytes += len(packed)

    def keeps(self, parts: tuple[FilePart, ...]) -> bool:
        """Whether all of them are kept already, as far as is known."""
        return all(self._known.present(part.sha256) and part.sha256 not in self._abandoned for part in parts)

    def proves(self, parts: tuple[FilePart, ...]) -> bool:
        """The same, and each is read, once in this run. For one thread."""
        return self.keeps(parts) and all(self._prove(part.sha256) for part in parts)

    def _prove(self, sha256: str) -> bool:
        if sha256 in self._proven or not self._known.has(sha256):  # what this run has stored needs no proof
            return True
        if not is_right(self._backend, sha256):
            self._known.discard(sha256)
            self._on_damage(sha256, "it is not its content")
            return self._known.present(sha256)  # being stored again by another thread
        self._proven.add(sha256)
        return True


class BlobReader:
    """Reads contents and checks them. Safe for several threads; remembers the last few, which small files share.

    `on_damage` is told of every object that is there and is not its content.
    """

    def __init__(
        self,
        backend: Backend,
        remembered: int = 6,
        on_damage: Callable[[str, str], None] = lambda _sha256, _what: None,
    ) -> None:
        self._backend = backend
        self._on_damage = on_damage
        self._remembered: OrderedDict[str, bytes] = OrderedDict()
        self._limit = remembered
        self._lock = threading.Lock()

    def get(self, sha256: str) -> bytes:
        with self._lock:
            if (data := self._remembered.get(sha256)) is not None:
                self._remembered.move_to_end(sha256)
                return data
        try:
            kept = self._backend.read(object_name(sha256))
        except DamagedError as error:
            self._on_damage(sha256, error.message)
            raise
        if kept is None:
            raise DamagedError(f"the object {sha256} is missing in {self._backend.shown}", "verify the snapshots there")
        plain = unpack(kept, sha256)
        if plain is None:
            self._on_damage(sha256, "it is not its content")
            raise DamagedError(
                f"the object {sha256} in {self._backend.shown} is damaged: its {len(kept)} bytes are not its content",
                "verify the snapshots there",
            )
        with self._lock:
            self._remembered[sha256] = plain
            while len(self._remembered) > self._limit:
                self._remembered.popitem(last=False)
        return plain

    def chunks(self, entry: FileEntry) -> Iterator[memoryview]:
        """The content of a file, at most LIMIT bytes at a time. Objects are checked, the whole is for the caller."""
        for part in entry.parts:
            data = self.get(part.sha256)
            if len(data) != part.total:
                raise DamagedError(f"the object {part.sha256} is of {len(data)} bytes, not {part.total}", "")
            yield memoryview(data)[part.offset : part.offset + part.length]


def object_name(sha256: str) -> str:
    return f"{FOLDER}/{sha256[:2]}/{sha256}"


def is_right(backend: Backend, sha256: str) -> bool:
    """Whether the object is there and is its content: it is read."""
    try:
        kept = backend.read(object_name(sha256))
    except DamagedError:
        return False
    return kept is not None and unpack(kept, sha256) is not None


def pack(data: bytes | memoryview) -> bytes:
    """As it is kept."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    size = len(data)
    if size > _SAMPLED and not any(len(compressor.compress(sample)) < 0.97 * _SAMPLE for sample in _samples(data)):
        return _PLAIN + data
    packed = compressor.compress(data)
    return _ZSTD + packed if len(packed) < size else _PLAIN + data


def _samples(data: bytes | memoryview) -> Iterator[memoryview]:
    """Some of a long content, from places that have nothing to do with any format's."""
    view = memoryview(data)
    for backend in (0.0, 0.191, 0.382, 0.618, 0.809):
        start = int(backend * (len(view) - _SAMPLE))
        yield view[start : start + _SAMPLE]


def unpack(kept: bytes, sha256: str) -> bytes | None:
    """The plain content; None where `kept` is not the content of that digest."""
    how, body = kept[:1], memoryview(kept)[1:]
    try:
        if how == _ZSTD:
            if zstandard.frame_content_size(body) > LIMIT:
                return None
            plain = zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
        elif how == _PLAIN:
            plain = bytes(body)
        else:
            return None
    except zstandard.ZstdError:
        return None
    return plain if hashlib.sha256(plain).hexdigest() == sha256 else None
