"""Start, find and stop the sandbox's daemon, without loading server code."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from mlflow_ae5_deploy.sandbox.info import ADMIN, VHOST, SandboxError, SandboxInfo

__all__ = [
    "ADMIN",
    "SandboxError",
    "SandboxInfo",
    "accounts",
    "ca_file",
    "database_uri",
    "down",
    "hostname",
    "logs",
    "reset",
    "status",
    "up",
]

_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.02
_MARKS = ("up.lock", "daemon.lock", "state.json")
"""Files that only a sandbox makes."""


def up(
    state_dir: Path,
    *,
    port: int | None = None,
    database: Literal["sqlite", "postgresql"] = "sqlite",
    settings: dict[str, Any] | None = None,
    wait_seconds: float = 30,
) -> SandboxInfo:
    """Start the sandbox, or apply settings and database to the running one.

    Raises SandboxError with the end of its log when it does not come up, and when it runs on another port.
    """
    state_dir = _private(state_dir)
    with _locked(state_dir / "up.lock", wait_seconds):
        running = _answering(state_dir, wait_seconds)
        if running is None:
            return _start(state_dir, port, database, settings or {}, wait_seconds)
        if port is not None and running.hostname.rpartition(":")[2] != str(port):
            raise SandboxError(f"The sandbox is already running on {running.hostname}. Run `sandbox down` first.")
        if settings:
            control_request(running, "PATCH", "/settings", settings)
        if database == "postgresql":
            control_request(running, "POST", "/database", {})
        return running


def status(state_dir: Path) -> SandboxInfo | None:
    """The sandbox running on `state_dir`, or None."""
    ready = Path(state_dir) / "daemon.json"
    if not _alive(Path(state_dir)):
        return None
    try:
        return SandboxInfo.from_json(ready.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def down(state_dir: Path) -> bool:
    """Stop the daemon and its processes; the state stays. False if nothing ran."""
    state_dir = Path(state_dir)
    if not any((state_dir / name).exists() for name in _MARKS):
        return False
    with _locked(state_dir / "up.lock", _STOP_SECONDS):
        stopped = _stop_daemon(state_dir)
        if (state_dir / "processes.json").exists():
            from mlflow_ae5_deploy.sandbox.supervisor.processes import reap_stale

            stopped = bool(reap_stale(state_dir / "processes.json")) or stopped
    return stopped


def reset(state_dir: Path) -> None:
    """Stop the sandbox and delete its state, data and certificate authority."""
    state_dir = Path(state_dir)
    if state_dir.is_dir():
        if any(state_dir.iterdir()) and not any((state_dir / name).exists() for name in _MARKS):
            raise SandboxError(f"{state_dir} is not a sandbox's state folder; nothing was deleted.")
        down(state_dir)
        from mlflow_ae5_deploy.sandbox.postgres import remove_data

        remove_data(state_dir)
        shutil.rmtree(state_dir)


def logs(state_dir: Path, lines: int = 100) -> str:
    """The end of the daemon's log; empty when it has never run."""
    path = Path(state_dir) / "daemon.log"
    if not path.exists():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def hostname(state_dir: Path) -> str | None:
    """The address of the sandbox, also while it is stopped; None if it never ran."""
    if (running := status(state_dir)) is not None:
        return running.hostname
    try:
        state = json.loads((Path(state_dir) / "state.json").read_text(encoding="utf-8"))
        port, vhosts = int(state["port"]), state["addressing"] == "vhost"
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return f"{VHOST if vhosts else 'localhost'}:{port}" if port else None


def ca_file(state_dir: Path) -> Path | None:
    """The certificate of its authority, also while it is stopped; None if it never ran."""
    path = Path(state_dir) / "ca.pem"
    return path if path.is_file() else None


def accounts(state_dir: Path) -> list[str]:
    """The accounts that can sign in and whose password is in the credentials file."""
    try:
        state = json.loads((Path(state_dir) / "state.json").read_text(encoding="utf-8"))
        credentials = json.loads((Path(state_dir) / "credentials.json").read_text(encoding="utf-8"))
        passwords = {**credentials["users"], **credentials["reserved"]}
        return [a["username"] for a in state["accounts"].values() if a["enabled"] and a["username"] in passwords]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def database_uri(state_dir: Path) -> str | None:
    """The URI of the running sandbox's PostgreSQL, password included, or None."""
    path = Path(state_dir) / "database-uri"
    if status(state_dir) is None or not path.exists():
        return None
    return path.read_text(encoding="utf-8")


