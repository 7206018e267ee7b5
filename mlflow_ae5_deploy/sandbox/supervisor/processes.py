"""Start commands under the launcher, and end those that a killed sandbox left."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import psutil

from mlflow_ae5_deploy.sandbox.store import write_private

LAUNCHER = Path(__file__).with_name("launcher.py")
_SLACK_SECONDS = 3.0
_LOG_BYTES = 1 << 20


class ProcessTable:
    """The running launchers, mirrored in a file as pid -> start time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._recorded: dict[str, float] = {}

    def add(self, pid: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self._recorded[str(pid)] = psutil.Process(pid).create_time()
            self._write()

    def remove(self, pid: int) -> None:
        if self._recorded.pop(str(pid), None) is not None:
            self._write()

    def _write(self) -> None:
        write_private(self._path, json.dumps(self._recorded))


def reap_stale(path: Path) -> list[int]:
    """Kill the process groups that an earlier sandbox recorded; returns their pids."""
    if not path.exists():
        return []
    try:
        recorded: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        recorded = {}
    killed = []
    for text, created in recorded.items():
        pid = int(text)
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if abs(psutil.Process(pid).create_time() - created) < 0.1:
                descendants = psutil.Process(pid).children(recursive=True)
                os.killpg(pid, signal.SIGKILL)
                for process in descendants:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
                killed.append(pid)
    path.unlink(missing_ok=True)
    return killed


class Supervised:
    """One running command with its launcher. Make it with `start`."""

    def __init__(self, process: asyncio.subprocess.Process, table: ProcessTable, grace: float) -> None:
        self._process = process
        self._table = table
        self._grace = grace

    @classmethod
    async def start(
        cls,
        command: list[str],
        *,
        table: ProcessTable,
        log: Path,
        cwd: Path,
        env: dict[str, str],
        grace: float,
        options: tuple[str, ...] = (),
    ) -> Supervised:
        with open_log(log) as output:
            starting = asyncio.ensure_future(
                asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", str(LAUNCHER), f"grace={grace}", *options, "--", *command),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    cwd=cwd,
                    env=env,
                    start_new_session=True,
                )
            )
            try:
                process = await asyncio.shield(starting)
            except asyncio.CancelledError:
                # A half-started process cannot be cancelled: let it start, then stop it.
                await cls(await starting, table, grace).stop()
                raise
        table.add(process.pid)
        return cls(process, table, grace)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    async def wait(self) -> int:
        code = await self._process.wait()
        if code < 0:
            # The launcher itself was killed and could not clean up.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._table.remove(self.pid)
        return code

    async def stop(self) -> None:
        """Ask the launcher to end the command, and kill the group if it does not answer."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), self._grace + _SLACK_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            await self._process.wait()
        self._table.remove(self.pid)


@functools.cache
def can_mount_secrets(scratch: Path) -> bool:
    """Whether commands can have a mount namespace here. Blocking, and tried once: that does not change meanwhile."""
    command = (sys.executable, "-I", "-S", str(LAUNCHER), "grace=0", f"secrets={scratch}", "--", "true")
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet) as trial:
        return trial.wait() == 0


def open_log(path: Path) -> BinaryIO:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb")


def read_log(path: Path) -> str:
    """The file, or its first lines and its last MiB."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        size = path.stat().st_size
        if size <= _LOG_BYTES:
            return file.read().decode("utf-8", "replace")
        head = b"".join(file.readlines(4096))
        file.seek(max(len(head), size - _LOG_BYTES))
        return (head + b"[...]\n" + file.read()).decode("utf-8", "replace")


def append_line(path: Path, line: str) -> None:
    with open_log(path) as file:
        file.write(line.encode("utf-8", "replace") + b"\n")
