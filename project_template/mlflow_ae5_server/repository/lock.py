"""One writer at a time in a place of snapshots, with nothing but files that can be created once.

The writer is whoever made the file with the highest number in `lease/`, as long as that file is kept fresh. Taking
over means to make the next number, which only one can; whoever finds a higher number than its own has lost the lease.
Ages are told by the clock of the storage alone, so that the clocks of two containers need not agree. A holder on this
very machine that is no longer running is recognised at once.
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

from mlflow_ae5_server.common.errors import BusyError, DamagedError, NoRoomError, ProjectError, StorageError
from mlflow_ae5_server.common.text import shown
from mlflow_ae5_server.repository.backend import INTRUDER, Backend, BackendFile, decoded

_FOLDER = "lease"
_PROBE = "lease/probe-"
_NUMBERED = re.compile(r"lease/([0-9]{1,18})\.json")


@dataclass(frozen=True)
class LockTiming:
    """Seconds: between two signs of life, until a silent holder counts as gone, and for a first look at it."""

    beat: float = 10.0
    stale: float = 90.0
    look: float = 25.0


class RepositoryLock:
    """Held. `check()` before anything that others must not see from a writer that has been taken over."""

    def __init__(self, backend: Backend, number: int, content: dict[str, Any], timing: LockTiming) -> None:
        self.number = number
        self._backend = backend
        self._content = content
        self._lost = threading.Event()
        self._ended = threading.Event()
        self._timing = timing
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises StorageError where somebody else has taken the lease over, or the place is gone."""
        if self._lost.is_set() or not self._is_ours():
            raise StorageError(
                f"another backup or prune has taken over {self._backend.shown}, after this one gave no sign of life",
                "nothing was published by this one; let the other one finish",
            )

    def release(self) -> None:
        self._ended.set()
        self._thread.join(timeout=60)
        with contextlib.suppress(ProjectError):
            if self._is_ours():
                try:
                    self._write(released=True)
                except ProjectError:  # no room for it
                    self._backend.delete([_name(self.number)])

    def _beat(self) -> None:
        while not self._ended.wait(self._timing.beat):
            with contextlib.suppress(ProjectError):  # a passing failure; `check` tells whether it has mattered
                if not self._is_ours():
                    self._lost.set()
                    return
                self._write(released=False)

    def _is_ours(self) -> bool:
        found = _newest(self._backend)
        if found is None or found[0] != self.number:
            return False
        content = _read(self._backend, found[1])
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
    frees: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[RepositoryLock]:
    """Be the only writer in `place`. Raises BusyError where somebody else is.

    `frees`: to make room there, so that what was set aside for that may be used.
    """
    timing = timing or LockTiming()
    found = _newest(backend)
    number = (found[0] if found else 0) + 1
    if found is not None and not _NUMBERED.fullmatch(_name(number)):
        raise DamagedError(f"no number can follow that of {found[1].name} in {backend.shown}", INTRUDER)
    if found is not None and not _is_free(backend, found[1], timing, sleep):
        raise _busy(backend, _read(backend, found[1]))
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
    if not _create(backend, number, _encode({**content, "released": False}), frees=frees):
        raise _busy(backend, _read_number(backend, number))
    lease = RepositoryLock(backend, number, content, timing)
    try:
        lease.check()
        ours = [item.name for item in backend.items(_FOLDER) if _NUMBERED.fullmatch(item.name) or _is_probe(item.name)]
        backend.delete([name for name in ours if name != _name(number)])
        yield lease
    finally:
        lease.release()


def _create(backend: Backend, number: int, data: bytes, *, frees: bool) -> bool:
    """Where there is no room for so little: the number is taken by an empty file, which takes none and keeps nobody
    out, and then the file before it, of a holder that has ended, makes room for this one."""
    try:
        return backend.create(_name(number), data)
    except NoRoomError:
        if not frees:
            raise
    backend.give_room()
    if not backend.create(_name(number), b""):
        return False
    backend.delete([_name(number - 1)])
    backend.write(_name(number), data)
    return True


def _is_free(backend: Backend, item: BackendFile, timing: LockTiming, sleep: Callable[[float], None]) -> bool:
    content = _read(backend, item)
    if content is None:
        return True  # made and never filled: its maker was killed
    if content.get("released") or _has_ended(content):
        return True
    age = _now(backend) - item.modified
    if age > timing.stale:
        return True
    if age >= -5.0:
        return False
    # Written in the future: the storage's clock went back. Only a look at whether it still beats can tell.
    sleep(timing.look)
    return _read(backend, item) == content


def _has_ended(content: dict[str, Any]) -> bool:
    """A process of this machine and boot that is not there any more, or whose number another one has by now."""
    pid = content.get("pid")
    if not _machine() or content.get("machine") != _machine() or not isinstance(pid, int):
        return False
    return _process_start(pid) != content.get("started")


def _machine() -> str:
    """This boot of this machine, and its process namespace: a number means the same process only inside both."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _process_start(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; None where there is none, or only what is left of one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else fields[19]


def _is_probe(name: str) -> bool:
    return re.fullmatch(_PROBE + "[0-9a-f]{8}", name) is not None


def _now(backend: Backend) -> float:
    """The time by the clock of the storage."""
    name = f"{_PROBE}{secrets.token_hex(4)}"
    backend.write(name, b"")  # which takes no room
    try:
        return next((item.modified for item in backend.items(_FOLDER) if item.name == name), 0.0)
    finally:
        backend.delete([name])


def _newest(backend: Backend) -> tuple[int, BackendFile] | None:
    numbers = []
    for item in backend.items(_FOLDER):
        if named := _NUMBERED.fullmatch(item.name):
            numbers.append((int(named[1]), item))
    return max(numbers, key=lambda pair: pair[0], default=None)


def _read(backend: Backend, item: BackendFile) -> dict[str, Any] | None:
    return decoded(backend.read(item.name))


def _read_number(backend: Backend, number: int) -> dict[str, Any] | None:
    return decoded(backend.read(_name(number)))


def _encode(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()


def _name(number: int) -> str:
    return f"{_FOLDER}/{number}.json"


def _busy(backend: Backend, content: dict[str, Any] | None) -> BusyError:
    def noted(field: str, unknown: str) -> str:
        return shown(str((content or {}).get(field, unknown))[:80])

    return BusyError(
        f"another {noted('purpose', 'backup')} is at work on {backend.shown}: on {noted('host', 'another machine')}, "
        f"process {noted('pid', 'unknown')}, since {noted('since', 'just now')}",
        "let it finish; nothing was changed by this one",
    )
