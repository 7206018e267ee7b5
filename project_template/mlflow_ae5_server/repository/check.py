"""`backup verify`: reads the objects of a snapshot again, and says which of them are not what they were."""

from __future__ import annotations

import contextlib
import hashlib
import random
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from mlflow_ae5_server.common.errors import DamagedError
from mlflow_ae5_server.common.text import counted
from mlflow_ae5_server.repository import damage
from mlflow_ae5_server.repository.blobs import BlobReader
from mlflow_ae5_server.repository.entries import FileEntry
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.repository import Repository

MISSING = "missing"
_NAMED = 10_000  # damaged objects that are remembered by name
_TOLD = 100  # damaged objects in a report


@dataclass
class CheckResult:
    """`of_objects` is how many the snapshot has. `damaged` holds {"object" or "name", "what"}, `found` counts them.

    `right_again` are objects that had been found damaged, and are right.
    """

    of_objects: int = 0
    checked_objects: int = 0
    checked_bytes: int = 0
    found: int = 0
    damaged: list[dict[str, str]] = field(default_factory=list)
    right_again: list[str] = field(default_factory=list)

    @property
    def in_full(self) -> bool:
        """Whether everything was read, whatever share was asked for."""
        return self.checked_objects == self.of_objects

    def add(self, kind: str, name: str, what: str) -> None:
        self.found += 1
        if len(self.damaged) < _NAMED:
            self.damaged.append({kind: name, "what": what})


class BlobUses:
    """The objects of a snapshot, and the contents that share one: in a table on disk."""

    def __init__(self) -> None:
        self._last = ""
        self._table = sqlite3.connect("", isolation_level=None)
        self._table.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16000;"
            "CREATE TABLE objects(sha BLOB PRIMARY KEY, size INT) WITHOUT ROWID;"
            "CREATE TABLE slices(object BLOB, start INT, length INT, total INT, sha BLOB); BEGIN"
        )

    def collect(self, repository: Repository, manifest: Manifest) -> None:
        """Raises DamagedError where the list of artifacts cannot be read."""
        self.add([*database_objects(manifest), *manifest.artifacts.lists])
        try:
            for entry in repository.files(manifest):
                self.refer(entry)
                alone = bytes.fromhex(entry.sha256) if len(entry.parts) == 1 else None
                for part in entry.parts if alone is None or entry.parts[0].sha256 != entry.sha256 else ():
                    row = (bytes.fromhex(part.sha256), part.offset, part.length, part.total, alone)
                    self._table.execute("INSERT INTO slices VALUES (?, ?, ?, ?, ?)", row)
        finally:
            self._table.execute("CREATE INDEX IF NOT EXISTS within ON slices(object)")

    def add(self, digests: list[str]) -> None:
        self._table.executemany(
            "INSERT OR IGNORE INTO objects VALUES (?, NULL)", ((bytes.fromhex(sha),) for sha in digests)
        )

    def refer(self, entry: FileEntry) -> None:
        """An entry of the list."""
        for part in entry.parts:
            if part.sha256 != self._last:
                self._last = part.sha256
                self.add([self._last])

    def present(self, sizes: Iterator[tuple[str, int]]) -> None:
        """Note what the place has, by digest and size there."""
        self._table.executemany(
            "UPDATE objects SET size = ? WHERE sha = ?", ((size, bytes.fromhex(sha)) for sha, size in sizes)
        )

    def count(self) -> int:
        return int(self._table.execute("SELECT count(*) FROM objects").fetchone()[0])

    def missing(self) -> list[str]:
        return [row[0].hex() for row in self._table.execute("SELECT sha FROM objects WHERE size IS NULL")]

    def there(self, fraction: float, suspects: Collection[str] = ()) -> Iterator[str]:
        """The objects that are there: all of them, or a random choice, at least one, and the suspects among them."""
        digests = [row[0] for row in self._table.execute("SELECT sha FROM objects WHERE size IS NOT NULL")]
        if fraction < 1 and digests:
            suspected = {bytes.fromhex(sha256) for sha256 in suspects}.intersection(digests)
            chosen = random.SystemRandom().sample(digests, max(1, round(len(digests) * fraction)))
            digests = list(suspected.union(chosen))
        return (digest.hex() for digest in digests)

    def unused(self, items: Iterator[tuple[str, int]]) -> Iterator[tuple[str, int]]:
        """Of (digest, size) those that are not among the objects."""
        for sha256, size in items:
            query = "SELECT 1 FROM objects WHERE sha = ?"
            if self._table.execute(query, (bytes.fromhex(sha256),)).fetchone() is None:
                yield sha256, size

    def slices(self, sha256: str) -> list[tuple[int, int, int, bytes | None]]:
        """Where they begin, their length, the object's, and their digest where they are a whole file."""
        query = "SELECT DISTINCT start, length, total, sha FROM slices WHERE object = ?"
        return self._table.execute(query, (bytes.fromhex(sha256),)).fetchall()

    def close(self) -> None:
        self._table.close()


def database_objects(manifest: Manifest) -> list[str]:
    """Whatever the database's part refers to."""
    from mlflow_ae5_server.database.dialects import DatabasePart

    return list(DatabasePart.from_json(manifest.database).objects())


