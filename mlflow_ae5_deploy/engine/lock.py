"""One run at a time for each installation, on this machine. `lease_claim.py` is for all machines.

The lock is the kernel's (`flock`), so a killed run never leaves it behind; the text of the file names the holder, and
the leases that it may have left on the platform.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_ae5_deploy.common.clock import Clock
from mlflow_ae5_deploy.common.errors import Locked
from mlflow_ae5_deploy.common.files import cannot_write, private_folder
from mlflow_ae5_deploy.engine.journal import operator

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """The run that holds a lock. verb: empty where the file does not name it."""

    verb: str
    text: str


def holder_of(folder: Path) -> Holder | None:
    """Who holds the lock of this installation; None if nobody.

    Trying the lock means to hold it for a moment, so it is tried only while the process named in the file is alive.
    """
    try:
        with (folder / "lock").open("rb") as file:
            text = file.read()
            with contextlib.suppress(PermissionError):  # it is alive, and somebody else's
                os.kill(int(_read(text)["pid"]), 0)
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(text)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no lock yet, no name in it, or no such process
    return None


def nonces_of(folder: Path) -> Sequence[str]:
    """See InstallationLock.nonces, as the last run has left them."""
    try:
        return _nonces((folder / "lock").read_bytes())
    except OSError:
        return ()


def _text(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _read(text: bytes) -> dict[str, Any]:
    """What the file says; empty where it says nothing. A killed run may have left the end of a longer text after it."""
    try:
        found, _ = json.JSONDecoder().raw_decode(text.decode("utf-8", "replace"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _holder(text: bytes) -> Holder:
    found = _read(text)
    try:
        words = f"{found['verb']}, {found['who']}, pid {found['pid']}, since {found['since']}, stage {found['stage']}"
        return Holder(str(found["verb"]), words)
    except KeyError:
        return Holder("", "another run")


def _nonces(text: bytes) -> tuple[str, ...]:
    found = _read(text).get("nonces")
    return tuple(nonce for nonce in found if isinstance(nonce, str)) if isinstance(found, list) else ()


class InstallationLock:
    def __init__(self, folder: Path, clock: Clock, *, verb: str) -> None:
        self._path = folder / "lock"
        self._clock = clock
        self._holder = {"who": operator(), "pid": os.getpid(), "verb": verb}
        self._descriptor: int | None = None
        self._stage = "start"
        self._nonces: tuple[str, ...] = ()

    @property
    def nonces(self) -> Sequence[str]:
        """Of leases that this run, or one before it, may have left on the platform."""
        return self._nonces

    @nonces.setter
    def nonces(self, nonces: Sequence[str]) -> None:
        self._nonces = tuple(nonces)
        self._write()

    @contextlib.contextmanager
    def held(self, wait_seconds: float = 0.0) -> Iterator[InstallationLock]:
        """Hold the lock for the body. Raises Locked after wait_seconds."""
        self._acquire(wait_seconds)
        try:
            yield self
        finally:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
                _log.info("lock released")

    def at_stage(self, name: str) -> None:
        """Write the stage into the file, for a run that waits."""
        self._stage = name
        self._write()

    def _acquire(self, wait_seconds: float) -> None:
        private_folder(self._path.parent)
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise cannot_write(error, self._path) from None
        end = self._clock.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if self._clock.monotonic() >= end:
                    text = _text(descriptor)
                    os.close(descriptor)
                    raise Locked(
                        f"Locked by another run: {_holder(text).text}.",
                        where=str(self._path),
                        remedy="Wait for it to end, or add --lock-wait SECONDS.",
                    ) from None
                _log.info("waiting for the lock: %s", _holder(_text(descriptor)).text)
                self._clock.sleep(0.5)
        self._descriptor = descriptor
        _log.info("lock acquired: %s", self._path)
        self._holder["since"] = self._clock.now().isoformat(timespec="seconds")
        self._nonces = _nonces(_text(descriptor))
        self._write()

    def _write(self) -> None:
        if self._descriptor is None:
            return
        text = json.dumps({**self._holder, "stage": self._stage, "nonces": self._nonces}).encode()
        with contextlib.suppress(OSError):  # the lock is what counts; a lease that is left expires
            os.pwrite(self._descriptor, text, 0)
            os.ftruncate(self._descriptor, len(text))