def _answering(state_dir: Path, wait: float) -> SandboxInfo | None:
    """The running sandbox, once it answers.

    A killed daemon may hold its lock for a moment longer.

    Raises SandboxError when something holds the lock and does not answer.
    """
    deadline = time.monotonic() + wait
    while (running := status(state_dir)) is not None:
        try:
            control_request(running, "GET", "/", timeout=5)
        except SandboxError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return running
    return None


# -- the daemon -----------------------------------------------------------------------------


def _start(state_dir: Path, port: int | None, database: str, settings: dict[str, Any], wait: float) -> SandboxInfo:
    (state_dir / "daemon.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "mlflow_ae5_deploy.sandbox.daemon", "--state-dir", str(state_dir)]
    command += ["--database", database, "--settings", json.dumps(settings)]
    if port is not None:
        command += ["--port", str(port)]
    descriptor = os.open(state_dir / "daemon.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as log:
        daemon = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/", env=_env()
        )
    deadline = time.monotonic() + wait
    while time.monotonic() < deadline:
        running = status(state_dir)
        if running is not None:
            daemon.returncode = 0  # it outlives us: no warning about a child still running
            return running
        if daemon.poll() is not None and not _alive(state_dir):  # else it was started by an interrupted run
            raise SandboxError(_why_not_started(state_dir))
        time.sleep(_POLL_SECONDS)
    daemon.terminate()
    daemon.wait(_STOP_SECONDS)
    raise SandboxError(
        f"Timed out after {wait:g} s waiting for the sandbox. The end of its log:\n{logs(state_dir, 15)}"
    )


def _why_not_started(state_dir: Path) -> str:
    """The error in the last line of its log, or the end of the log."""
    last = logs(state_dir, 1)
    if " ERROR " in last:
        return f"The sandbox did not start: {last.partition(' ERROR ')[2]}"
    return f"The sandbox did not start. The end of its log:\n{logs(state_dir, 15)}"


def _env() -> dict[str, str]:
    """Our environment, with this package on the import path."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def _stop_daemon(state_dir: Path) -> bool:
    if not _alive(state_dir):
        (state_dir / "daemon.json").unlink(missing_ok=True)
        return False
    pid = int((state_dir / "daemon.lock").read_text(encoding="ascii"))
    os.kill(pid, 15)
    deadline = time.monotonic() + _STOP_SECONDS
    while _alive(state_dir):
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            deadline += _STOP_SECONDS
        _collect(pid)
        time.sleep(_POLL_SECONDS)
    _collect(pid)
    (state_dir / "daemon.json").unlink(missing_ok=True)
    return True


def _collect(pid: int) -> None:
    """Collect the daemon if it is a child of this process, else it stays a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _alive(state_dir: Path) -> bool:
    """Whether the daemon holds its lock; unlike a pid, a lock cannot be mistaken."""
    path = state_dir / "daemon.lock"
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


# -- helpers --------------------------------------------------------------------------------


def _private(state_dir: Path) -> Path:
    path = Path(state_dir).resolve()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        raise SandboxError(f"The sandbox cannot use the folder {path}: {error.strerror}.") from error
    return path


@contextlib.contextmanager
def _locked(path: Path, wait: float) -> Iterator[None]:
    """Allow one `up` or `down` at a time. SandboxError after `wait` seconds."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise SandboxError(
                        f"Timed out after {wait:g} s waiting for another `sandbox` command to finish ({path})."
                    ) from error
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def control_request(
    info: SandboxInfo, method: str, path: str, body: dict[str, Any] | None = None, timeout: float = 60
) -> Any:
    """A request to the control plane. Raises SandboxError with its message."""
    token = info.control_token_file.read_text(encoding="utf-8")
    request = urllib.request.Request(  # noqa: S310 - our own https address
        info.control_url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    context = ssl.create_default_context(cafile=str(info.ca_file))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=timeout) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        message = json.load(error).get("error", error.reason)
        raise SandboxError(f"The sandbox rejected the request: {message}") from error
    except OSError as error:
        raise SandboxError(f"The sandbox's control plane is not reachable: {error}") from error
