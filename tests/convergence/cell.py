"""One sandbox and one operator's folder, put back to a prepared state before each point; verbs as real processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from mlflow_ae5_deploy.config.state_dir import installation_dir
from mlflow_ae5_deploy.engine.lease import PREFIX as LEASE
from mlflow_ae5_deploy.sandbox.control_plane.control import Call, Control
from mlflow_ae5_deploy.sandbox.daemon import LOCK_FILE, READY_FILE
from mlflow_ae5_deploy.sandbox.info import SandboxError
from mlflow_ae5_deploy.sandbox.sandbox import Sandbox
from mlflow_ae5_deploy.sandbox.store import write_private
from tests.cli.bench import ROOT, SIGNING, Outcome
from tests.cli.snapshotting import make_snapshotting_release
from tests.convergence import child
from tests.convergence.release import make_tiny_release

ACCOUNT = "mlflow-service"
CONSUMER = "dev-user"
PROJECT = "mlflow.tracking.server"
LONGEST = 90.0  # seconds that a verb may take before a test calls it hung
# Short waits, so that hundreds of points fit into minutes. What they shorten is waited for in vain here.
CONFIGURATION = """\
platform:
  lost_answer_deadline: 0.3
  deployment_deadline: 30
"""
WITH_CONSUMER = f"{CONFIGURATION}consumers:\n  - username: {CONSUMER}\n"
SETTINGS = {"stop_grace_seconds": 3, "restart_backoff_seconds": 0.1, "clock": "still"}

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([child.__name__])


# Asking for one child's end also collects the ends of others, which goes wrong in two threads at once.
_CHILDREN = threading.Lock()


@dataclass
class Running:
    """A verb running, as a process of its own."""

    process: BaseProcess
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def ended(self) -> bool:
        return self._ends_within(0)

    def kill(self) -> None:
        """SIGKILL: no `finally` of it runs."""
        os.kill(self.pid, signal.SIGKILL)
        self._ends_within(LONGEST)

    def holds_open(self, path: Path) -> bool:
        try:
            return str(path) in [os.readlink(link) for link in Path(f"/proc/{self.pid}/fd").iterdir()]  # noqa: PTH115
        except FileNotFoundError:
            return False  # a descriptor that was closed while we looked

    def _ends_within(self, seconds: float) -> bool:
        return bool(connection.wait([self.process.sentinel], seconds))

    def outcome(self) -> Outcome:
        hung = not self._ends_within(LONGEST)
        if hung:
            self.kill()
        with _CHILDREN:
            code = self.process.exitcode
            self.process.close()
        out, err = self.out.read_text(), self.err.read_text()
        assert not hung, f"still running after {LONGEST:g} s\n{out}\n{err}"
        assert code is not None
        return Outcome(code, out, err)


class Cell:
    """The sandbox is where `--sandbox` looks for it, and runs in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "work" / "state"
        self.sandbox = self.state / "sandbox"
        self.server: Sandbox | None = None
        self._lock: int | None = None
        self._runs = 0
        self._kept: list[str] = []
        (folder / "home").mkdir()
        (folder / "output").mkdir()
        self._lay_out()
        self.releases = {
            "release": str(make_tiny_release(folder / "release.tar.gz")),
            "plain": str(make_tiny_release(folder / "plain.tar.gz", rehearses=False)),
            "first": str(make_snapshotting_release(folder / "first.tar.gz")),
            "second": str(make_snapshotting_release(folder / "second.tar.gz", schema="schema-2", version="3.18.0")),
        }

    @property
    def control(self) -> Control:
        assert self.server is not None
        return self.server.control

    # the sandbox ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """What the daemon does, in this process: hold the lock, serve, say where."""
        self._lock = os.open(self.sandbox / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # a process that another cell is just starting may still share it
        server = Sandbox(self.sandbox, SETTINGS)
        try:
            write_private(self.sandbox / READY_FILE, server.start().to_json())
        except SandboxError:
            self.stop()
            raise
        self.server = server

    def stop(self) -> None:
        if self.server is not None:
            self.server.control.clear()  # what is held would hold up the stop
            self.server.stop()
            self.server = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def keep(self, name: str) -> None:
        """Remember how everything is, platform and operator's folder, under this name."""
        self.stop()
        shutil.copytree(self.folder / "work", self.folder / name, symlinks=True)
        self._kept.append(name)
        self.start()

    def restore(self, name: str) -> None:
        self.stop()
        shutil.rmtree(self.folder / "work")
        shutil.copytree(self.folder / name, self.folder / "work", symlinks=True)
        self.start()

    def reset(self) -> None:
        """Nothing is remembered. While a remembered ground is not in use, another sandbox may take a port of it."""
        self.stop()
        for name in ["work", *self._kept]:
            shutil.rmtree(self.folder / name)
        self._kept.clear()
        self._lay_out()
        self.start()

    def _lay_out(self) -> None:
        self.sandbox.mkdir(parents=True, mode=0o700)
        (self.folder / "work" / "mlflow-ae5-deploy.yaml").write_text(CONFIGURATION)

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def records(self) -> dict[str, Any]:
        """The platform's own books."""
        found: dict[str, Any] = json.loads((self.sandbox / "state.json").read_text())
        return found

    def mounted(self, account: str) -> dict[str, str]:
        """The secrets as a deployment or a job of the account finds them."""
        folder = self.sandbox / "secrets" / account
        return {path.name: path.read_text() for path in folder.iterdir()} if folder.exists() else {}

    @property
    def state_folder(self) -> Path:
        """Journal, state and lock of the installation."""
        assert self.server is not None
        return installation_dir(self.state, self.server.info.hostname, ACCOUNT, PROJECT)

    # verbs ------------------------------------------------------------------------------------------------------

    def spawn(self, *argv: str, machine: str = "") -> Running:
        """machine: another one than the operator's, with a state folder and a user of its own."""
        self._runs += 1
        out, err = (self.folder / "output" / f"{self._runs}.{kind}" for kind in ("out", "err"))
        words = [word.format(**self.releases) for word in argv]
        arguments = (words, self.folder / "work", self._environment(machine), out, err)
        process = _FORKS.Process(target=child.run, args=arguments)
        with _CHILDREN:
            self._start_forking()
            process.start()
        return Running(process, out, err)

    def _environment(self, machine: str = "") -> dict[str, str]:
        state = self.state
        if machine:
            state = self.folder / "work" / machine
            state.mkdir(mode=0o700, exist_ok=True)
            if not (state / "sandbox").exists():
                (state / "sandbox").symlink_to(self.sandbox)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "home"),
            "MLFLOW_AE5_DEPLOY_STATE": str(state),
            **({"LOGNAME": machine} if machine else {}),
            "AE5_TOOLS_CONFIG_DIR": str(self.folder / "home"),
            "TERM": "dumb",
        }

    def _start_forking(self) -> None:
        """Once in a test process. The fork server finds its modules and its warm-up in the environment only."""
        argv = ["plan", "--sandbox", "--release", self.releases["release"]]
        found = {
            "PYTHONPATH": str(ROOT),
            child.WARM_UP: json.dumps([argv, str(self.folder / "work"), self._environment()]),
        }
        before = {name: os.environ.get(name) for name in found}
        os.environ.update(found)
        try:
            forkserver.ensure_running()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def run(self, *argv: str, machine: str = "") -> Outcome:
        return self.spawn(*argv, machine=machine).outcome()

    def counted(self, *argv: str) -> tuple[Outcome, list[str]]:
        """A run, and the changes it asked the platform for."""
        self.control.clear_calls()
        outcome = self.run(*argv)
        return outcome, [f"{call.method} {call.path}" for call in self.control.calls("platform") if is_change(call)]

    def until(self, probe: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LONGEST
        while not probe():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.005)


def is_change(call: Call) -> bool:
    if call.method in ("GET", "HEAD") or call.path.endswith("/impersonation") or call.secret.startswith(LEASE):
        return False
    if call.status == 401 or call.status // 100 == 3:  # the session had ended: the secret's name was not read
        return False
    return not call.path.startswith(SIGNING) or "/users" in call.path


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Cell]:
    folder.mkdir(parents=True)
    cell = Cell(folder)
    cell.start()
    try:
        yield cell
    finally:
        cell.stop()
