"""MLflow's job runner, a process that runs as long as the server."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


def prepare(store_uri: str, artifact_root: str, port: int) -> dict[str, str]:
    """The runner's environment (mlflow.server._run_server, 3.17.2).

    Raises where MLflow's jobs cannot run.
    """
    from mlflow.server.constants import HUEY_STORAGE_PATH_ENV_VAR
    from mlflow.server.jobs.executor_registry import validate_executor_config
    from mlflow.server.jobs.utils import _check_requirements, get_job_execution_engine

    _check_requirements(store_uri)
    validate_executor_config()
    get_job_execution_engine()
    memory = Path("/dev/shm")  # noqa: S108 - a queue in memory, in a folder of our own
    os.environ[HUEY_STORAGE_PATH_ENV_VAR] = tempfile.mkdtemp(dir=memory if memory.is_dir() else None)
    server = f"http://127.0.0.1:{port}"
    return {
        "MLFLOW_BACKEND_STORE_URI": store_uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": artifact_root,
        "MLFLOW_TRACKING_URI": server,
        **({} if "MLFLOW_GATEWAY_URI" in os.environ else {"MLFLOW_GATEWAY_URI": server}),
    }


@contextlib.contextmanager
def running(environment: dict[str, str] | None) -> Iterator[None]:
    """Run MLflow's job runner with this environment; none for None.

    The runner and its children write to the file descriptors that they inherit, past our filter; so they inherit a pipe
    into a filter process instead.
    """
    if environment is None:
        yield
        return
    from mlflow.server.jobs import utils

    command = [sys.executable, "-m", "mlflow_ae5_server.common.redact_pipe"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as filtering:
        if filtering.stdin is None:
            raise AssertionError("a pipe was requested")
        originals = os.dup(1), os.dup(2)
        try:
            for number in (1, 2):
                os.dup2(filtering.stdin.fileno(), number)
            runner = utils._launch_job_execution_runner(environment, os.getpid())  # type: ignore[no-untyped-call]
        finally:
            for number, original in zip((1, 2), originals, strict=True):
                os.dup2(original, number)
                os.close(original)
            filtering.stdin.close()
        try:
            yield
        finally:
            runner.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                runner.wait(timeout=10)
