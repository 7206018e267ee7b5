"""`backup verify`: reads the objects of a snapshot again, and says which of them are not what they were."""

from __future__ import annotations

import contextlib
import hashlib
import random
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mlflow_ae5_server.errors import DamagedError
from mlflow_ae5_server.snapshot.contents import Reader
from mlflow_ae5_server.snapshot.manifest import Manifest
from mlflow_ae5_server.snapshot.repository import Repository

_NAMED = 10_000  # damaged objects that are remembered by name


@dataclass
class Verified:
    """`of_objects` is how many the snapshot has. `damaged` holds {"object" or "name", "what"}, `found` counts them."""

    of_objects: int = 0
    checked_objects: int = 0
    checked_bytes: int = 0
    found: int = 0
    damaged: list[dict[str, str]] = field(default_factory=list)

    def add(self, kind: str, name: str, what: str) -> None:
        self.found += 1
        if len(self.damaged) < _NAMED:
            self.damaged.append({kind: name, "what": what})


class Uses:
    """The objects of a snapshot, and the contents that share one: in a table on disk."""

    def __init__(self) -> None:
        self._table = sqlite3.connect("", isolation_level=None)
        self._table.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16000;"
            "CREATE TABLE objects(sha BLOB PRIMARY KEY, size INT) WITHOUT ROWID;"
            "CREATE TABLE slices(object BLOB, start INT, length INT, sha BLOB); BEGIN"
        )

    def collect(self, repository: Repository, manifest: Manifest) -> None:
        """Raises DamagedError where the list of artifacts cannot be read."""
        self.add([*database_objects(manifest), *manifest.artifacts.lists])
        last = ""
        for entry in repository.files(manifest):
            for part in entry.parts:
                if part.sha256 != last:
                    last = part.sha256
                    self.add([last])
            if len(entry.parts) == 1 and entry.parts[0].sha256 != entry.sha256:
                part = entry.parts[0]
                row = (bytes.fromhex(part.sha256), part.offset, part.length, bytes.fromhex(entry.sha256))
                self._table.execute("INSERT INTO slices VALUES (?, ?, ?, ?)", row)
        self._table.execute("CREATE INDEX IF NOT EXISTS within ON slices(object)")

    def add(self, digests: list[str]) -> None:
        self._table.executemany(
            "INSERT OR IGNORE INTO objects VALUES (?, NULL)", ((bytes.fromhex(sha),) for sha in digests)
        )

    def present(self, sizes: Iterator[tuple[str, int]]) -> None:
        """Note what the place has, by digest and size there."""
        self._table.executemany(
            "UPDATE objects SET size = ? WHERE sha = ?", ((size, bytes.fromhex(sha)) for sha, size in sizes)
        )

    def count(self) -> int:
        return int(self._table.execute("SELECT count(*) FROM objects").fetchone()[0])

    def missing(self) -> list[str]:
        return [row[0].hex() for row in self._table.execute("SELECT sha FROM objects WHERE size IS NULL")]

    def there(self, fraction: float) -> Iterator[str]:
        """The objects that are there: all of them, or a random choice, at least one."""
        digests = [row[0] for row in self._table.execute("SELECT sha FROM objects WHERE size IS NOT NULL")]
        if fraction < 1 and digests:
            digests = random.SystemRandom().sample(digests, max(1, round(len(digests) * fraction)))
        return (digest.hex() for digest in digests)

    def unused(self, items: Iterator[tuple[str, int]]) -> Iterator[tuple[str, int]]:
        """Of (digest, size) those that are not among the objects."""
        for sha256, size in items:
            query = "SELECT 1 FROM objects WHERE sha = ?"
            if self._table.execute(query, (bytes.fromhex(sha256),)).fetchone() is None:
                yield sha256, size

    def slices(self, sha256: str) -> list[tuple[int, int, bytes]]:
        query = "SELECT DISTINCT start, length, sha FROM slices WHERE object = ?"
        return self._table.execute(query, (bytes.fromhex(sha256),)).fetchall()

    def close(self) -> None:
        self._table.close()


def database_objects(manifest: Manifest) -> list[str]:
    """Whatever the database's part refers to."""
    from mlflow_ae5_server.snapshot.dump import DatabasePart

    return list(DatabasePart.from_json(manifest.database).objects())


def verify(
    repository: Repository,
    manifest: Manifest,
    *,
    fraction: float = 1.0,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Verified:
    """Look for every object, and read `fraction` of them, together with the small contents inside shared ones."""
    result = Verified()
    with contextlib.closing(Uses()) as uses:
        try:
            uses.collect(repository, manifest)
        except DamagedError as error:
            result.add("name", manifest.id, error.message)
            uses.add([*database_objects(manifest), *manifest.artifacts.lists])
        uses.present(repository.objects())
        result.of_objects = uses.count()
        for sha256 in uses.missing():
            result.add("object", sha256, "missing")
        _read(repository, uses, result, fraction, progress)
    return result


def _read(
    repository: Repository, uses: Uses, result: Verified, fraction: float, progress: Callable[[int, int], None]
) -> None:
    reader = Reader(repository.place, remembered=0)
    window: deque[tuple[str, Future[tuple[int, str]]]] = deque()

    def receive() -> None:
        sha256, future = window.popleft()
        size, what = future.result()
        result.checked_objects += 1
        result.checked_bytes += size
        if what:
            result.add("object", sha256, what)
        progress(result.checked_objects, result.of_objects)

    with ThreadPoolExecutor(repository.place.threads, "verify") as pool:
        for sha256 in uses.there(fraction):
            window.append((sha256, pool.submit(_check, reader, sha256, uses.slices(sha256))))
            if len(window) > 2 * repository.place.threads:
                receive()
        while window:
            receive()


def _check(reader: Reader, sha256: str, slices: list[tuple[int, int, bytes]]) -> tuple[int, str]:
    """Plain size, and what is wrong."""
    try:
        data = memoryview(reader.get(sha256))
    except DamagedError as error:
        return 0, error.message
    for start, length, digest in slices:
        if hashlib.sha256(data[start : start + length]).digest() != digest:
            return len(data), f"the bytes {start} to {start + length} are not the file that they should be"
    return len(data), ""


def note(repository: Repository, manifest: Manifest, verified: Verified, fraction: float) -> None:
    """Remember the outcome: `list` shows it, `prune` keeps what was proven, the next backup stores the damaged anew.

    That everything was read once and was right stays known when later only a sample is read, and is right as well.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    before = repository.verification(manifest.name)
    in_full = before.get("in_full") if before.get("damaged") == [] else None
    noted = {
        "at": now,
        "in_full": None if verified.found else now if fraction >= 1 else in_full,
        "checked_objects": verified.checked_objects,
        "damaged": verified.damaged,
    }
    repository.note_verification(manifest.name, noted)


def when(repository: Repository, name: str) -> tuple[str, bool] | None:
    """When the snapshot was last verified and found right, and whether ever in full; None where it was not."""
    noted: dict[str, Any] = repository.verification(name)
    if not isinstance(noted.get("at"), str) or noted.get("damaged") != []:
        return None
    return noted["at"], bool(noted.get("in_full"))
