"""Run this project's TrackingServer on a temporary database and folder.

It listens on a free port of loopback, receives no variable, secret or project file of the real server, and the kernel
ends it when the drill ends, however that happens.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow_ae5_server.common import keys
from mlflow_ae5_server.common.errors import Unreachable
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.drill.api import MlflowApi

START = 180.0  # seconds; a cold start on a small container takes about 15
# A database with workspaces or rollups needs them.
_FEATURES = ("MLFLOW_ENABLE_WORKSPACES", "MLFLOW_SQL_TRACE_ROLLUPS_ENABLED")
_STOP = 30.0  # seconds until it is killed
# The kernel chooses the port, and the server logs it.
_LISTENS = re.compile(rb"^serving on \S+:(?P<port>\d+) ", re.M)
# The child asks the kernel to end it with its parent before it does anything else.
_PROGRAM = (
    "import sys; from mlflow_ae5_server import cli; from mlflow_ae5_server.server import prefork; "
    "prefork.die_with(int(sys.argv.pop(1))); sys.exit(cli.main(sys.argv[1:]))"
)
_ARGUMENTS = ("tracking-server", "--anaconda-project-address", "127.0.0.1", "--anaconda-project-port", "0")


@dataclass(frozen=True)
class TemporaryServer:
    """What the server of a drill runs on."""

    folder: Path  # its working folder and home
    store: Database
    artifacts: Path


@contextlib.contextmanager
def serving(temporary: TemporaryServer, seconds: float = START) -> Iterator[MlflowApi]:
    """Start a server and wait until it reaches its database. Raises Unreachable."""
    log = temporary.folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(os.getpid()), *_ARGUMENTS],
            cwd=temporary.folder,
            env=environment(temporary, os.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        with contextlib.closing(MlflowApi(_wait(process, log, seconds))) as api:
            yield api
    finally:
        _end(process)


def environment(temporary: TemporaryServer, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the server of a drill: nothing in it leads to the real data."""
    ours = {
        name: value
        for name, value in environ.items()
        if not name.startswith(("MLFLOW_", "_MLFLOW_", "AWS_", "AZURE_", "GOOGLE_", "ANACONDA_"))
        and name not in {"PROJECT_DIR", "APP_SOURCE"}
    }
    secrets = temporary.folder / "no-secrets"
    secrets.mkdir(mode=0o700, exist_ok=True)
    tmp = temporary.folder / "tmp"
    tmp.mkdir(mode=0o700, exist_ok=True)
    package = str(Path(__file__).resolve().parents[2])
    return {
        **ours,
        "HOME": str(temporary.folder),
        "TMPDIR": str(tmp),
        "PYTHONPATH": os.pathsep.join(part for part in (package, ours.get("PYTHONPATH", "")) if part),
        **{name: environ[name] for name in (*keys.NAMES, keys.VERSION, *_FEATURES) if environ.get(name)},
        "MLFLOW_AE5_SECRETS_DIR": str(secrets),
        "MLFLOW_BACKEND_STORE_URI": temporary.store.uri,
        "MLFLOW_REGISTRY_STORE_URI": temporary.store.uri,
        "MLFLOW_ARTIFACTS_DESTINATION": str(temporary.artifacts),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "MLFLOW_WORKERS": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_JOB_ENABLE_PERIODIC_TASKS": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _wait(process: subprocess.Popen[bytes], log: Path, seconds: float) -> str:
    """The server's address, once it reaches its database."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Unreachable(f"the temporary server exited with code {process.returncode}: {_tail(log)}")
        if found := _LISTENS.search(log.read_bytes()):
            uri = f"http://127.0.0.1:{int(found['port'])}"
            with contextlib.closing(MlflowApi(uri)) as api:
                if api.is_ready():
                    return uri
        time.sleep(0.1)
    raise Unreachable(f"the temporary server did not answer within {seconds:g} s: {_tail(log)}")


def _tail(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return scrub(" | ".join(lines[-3:]))[-600:]


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(_STOP)
    except subprocess.TimeoutExpired:
        process.kill()  # its workers end with it
        process.wait()
