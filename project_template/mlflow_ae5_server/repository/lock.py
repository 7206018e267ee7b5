"""One writer at a time, with nothing but files that can be created once.

The writer is the process that created the file with the highest number in `lock/`, as long as it keeps that file fresh.
To take over is to create the next number, which only one process can; a holder that finds a higher number than its own
has lost the lock. Ages are measured by the clock of the storage alone, so the clocks of two containers need not agree.
A holder on this machine whose process has ended is recognised at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow_ae5_server.common.errors import Locked, NoRoom, ProjectError, RepositoryFailed, SnapshotDamaged
from mlflow_ae5_server.common.text import shown
from mlflow_ae5_server.repository.backend import INTRUDER, Backend, BackendFile, decoded

_FOLDER = "lock"
_PROBE = "lock/probe-"
_NUMBERED = re.compile(r"lock/([0-9]{1,18})\.json")
_PROBES = re.compile(_PROBE + "[0-9a-f]{8}")


@dataclass(frozen=True)
class LockTiming:
    """Seconds."""

    heartbeat: float = 10.0
    stale: float = 90.0  # until a silent holder counts as gone
    watch: float = 25.0  # for a sign of life from a holder whose file is dated in the future


class RepositoryLock:
    """A held lock. Call `check()` before a write that must not happen without it."""

    def __init__(self, backend: Backend, number: int, content: dict[str, Any], timing: LockTiming) -> None:
        self.number = number
        self._backend = backend
        self._content = content
        self._lost = threading.Event()
        self._released = threading.Event()
        self._timing = timing
        self._thread = threading.Thread(target=self._heartbeat, name="lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises RepositoryFailed if another process has taken over, or the storage is gone."""
        if self._lost.is_set() or not self._is_ours():
            raise RepositoryFailed(
                f"another backup or prune has taken over {self._backend.shown}, because this one did not respond",
                "let the other one finish; this one has published no snapshot",
            )

    def release(self) -> None:
        self._released.set()
        self._thread.join(timeout=60)
        with contextlib.suppress(ProjectError):
            if self._is_ours():
                try:
                    self._write(released=True)
                except ProjectError:  # no room for it
                    self._backend.delete([_name(self.number)])

    def _heartbeat(self) -> None:
        while not self._released.wait(self._timing.heartbeat):
            with contextlib.suppress(ProjectError):  # it may pass; `check` finds out whether it mattered
                if not self._is_ours():
                    self._lost.set()
                    return
                self._write(released=False)

    def _is_ours(self) -> bool:
        newest = _newest(self._backend)
        if newest is None or newest[0] != self.number:
            return False
        content = decoded(self._backend.read(newest[1].name))
        return content is not None and content.get("token") == self._content["token"]

    def _write(self, *, released: bool) -> None:
        self._content["beats"] += 1
        self._backend.write(_name(self.number), _encode({**self._content, "released": released}))


@contextlib.contextmanager
def hold(
    backend: Backend,
    purpose: str,
    timing: LockTiming | None = None,
    *,
    use_spare: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[RepositoryLock]:
    """Be the only writer in `backend`. Raises Locked where another process is.

    `use_spare`: on a full volume, use the reserved space.
    """
    timing = timing or LockTiming()
    newest = _newest(backend)
    number = (newest[0] if newest else 0) + 1
    if newest is not None:
        if not _NUMBERED.fullmatch(_name(number)):
            raise SnapshotDamaged(f"{newest[1].name} in {backend.shown} has the highest number there can be", INTRUDER)
        if not _is_free(backend, newest[1], timing, sleep):
            raise _busy(backend, newest[1].name)
    content = {
        "token": secrets.token_hex(8),
        "purpose": purpose,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _process_start(os.getpid()),
        "beats": 0,
    }
    if not _create(backend, number, _encode({**content, "released": False}), use_spare=use_spare):
        raise _busy(backend, _name(number))
    lock = RepositoryLock(backend, number, content, timing)
    try:
        lock.check()
        names = (item.name for item in backend.items(_FOLDER))
        old = [name for name in names if _NUMBERED.fullmatch(name) or _PROBES.fullmatch(name)]
        backend.delete([name for name in old if name != _name(number)])
        yield lock
    finally:
        lock.release()


def _create(backend: Backend, number: int, data: bytes, *, use_spare: bool) -> bool:
    """Create the lock file, also on a full volume.

    There an empty file takes the number: it needs no space and locks nobody out. Then the file before it, of a holder
    that has ended, is deleted to make room for the content.
    """
    try:
        return backend.create(_name(number), data)
    except NoRoom:
        if not use_spare:
            raise
    backend.release_space()
    if not backend.create(_name(number), b""):
        return False
    backend.delete([_name(number - 1)])
    backend.write(_name(number), data)
    return True


def _is_free(backend: Backend, item: BackendFile, timing: LockTiming, sleep: Callable[[float], None]) -> bool:
    content = decoded(backend.read(item.name))
    if content is None:
        return True  # created and never filled: its process was killed
    if content.get("released") or _has_ended(content):
        return True
    age = _now(backend) - item.modified
    if age > timing.stale:
        return True
    if age >= -5.0:
        return False
    # Dated in the future: the clock of the storage was set back. Only a second read shows whether the holder lives.
    sleep(timing.watch)
    return decoded(backend.read(item.name)) == content


def _has_ended(content: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    pid = content.get("pid")
    if not _machine() or content.get("machine") != _machine() or not isinstance(pid, int):
        return False
    return _process_start(pid) != content.get("started")


def _machine() -> str:
    """This boot and process namespace: a pid names one process only inside both."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _process_start(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; None if it does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else fields[19]


def _now(backend: Backend) -> float:
    """The time by the clock of the storage."""
    name = f"{_PROBE}{secrets.token_hex(4)}"
    backend.write(name, b"")  # needs no space
    try:
        return next((item.modified for item in backend.items(_FOLDER) if item.name == name), 0.0)
    finally:
        backend.delete([name])


def _newest(backend: Backend) -> tuple[int, BackendFile] | None:
    matches = ((_NUMBERED.fullmatch(item.name), item) for item in backend.items(_FOLDER))
    numbered = ((int(match[1]), item) for match, item in matches if match)
    return max(numbered, key=lambda pair: pair[0], default=None)


def _encode(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()


def _name(number: int) -> str:
    return f"{_FOLDER}/{number}.json"


def _busy(backend: Backend, name: str) -> Locked:
    holder = decoded(backend.read(name)) or {}

    def field(name: str, unknown: str) -> str:
        return shown(str(holder.get(name, unknown))[:80])

    return Locked(
        f"{backend.shown} is locked by another {field('purpose', 'backup')}: {field('host', 'another machine')}, "
        f"pid {field('pid', 'unknown')}, since {field('since', 'just now')}",
        "wait until it has finished; this one has changed nothing",
    )
