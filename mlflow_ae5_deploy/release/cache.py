"""The cache of releases: archives, and the SHA-256 of each name's first use.

In the folder stand `NAME`, `NAME.sha256` (as `sha256sum` writes it; it stays when the archive is removed), and while
a download is under way `NAME.part`, `NAME.part.json`, `NAME.lock`. Versions have one name wherever they come from, so
a mirror that serves something else under a known version is noticed.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlflow_ae5_deploy.common.clock import Deadline, poll_until
from mlflow_ae5_deploy.common.errors import ReleaseRefused
from mlflow_ae5_deploy.common.files import private_folder, storage_errors, write_private
from mlflow_ae5_deploy.release.archive import sha256_of
from mlflow_ae5_deploy.release.versions import in_folder

_RECORD = re.compile(r"([0-9a-f]{64})  ")


@dataclass(frozen=True)
class Expectation:
    """Expected checksums."""

    given: str | None  # by the user
    announced: str | None = None  # by the archive's source


class ReleaseCache:
    """The cache folder; with `read_only` nothing in it is created or changed."""

    def __init__(self, cache_dir: Path, *, read_only: bool = False) -> None:
        self.read_only = read_only
        self.folder = cache_dir / "releases"
        if not read_only:
            private_folder(self.folder)
            with storage_errors("restrict the cache to its owner", self.folder):
                self.folder.chmod(0o700)

    def path(self, name: str) -> Path:
        return self.folder / name

    def part(self, name: str) -> Path:
        return self.folder / f"{name}.part"

    def versions(self) -> list[str]:
        return in_folder(self.folder) if self.folder.is_dir() else []

    def recorded(self, name: str) -> str | None:
        try:
            found = _RECORD.match(self._record(name).read_text(encoding="ascii", errors="replace"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.group(1) if found else None

    def intact(self, name: str) -> str | None:
        """SHA-256 of the stored archive if it matches its record; deletes a damaged one."""
        path = self.path(name)
        with storage_errors("read the cache", path):
            recorded = self.recorded(name)
            if not path.is_file():
                return None
            if recorded is None or sha256_of(path) != recorded:
                if not self.read_only:
                    path.unlink()
                return None
            return recorded

    def judge(
        self, name: str, actual: str, expected: Expectation, where: str
    ) -> Literal["given", "recorded", "first-use", "announced", "none"]:
        """Compare a checksum with all expectations, and record it."""
        recorded = self.recorded(name)
        if expected.given is not None:
            self._must_match(actual, expected.given, "the configured one", where)
            self._write_record(name, actual)
            return "given"
        if expected.announced is not None:
            self._must_match(actual, expected.announced, "the one published beside it", where)
        if recorded is not None:
            remedy = (
                "The release was replaced or tampered with. If the new one is genuine, accept it by giving its "
                f"checksum: --sha256 {actual}"
            )
            self._must_match(actual, recorded, "the one recorded on first use", where, remedy)
            return "recorded"
        if self.read_only:
            return "none" if expected.announced is None else "announced"
        self._write_record(name, actual)
        return "first-use"

    @contextmanager
    def locked(self, name: str, deadline: Deadline) -> Iterator[None]:
        """Hold the lock on `name`, waiting until the deadline."""
        if self.read_only:
            yield
            return
        path = self.folder / f"{name}.lock"
        with storage_errors("lock the cache", path):
            file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w")
            os.fchmod(file.fileno(), 0o600)
        with file:
            poll_until(
                lambda: _try_lock(file.fileno()),
                waiting_for=f"another process that fetches {name}",
                deadline=deadline,
            )
            yield

    def _must_match(self, actual: str, expected: str, which: str, where: str, remedy: str = "") -> None:
        if actual != expected:
            raise ReleaseRefused(
                f"The release's SHA-256 is not {which}: expected {expected}, found {actual}. It was discarded.",
                where=where,
                remedy=remedy or "Compare the checksum with the publisher's, and fetch the release again.",
            )

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.sha256"

    def _write_record(self, name: str, digest: str) -> None:
        if not self.read_only:
            write_private(self._record(name), f"{digest}  {name}\n".encode())


def _try_lock(descriptor: int) -> bool | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return True