def verify(
    repository: Repository,
    manifest: Manifest,
    *,
    fraction: float = 1.0,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> CheckResult:
    """Look for every object, and read `fraction` of them, together with the small contents inside shared ones.

    What was found damaged before is read in any case: that it is known as damaged ends when it is right again.
    """
    result = CheckResult()
    before, noted = _damaged(repository.verification(manifest.name)), damage.noted(repository.backend)
    if before.more or noted.everything:
        fraction = 1.0
    unread = ""
    with contextlib.closing(BlobUses()) as uses:
        try:
            uses.collect(repository, manifest)
        except DamagedError as error:
            unread = error.message
            uses.add([*database_objects(manifest), *manifest.artifacts.lists, *before.objects])
        uses.present(repository.objects())
        result.of_objects = uses.count()
        for sha256 in uses.missing():
            result.add("object", sha256, MISSING)
        _read(repository, uses, result, fraction, before.objects | noted.objects, progress)
    lists = set(manifest.artifacts.lists)
    if unread and not any(found.get("object") in lists for found in result.damaged):
        result.add("name", manifest.id, unread)
    return result


class _Before(NamedTuple):
    objects: frozenset[str]
    more: bool  # than are known by name


def _damaged(noted: dict[str, Any]) -> _Before:
    named = noted.get("damaged", [])
    objects = frozenset(found["object"] for found in named if "object" in found)
    return _Before(objects, noted.get("found", 0) > len(named))


def _read(
    repository: Repository,
    uses: BlobUses,
    result: CheckResult,
    fraction: float,
    suspects: frozenset[str],
    progress: Callable[[int, int], None],
) -> None:
    reader = BlobReader(repository.backend, remembered=0)
    window: deque[tuple[str, Future[tuple[int, str]]]] = deque()

    def receive() -> None:
        sha256, future = window.popleft()
        size, what = future.result()
        result.checked_objects += 1
        result.checked_bytes += size
        if what:
            result.add("object", sha256, what)
        elif sha256 in suspects:
            result.right_again.append(sha256)
        progress(result.checked_objects, result.of_objects)

    with ThreadPoolExecutor(repository.backend.threads, "verify") as pool:
        for sha256 in uses.there(fraction, suspects):
            window.append((sha256, pool.submit(_check, reader, repository.shown, sha256, uses.slices(sha256))))
            if len(window) > 2 * repository.backend.threads:
                receive()
        while window:
            receive()


def _check(
    reader: BlobReader, backend: str, sha256: str, slices: list[tuple[int, int, int, bytes | None]]
) -> tuple[int, str]:
    """Plain size, and what is wrong."""
    try:
        data = memoryview(reader.get(sha256))
    except DamagedError as error:
        return 0, error.message.removeprefix(f"the object {sha256} ").removeprefix(f"in {backend} ")
    for start, length, total, digest in slices:
        if total != len(data):
            return len(data), f"it has {len(data)} bytes, and the list says {total}"
        if digest is not None and hashlib.sha256(data[start : start + length]).digest() != digest:
            return len(data), f"the bytes {start} to {start + length} are not the file that they should be"
    return len(data), ""


def fields(manifest: Manifest, verified: CheckResult) -> dict[str, Any]:
    """What a report says of damage that was found, and noted."""
    return {
        "damaged": verified.damaged[:_TOLD],
        "damaged_total": verified.found,
        "error": f"the snapshot {manifest.id} is damaged: {counted(verified.found, 'objects')} missing or wrong",
        "hint": "take another backup: what the server still has is stored anew",
    }


def note(repository: Repository, manifest: Manifest, verified: CheckResult) -> None:
    """Remember the outcome: `list` shows it, `prune` keeps what was proven, the next backup stores the damaged anew.

    That everything was read once and was right stays known when later only a sample is read, and is right as well.
    """
    damage.forget(repository.backend, verified.right_again)
    damage.note(repository.backend, ((item["object"], item["what"]) for item in verified.damaged if "object" in item))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    before = repository.verification(manifest.name)
    in_full = now if verified.in_full else before.get("in_full") if before.get("damaged") == [] else None
    noted = {
        "at": now,
        "right": _right(before) if verified.found else now,
        "in_full": None if verified.found else in_full,
        "checked_objects": verified.checked_objects,
        "of_objects": verified.of_objects,
        "found": verified.found,
        "damaged": verified.damaged,
    }
    repository.note_verification(manifest.name, noted)


@dataclass(frozen=True)
class BlobState:
    """What is known of a snapshot. Times are ISO 8601 UTC. `at`: of the last check. `right`: of the last one that found
    nothing wrong. `in_full`: of the last one that read everything, where none has found anything wrong since.
    `sampled`: the last one, where it read a part and found nothing wrong: {at, checked, of}. `found`: how many
    objects the last one found damaged or missing, without those that were stored anew or seen right since.
    `mended`: there were such."""

    at: str
    right: str | None
    in_full: str | None
    sampled: dict[str, Any] | None
    found: int
    fixed: bool = False


def state(repository: Repository, name: str) -> BlobState | None:
    """None where the snapshot was never verified."""
    noted = repository.verification(name)
    at, named = noted.get("at"), noted.get("damaged")
    if not isinstance(at, str) or not isinstance(named, list):
        return None
    found = noted.get("found")
    then = found if isinstance(found, int) else len(named)
    fixed = _fixed(repository, _damaged(noted)) if then else 0
    in_full = noted.get("in_full") or None
    sampled = None
    if not then and in_full != at:
        sampled = {"at": at, "checked": noted.get("checked_objects"), "of": noted.get("of_objects")}
    return BlobState(at, _right(noted), in_full, sampled, then - fixed, fixed > 0)


def _fixed(repository: Repository, then: _Before) -> int:
    """How many of the objects that were found damaged are not noted as such any more."""
    now = damage.noted(repository.backend)
    return 0 if now.everything else len(then.objects - now.objects)


def _right(noted: dict[str, Any]) -> str | None:
    right = noted.get("right", noted.get("at") if noted.get("damaged") == [] else None)
    return right if isinstance(right, str) else None
