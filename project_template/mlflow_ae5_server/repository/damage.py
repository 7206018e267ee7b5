"""Objects that were found damaged or missing: one small file each, `damaged/<sha256>`, in the place of the snapshots.

A file each, so that two who find something at a time do not overwrite each other's word. A name goes when somebody has
seen that very object right again, or has stored it anew.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow_ae5_server.common.errors import DamagedError
from mlflow_ae5_server.repository import file_list
from mlflow_ae5_server.repository.backend import Backend
from mlflow_ae5_server.repository.blobs import BlobReader, is_right
from mlflow_ae5_server.repository.interfaces import is_digest
from mlflow_ae5_server.repository.manifest import Manifest

FOLDER = "damaged"
_MORE = "more"  # in place of names: so many were found that each object has to be looked at
_NAMED = 10_000
_AT_A_TIME = 256


@dataclass(frozen=True)
class DamagedBlob:
    """`everything`: more was found than is known by name."""

    objects: frozenset[str] = frozenset()
    everything: bool = False

    def __bool__(self) -> bool:
        return bool(self.objects) or self.everything


def noted(backend: Backend) -> DamagedBlob:
    names = {item.name.rpartition("/")[2] for item in backend.items(FOLDER)}
    return DamagedBlob(frozenset(filter(is_digest, names)), _MORE in names)


def note(backend: Backend, found: Iterable[tuple[str, str]]) -> None:
    """Remember (digest, what is wrong). Raises StorageError."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    for number, (sha256, what) in enumerate(found):
        if number == _NAMED:
            backend.write(f"{FOLDER}/{_MORE}", b"{}")
            return
        backend.write(f"{FOLDER}/{sha256}", json.dumps({"at": at, "what": what}).encode())


def forget(backend: Backend, objects: Iterable[str]) -> None:
    """They were seen right again, or stored anew."""
    backend.delete([f"{FOLDER}/{sha256}" for sha256 in objects])


def forget_everything(backend: Backend) -> None:
    """Each object was looked at, and what is damaged is noted by name."""
    backend.delete([f"{FOLDER}/{_MORE}"])


def proven(backend: Backend, objects: list[str]) -> Iterator[tuple[str, bool]]:
    """Each of `objects` with whether what is kept is its content. All of them are read."""
    with ThreadPoolExecutor(backend.threads, "prove") as pool:
        for start in range(0, len(objects), _AT_A_TIME):
            some = objects[start : start + _AT_A_TIME]
            yield from zip(some, pool.map(lambda sha256: is_right(backend, sha256), some), strict=True)


def affected(
    backend: Backend, manifests: Sequence[Manifest], objects_of: Callable[[Manifest], list[str]]
) -> dict[str, frozenset[str]]:
    """Of which snapshots, by name, which objects are noted as damaged. Reads the lists only where something is."""
    damaged = noted(backend).objects
    if not damaged:
        return {}
    reader, seen = BlobReader(backend, remembered=0), dict[str, frozenset[str]]()
    found = {}
    for manifest in manifests:
        hit = damaged & {*objects_of(manifest), *manifest.artifacts.lists}
        for sha256 in manifest.artifacts.lists:
            if sha256 not in seen:
                seen[sha256] = _in_list(reader, sha256) & damaged
            hit |= seen[sha256]
        if hit:
            found[manifest.name] = hit
    return found


def _in_list(reader: BlobReader, sha256: str) -> frozenset[str]:
    with contextlib.suppress(DamagedError):
        return frozenset(part.sha256 for entry in file_list.lines(reader, sha256) for part in entry.parts)
    return frozenset()
