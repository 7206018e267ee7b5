"""Blobs in a temporary folder: a database on its way from one server to another."""

from __future__ import annotations

import hashlib
from pathlib import Path

import zstandard

from mlflow_ae5_server.common.errors import RepositoryFailed, SnapshotDamaged
from mlflow_ae5_server.repository.blob_types import LIMIT, StoredBlob


class TemporaryBlobs:
    """A BlobSink and BlobSource in `folder`, which the caller creates and removes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._compressor = zstandard.ZstdCompressor(level=1)

    def put(self, data: bytes | memoryview) -> StoredBlob:
        if len(data) > LIMIT:
            raise ValueError(f"a blob of {len(data)} bytes")
        stored = StoredBlob(hashlib.sha256(data).hexdigest(), len(data))
        file = self._folder / stored.sha256
        if not file.exists():
            try:
                file.write_bytes(self._compressor.compress(bytes(data)))
            except OSError as error:
                raise RepositoryFailed(
                    f"{self._folder} cannot hold the copy: {error.strerror}",
                    "free disk space there, or set TMPDIR elsewhere",
                ) from None
        return stored

    def get(self, sha256: str) -> bytes:
        file = self._folder / sha256
        try:
            data = zstandard.ZstdDecompressor().decompress(file.read_bytes(), max_output_size=LIMIT)
        except (OSError, zstandard.ZstdError) as error:
            raise SnapshotDamaged(f"the object {sha256} cannot be read back: {error}") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise SnapshotDamaged(f"the object {sha256} does not match its digest")
        return data
